/** All faults, in the order of the report. */
import type { Fault } from "./Fault.ts"
import { replicaFaults } from "./replicaFaults.ts"
import { serverFaults } from "./serverFaults.ts"

export const faults: ReadonlyArray<Fault> = [...replicaFaults, ...serverFaults]

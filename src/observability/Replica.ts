/** Who this process is among the replicas, for the ledger and the logs. */
import { Context } from "effect"
import { hostname } from "node:os"

/** Host and process id: unique among the replicas of a moment, and something an operator can find. */
export const Replica = Context.Reference<string>("kickoff/observability/Replica", {
  defaultValue: () => `${hostname()}:${process.pid}`
})

/** What `pause` and `resume` load when they run: the use cases on the database of `DATABASE_URL`, and their form as JSON. */
import { Effect, Schema } from "effect"
import { Caller } from "../domain/Caller.ts"
import { Pauses } from "../operations/Pauses.ts"
import { PauseBody } from "../http/api/PausesApi.ts"
import { withWritableDatabase } from "./connection.ts"
import { operator } from "./operator.ts"

export { Pauses } from "../operations/Pauses.ts"

/** Runs an effect on the pauses of the database of the settings. */
export const withPauses = <A, E>(effect: Effect.Effect<A, E, Pauses | Caller>) =>
  effect.pipe(Effect.provideServiceEffect(Caller, operator), Effect.provide(Pauses.layer), withWritableDatabase)

export const encodePause = Schema.encodeEffect(PauseBody)

/** What `kickoff shadow` loads when it runs: the beginning, the end and the report, on the database of `DATABASE_URL`. */
import { Effect, Layer } from "effect"
import { ShadowReportRepository } from "../shadow/ShadowReportRepository.ts"
import { ShadowRunRepository } from "../shadow/ShadowRunRepository.ts"
import { withDatabase } from "./connection.ts"

export { ShadowReportRepository } from "../shadow/ShadowReportRepository.ts"
export { ShadowRunRepository } from "../shadow/ShadowRunRepository.ts"

/** Runs an effect on the shadow of the database of the settings. */
export const withShadow = <A, E>(effect: Effect.Effect<A, E, ShadowReportRepository | ShadowRunRepository>) =>
  effect.pipe(Effect.provide(Layer.merge(ShadowReportRepository.layer, ShadowRunRepository.layer)), withDatabase)

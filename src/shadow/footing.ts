/**
 * What a process stands on instead, when it is a shadow: schedules whose rows are only decided, nobody to tell of commits,
 * and no measures of a backlog that another system works off.
 */
import { Effect, Layer } from "effect"
import type { SqlClient } from "effect/sql"
import { DatabaseMetricsRepository } from "../operations/DatabaseMetricsRepository.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"

export { shadowParts as sessions } from "../postgres/sessionName.ts"
export { notifications, statusTransitions } from "./ShadowScheduleRepository.ts"

export const signal = OutboxSignal.layerMemory

/** What is overdue is the other system's, so no alert of ours may speak of it. */
export const databaseMetrics: Layer.Layer<DatabaseMetricsRepository, never, SqlClient.SqlClient> = Layer.effect(
  DatabaseMetricsRepository,
  Effect.map(DatabaseMetricsRepository, (repository) =>
    DatabaseMetricsRepository.of({ ...repository, listBacklogs: () => Effect.succeed([]) })
  )
).pipe(Layer.provide(DatabaseMetricsRepository.layer))

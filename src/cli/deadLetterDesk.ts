/**
 * What `dead-letters` loads when it runs: the use cases on the database of `DATABASE_URL`, and their form as JSON.
 *
 * The relay is another process, so it is told once more at the end: a hint that was under way may be lost with ours.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Schema } from "effect"
import { SqlError } from "effect/sql"
import { DeadLetters } from "../deadLetters/DeadLetters.ts"
import { CreationCursor } from "../http/api/cursor.ts"
import { DeadLetterBody, DeadLetterListBody } from "../http/api/DeadLettersApi.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import { channels } from "../postgres/channels.ts"
import { describeSqlError } from "../postgres/Database.ts"
import { withDatabase } from "./connection.ts"

export { DeadLetters } from "../deadLetters/DeadLetters.ts"

/** The database did not do what it was asked. */
export class DatabaseFailed extends Schema.TaggedError<DatabaseFailed>()("DatabaseFailed", { detail: Schema.String }) {
  override get message() {
    return `the database refused: ${this.detail}`
  }
}

/** Runs an effect on the dead letters of the database of the settings. */
export const withDeadLetters = <A, E>(effect: Effect.Effect<A, E, DeadLetters>) =>
  Effect.gen(function* () {
    const pg = yield* PgClient.PgClient
    const signal = yield* OutboxSignal
    yield* Effect.forkScoped(signal.run)
    return yield* Effect.ensuring(effect, Effect.ignore(pg.notify(channels.outbox, "")))
  }).pipe(
    Effect.scoped,
    Effect.provide(DeadLetters.layer.pipe(Layer.provideMerge(OutboxSignal.layer))),
    withDatabase,
    Effect.mapError((error) =>
      SqlError.isSqlError(error) ? new DatabaseFailed({ detail: describeSqlError(error) }) : error
    )
  )

export const decodeCursor = Schema.decodeUnknownEffect(CreationCursor)
export const encodeCursor = Schema.encodeEffect(CreationCursor)
export const encodeLetter = Schema.encodeEffect(DeadLetterBody)
export const encodeList = Schema.encodeEffect(DeadLetterListBody)

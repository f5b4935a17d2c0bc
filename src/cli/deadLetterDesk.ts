/**
 * What `dead-letters` loads when it runs: the use cases on the database of `DATABASE_URL`, and their form as JSON.
 *
 * The relay is another process, so it is told once more at the end: a hint that was under way may be lost with ours.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Schema } from "effect"
import { SqlError } from "effect/sql"
import { userInfo } from "node:os"
import { DeadLetters } from "../deadLetters/DeadLetters.ts"
import { Caller } from "../domain/Caller.ts"
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

/** The person at the keyboard, who deals with every guild. */
const operator = Effect.try({ try: () => userInfo().username, catch: () => undefined }).pipe(
  // A container may run under a number that has no name.
  Effect.orElseSucceed(() => `uid ${process.getuid?.() ?? "unknown"}`),
  Effect.map((name) => Caller.of({ name, guilds: "every" }))
)

/** Runs an effect on the dead letters of the database of the settings. */
export const withDeadLetters = <A, E>(effect: Effect.Effect<A, E, DeadLetters | Caller>) =>
  Effect.gen(function* () {
    const pg = yield* PgClient.PgClient
    const signal = yield* OutboxSignal
    yield* Effect.forkScoped(signal.run)
    return yield* Effect.ensuring(effect, Effect.ignore(pg.notify(channels.outbox, "")))
  }).pipe(
    Effect.scoped,
    Effect.provideServiceEffect(Caller, operator),
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

/**
 * What `dead-letters` loads when it runs: the use cases on the database of `DATABASE_URL`, and their form as JSON.
 *
 * The relay is another process, so it is told once more at the end: a hint that was under way may be lost with ours.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Schema } from "effect"
import { DeadLetters } from "../deadLetters/DeadLetters.ts"
import { Caller } from "../domain/Caller.ts"
import { CreationCursor } from "../http/api/cursor.ts"
import { DeadLetterBody, DeadLetterListBody } from "../http/api/DeadLettersApi.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import { channels } from "../postgres/channels.ts"
import { withDatabase, withWritableDatabase } from "./connection.ts"
import { operator } from "./operator.ts"

export { DeadLetters } from "../deadLetters/DeadLetters.ts"

const onDeadLetters = <A, E>(effect: Effect.Effect<A, E, DeadLetters | Caller>) =>
  Effect.gen(function* () {
    const pg = yield* PgClient.PgClient
    const signal = yield* OutboxSignal
    yield* Effect.forkScoped(signal.run)
    return yield* Effect.ensuring(effect, Effect.ignore(pg.notify(channels.outbox, "")))
  }).pipe(
    Effect.scoped,
    Effect.provideServiceEffect(Caller, operator),
    Effect.provide(DeadLetters.layer.pipe(Layer.provideMerge(OutboxSignal.layer)))
  )

/** Runs an effect that only looks at the dead letters of the database of the settings. */
export const withDeadLetters = <A, E>(effect: Effect.Effect<A, E, DeadLetters | Caller>) =>
  withDatabase(onDeadLetters(effect))

/** Runs an effect that settles some of them. */
export const settling = <A, E>(effect: Effect.Effect<A, E, DeadLetters | Caller>) =>
  withWritableDatabase(onDeadLetters(effect))

export const decodeCursor = Schema.decodeUnknownEffect(CreationCursor)
export const encodeCursor = Schema.encodeEffect(CreationCursor)
export const encodeLetter = Schema.encodeEffect(DeadLetterBody)
export const encodeList = Schema.encodeEffect(DeadLetterListBody)

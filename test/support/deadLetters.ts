/** Rows and events that are given up as the engine and the relay give them up, and the letters that tell of it. */
import { Effect, Option } from "effect"
import { SqlClient } from "effect/sql"
import { DeadLetterId } from "../../src/domain/DeadLetter.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { insertReminder, insertTransition } from "./games.ts"

const failure = { error: "ConstraintError", message: "this cannot be" }

/** The id of the only open letter about a source. */
export const openLetter = (sourceId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly id: string }>`
      SELECT id FROM dead_letters WHERE source_id = ${sourceId}::uuid AND resolved_at IS NULL`
    if (rows.length !== 1) return yield* Effect.die(new Error(`${rows.length} open letters about ${sourceId}`))
    return DeadLetterId.make(rows[0]?.id ?? "")
  })

/** Plans a transition that was due, gives it up, and returns its id and its letter's. */
export const parkTransition = Effect.fnUntraced(function* (gameId: string, target: string, dueInMs = -1000) {
  const sql = yield* SqlClient.SqlClient
  const repository = yield* StatusTransitionRepository
  const id = yield* insertTransition(gameId, target, dueInMs)
  const [row] = yield* sql<{ readonly due: string }>`
    SELECT transition_time::text AS due FROM game_status_schedule WHERE id = ${id}`
  const failed = yield* repository.recordFailure({ id, due: row?.due ?? "" }, failure, 1)
  if (Option.isNone(failed) || !failed.value.parked) return yield* Effect.die(new Error("not parked"))
  return { id, letter: yield* openLetter(id) }
})

/** The same for a reminder. */
export const parkReminder = Effect.fnUntraced(function* (gameId: string, minutes = 15, dueInMs = -1000) {
  const sql = yield* SqlClient.SqlClient
  const repository = yield* NotificationRepository
  const id = yield* insertReminder(gameId, minutes, dueInMs)
  const [row] = yield* sql<{ readonly due: string }>`
    SELECT notification_time::text AS due FROM notification_schedule WHERE id = ${id}`
  const failed = yield* repository.recordFailure({ id, due: row?.due ?? "" }, failure, 1)
  if (Option.isNone(failed) || !failed.value.parked) return yield* Effect.die(new Error("not parked"))
  return { id, letter: yield* openLetter(id) }
})

/** Gives up the first event of a game that waits in the outbox. */
export const parkEvent = Effect.fnUntraced(function* (gameId: string) {
  const repository = yield* OutboxRepository
  const event = (yield* repository.list(1000)).find(({ game_id }) => game_id === gameId)
  if (event === undefined) return yield* Effect.die(new Error(`no event of ${gameId}`))
  const refused = yield* repository.recordFailure(event, { error: "PublishError", message: "refused" }, 1)
  if (!refused.parked) return yield* Effect.die(new Error("not parked"))
  return { event, letter: yield* openLetter(event.event_id) }
})

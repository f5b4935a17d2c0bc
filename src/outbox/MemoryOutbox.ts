/** An outbox in memory, by this process's clock: the twin of the table for tests of the relay, under the same contract. */
import { Clock, Context, Duration, Effect, Layer, Option } from "effect"
import type { GameEventType } from "../domain/GameEvent.ts"
import { pauseAfter } from "../domain/RetryPolicy.ts"
import { OutboxRepository, type WaitingEvent } from "./OutboxRepository.ts"

interface MemoryEvent extends WaitingEvent {
  attempts: number
  /** When it is tried again, by this process's clock, ms. */
  retryAt: number | undefined
}

/** The other end of {@link MemoryOutbox.layer}: events in, and what was given up out. */
export class MemoryOutbox extends Context.Service<
  MemoryOutbox,
  {
    /** Adds an event and returns its `event_id`. */
    readonly append: (gameId: string, type: GameEventType) => Effect.Effect<string>
    /** The `event_id`s that wait, in order. */
    readonly waiting: Effect.Effect<ReadonlyArray<string>>
    /** The `event_id`s that were given up, with their attempts. */
    readonly deadLetters: Effect.Effect<ReadonlyArray<readonly [string, number]>>
  }
>()("kickoff/outbox/MemoryOutbox") {
  static readonly layer: Layer.Layer<MemoryOutbox | OutboxRepository> = Layer.effectContext(
    Effect.sync(() => {
      const events = new Map<string, MemoryEvent>()
      const deadLetters: Array<readonly [string, number]> = []
      let lastId = 0

      const rests = (event: MemoryEvent, now: number) => event.retryAt !== undefined && event.retryAt > now

      const repository = OutboxRepository.of({
        list: (limit, exceptGames = []) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            const resting = new Set<string>()
            const listed: Array<WaitingEvent> = []
            for (const event of events.values()) {
              if (rests(event, now)) resting.add(event.game_id)
              else if (!resting.has(event.game_id) && !exceptGames.includes(event.game_id)) listed.push(event)
            }
            return listed.slice(0, limit)
          }),
        listLatest: (limit, exceptGames = []) =>
          Effect.sync(() => {
            const all = [...events.values()]
            const first = new Set([...Map.groupBy(all, (event) => event.game_id).values()].map(([event]) => event))
            return all
              .filter((event) => event.retryAt === undefined && !exceptGames.includes(event.game_id))
              .toReversed()
              .slice(0, limit)
              .filter((event) => first.has(event))
          }),
        look: Effect.map(Clock.currentTimeMillis, (now) => {
          const retries = [...events.values()].flatMap((event) => (event.retryAt === undefined ? [] : [event.retryAt]))
          return {
            waiting: events.size > 0,
            retry: retries.length === 0 ? Option.none() : Option.some(Duration.millis(Math.min(...retries) - now))
          }
        }),
        firstWaiting: Effect.succeed(["", []]),
        startOver: Effect.void,
        remove: (ids) => Effect.sync(() => ids.filter((id) => events.delete(id)).length),
        recordFailure: ({ id }, _failure, maxAttempts) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            const event = events.get(id)
            if (event === undefined) return { attempts: 0, parked: false }
            event.attempts += 1
            const parked = event.attempts >= maxAttempts
            if (parked) {
              events.delete(id)
              deadLetters.push([event.event_id, event.attempts])
            } else event.retryAt = now + Duration.toMillis(pauseAfter(event.attempts))
            return { attempts: event.attempts, parked }
          })
      })

      return Context.make(OutboxRepository, repository).pipe(
        Context.add(
          MemoryOutbox,
          MemoryOutbox.of({
            append: (gameId, type) =>
              Effect.sync(() => {
                lastId += 1
                const event_id = crypto.randomUUID()
                events.set(String(lastId), {
                  id: String(lastId),
                  event_id,
                  game_id: gameId,
                  type,
                  time: "2026-01-01T00:00:00.000Z",
                  data: JSON.stringify({ game_id: gameId }),
                  traceparent: null,
                  due_ms_ago: null,
                  attempts: 0,
                  retryAt: undefined
                })
                return event_id
              }),
            waiting: Effect.sync(() => [...events.values()].map((event) => event.event_id)),
            deadLetters: Effect.sync(() => deadLetters)
          })
        )
      )
    })
  )
}

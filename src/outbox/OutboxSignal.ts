/**
 * Tells the relay, wherever it runs, that events were committed.
 *
 * In the process that relays, that is a queue. Elsewhere it is a NOTIFY of its own, after the commit and at most once
 * per 5 ms: inside the event's transaction it would take a cluster-wide lock at commit.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Duration, Effect, Latch, Layer, Queue, Ref } from "effect"
import { answerDeadline, Database, describeSqlError } from "../postgres/Database.ts"
import { channels } from "../postgres/channels.ts"
import { reconnecting } from "../postgres/outages.ts"

const shortestInterval = Duration.millis(5)

export class OutboxSignal extends Context.Service<
  OutboxSignal,
  {
    /** Call after every commit that may have added events. Never fails and never waits for the database. */
    readonly committed: Effect.Effect<void>
    /** Said by who sees that events wait, which nobody may have told of: their process may be gone. */
    readonly found: Effect.Effect<void>
    /** Signals of this process while it relays, by their cause; holds one at most. */
    readonly wakeUps: Queue.Dequeue<"notify" | "backstop">
    /** Said by the relay: whether this process is the one that relays. */
    readonly setRelaying: (relaying: boolean) => Effect.Effect<void>
    /** Said by the relay: whether more events wait than it has in hand. */
    readonly setBehind: (behind: boolean) => Effect.Effect<void>
    /** Waits until the relay is not behind; returns at once in a process that does not relay. */
    readonly caughtUp: Effect.Effect<void>
    /** Sends the NOTIFYs; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/outbox/OutboxSignal") {
  static readonly layer = Layer.effect(
    OutboxSignal,
    Effect.gen(function* () {
      const pg = yield* PgClient.PgClient
      const database = yield* Database
      return yield* make(
        pg.notify(channels.outbox, "").pipe(
          database.within(answerDeadline),
          Effect.tapError((error) => Effect.logDebug(`No hint reached the relay yet: ${describeSqlError(error)}`)),
          // A relay that found the outbox empty looks again at the backstop only, so a hint is not given up.
          Effect.retry(reconnecting),
          Effect.orDie
        )
      )
    })
  )

  /** Never notifies another process. */
  static readonly layerMemory = Layer.effect(
    OutboxSignal,
    Effect.suspend(() => make(Effect.void))
  )
}

const make = Effect.fnUntraced(function* (notify: Effect.Effect<void>) {
  const relaying = yield* Ref.make(false)
  const wakeUps = yield* Queue.sliding<"notify" | "backstop">(1)
  const notifications = yield* Queue.sliding<void>(1)
  const caughtUp = yield* Latch.make(true)
  return OutboxSignal.of({
    committed: Effect.flatMap(Ref.get(relaying), (here) =>
      here ? Queue.offer(wakeUps, "notify") : Queue.offer(notifications, undefined)
    ),
    found: Effect.asVoid(Queue.offer(wakeUps, "backstop")),
    wakeUps: Queue.asDequeue(wakeUps),
    // Whoever relays next may already have looked before the last commits that were signalled here.
    setRelaying: (here) =>
      Effect.andThen(
        Ref.set(relaying, here),
        here ? Effect.void : Effect.andThen(caughtUp.open, Queue.offer(notifications, undefined))
      ),
    setBehind: (behind) => (behind ? caughtUp.close : caughtUp.open),
    caughtUp: caughtUp.await,
    run: Effect.forever(
      Effect.andThen(Queue.take(notifications), Effect.andThen(notify, Effect.sleep(shortestInterval)))
    )
  })
})

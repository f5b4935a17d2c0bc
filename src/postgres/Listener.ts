/**
 * Hints from PostgreSQL's NOTIFY, as one queue per subscriber.
 *
 * A hint is never the work: it only says that looking at a table now may be worth it. Hints are coalesced, and after
 * every (re)connect each subscriber gets one, because whatever was notified meanwhile is lost.
 */
import {
  Context,
  Duration,
  Effect,
  Exit,
  Layer,
  Metric,
  Option,
  Queue,
  Random,
  type Redacted,
  Ref,
  Schema,
  type Scope
} from "effect"
import { Health } from "../observability/Health.ts"
import * as Metrics from "../observability/Metrics.ts"
import { type Channel, channels } from "./channels.ts"
import { makeOutages } from "./outages.ts"
import { heartbeat, keepSession } from "./Session.ts"

/** That a look is worth it now. */
export interface Hint {
  /** What it stems from: a notification, a session that was opened anew, or one that ended. */
  readonly cause: "notify" | "reconnect" | "lost"
  /** The earliest instant that was notified, ms since 1970; undefined where anything may have changed. */
  readonly earliest: number | undefined
}

/** How often a loop should look at its table while no session listens and hints do not come. */
export const deafPoll = Duration.seconds(1)

/** The session takes LISTEN and answers queries, but its own notifications do not come back. */
export class NotificationsSwallowed extends Schema.TaggedError<NotificationsSwallowed>()("NotificationsSwallowed", {}) {
  override get message() {
    return (
      "notifications do not come back, as behind a transaction pooler: DATABASE_LISTEN_URL must lead to PostgreSQL " +
      `directly. Until then schedules are looked at every ${Duration.format(deafPoll)}`
    )
  }
}

/** How often the session proves that notifications still reach it, and how long that may take before it is dropped. */
const heartbeats = { every: Duration.seconds(2), deadline: Duration.millis(2500) }

/** How long a notification to ourselves may take once the server has answered that it was sent. */
const echoDeadline = Duration.seconds(2)

/** How long the loop may be silent before it counts as stuck: a heartbeat and an attempt to connect, with room. */
const silence = Duration.seconds(30)

export class Listener extends Context.Service<
  Listener,
  {
    /** Subscribes until the scope closes. The queue holds one hint at most; it never ends and never fails. */
    readonly subscribe: (...to: ReadonlyArray<Channel>) => Effect.Effect<Queue.Dequeue<Hint>, never, Scope.Scope>
    /** Whether a session is up and listening. */
    readonly isUp: Effect.Effect<boolean>
    /** Keeps the session, with backoff, for as long as the process lives; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/postgres/Listener") {
  /**
   * Listens on every channel in one session of its own. The URL must lead to PostgreSQL directly: a transaction pooler
   * swallows LISTEN.
   */
  static readonly layer = (url: Redacted.Redacted): Layer.Layer<Listener, never, Health> =>
    Layer.effect(
      Listener,
      Effect.gen(function* () {
        const health = yield* Health
        const subscriptions = makeSubscriptions()
        const up = yield* Ref.make(false)
        const beat = health.beat("listener", silence)
        const setUp = (isUp: boolean) =>
          Effect.andThen(Ref.set(up, isUp), Metric.update(Metrics.listenerUp, isUp ? 1 : 0))

        const run = keepSession({ url, name: "listener", outages: makeOutages("listener", beat) }, (session) =>
          Effect.gen(function* () {
            const forwards = yield* Effect.forEach(Object.values(channels), (channel) =>
              Effect.map(session.connection.listen(channel), (notifications) =>
                Effect.forever(
                  Effect.flatMap(Queue.takeAll(notifications), (taken) =>
                    subscriptions.offer({ cause: "notify", earliest: earliestOf(taken) }, channel)
                  )
                )
              )
            )
            const echoChannel = `kickoff_heartbeat_${yield* Random.nextIntBetween(0, 2 ** 40)}`
            const echoes = yield* session.connection.listen(echoChannel)

            const echo = Effect.andThen(
              session.connection.query("SELECT pg_notify($1, '')", [echoChannel]),
              Effect.timeoutOrElse(Queue.takeAll(echoes), {
                duration: echoDeadline,
                orElse: () => Effect.fail(new NotificationsSwallowed())
              })
            )
            // Only what has come back once is believed to come back.
            yield* session.within(heartbeats.deadline)(echo)
            yield* Effect.addFinalizer(() =>
              Effect.andThen(setUp(false), subscriptions.offer({ cause: "lost", earliest: undefined }))
            )
            yield* setUp(true)
            yield* session.up
            yield* subscriptions.offer({ cause: "reconnect", earliest: undefined })

            const keepAlive = heartbeat(session, heartbeats, echo, (roundTrip) =>
              Effect.andThen(Metric.update(Metrics.heartbeatSeconds, Duration.toSeconds(roundTrip)), beat)
            )
            return yield* Effect.all([...forwards, keepAlive], { concurrency: "unbounded", discard: true })
          })
        )
        return Listener.of({ subscribe: subscriptions.subscribe, isUp: Ref.get(up), run: Effect.andThen(beat, run) })
      })
    )

  /** Hints are what a test says through {@link MemoryNotifier}. */
  static readonly layerMemory: Layer.Layer<Listener | MemoryNotifier> = Layer.effectContext(
    Effect.gen(function* () {
      const subscriptions = makeSubscriptions()
      const up = yield* Ref.make(true)
      return Context.make(
        Listener,
        Listener.of({ subscribe: subscriptions.subscribe, isUp: Ref.get(up), run: Effect.never })
      ).pipe(
        Context.add(
          MemoryNotifier,
          MemoryNotifier.of({
            notify: (channel, earliest) => subscriptions.offer({ cause: "notify", earliest }, channel),
            lose: Effect.andThen(Ref.set(up, false), subscriptions.offer({ cause: "lost", earliest: undefined })),
            reconnect: Effect.andThen(
              Ref.set(up, true),
              subscriptions.offer({ cause: "reconnect", earliest: undefined })
            )
          })
        )
      )
    })
  )
}

/** The other end of {@link Listener.layerMemory}. */
export class MemoryNotifier extends Context.Service<
  MemoryNotifier,
  {
    readonly notify: (channel: Channel, earliest?: number) => Effect.Effect<void>
    /** The session ends, and none follows until {@link reconnect}. */
    readonly lose: Effect.Effect<void>
    readonly reconnect: Effect.Effect<void>
  }
>()("kickoff/postgres/MemoryNotifier") {}

/** One hint for two that nobody has taken. */
const merge = (before: Hint, hint: Hint): Hint => ({
  cause: hint.cause === "notify" ? before.cause : hint.cause,
  earliest:
    before.earliest === undefined || hint.earliest === undefined ? undefined : Math.min(before.earliest, hint.earliest)
})

/** What the triggers send names an instant. */
const Payload = Schema.fromJsonString(
  Schema.Union([Schema.Struct({ transition_time: Schema.String }), Schema.Struct({ notification_time: Schema.String })])
)
const decodePayload = Schema.decodeUnknownOption(Payload)

/** Anybody may notify anything: where one of them names no instant, none is known. */
const earliestOf = (notifications: ReadonlyArray<{ readonly payload: string }>): number | undefined => {
  const instants = notifications.map(({ payload }) =>
    Option.match(decodePayload(payload), {
      onNone: () => Number.NaN,
      onSome: (named) => Date.parse("transition_time" in named ? named.transition_time : named.notification_time)
    })
  )
  const earliest = Math.min(...instants)
  return Number.isNaN(earliest) ? undefined : earliest
}

const makeSubscriptions = () => {
  const subscriptions = new Set<{ readonly to: ReadonlyArray<Channel>; readonly queue: Queue.Queue<Hint> }>()
  return {
    subscribe: (...to: ReadonlyArray<Channel>) =>
      Effect.acquireRelease(
        Effect.map(Queue.sliding<Hint>(1), (queue) => {
          const subscription = { to, queue }
          subscriptions.add(subscription)
          return subscription
        }),
        (subscription) => Effect.sync(() => subscriptions.delete(subscription))
      ).pipe(Effect.map(({ queue }) => Queue.asDequeue(queue))),
    /** To the subscribers of one channel, or of all. */
    offer: (hint: Hint, channel?: Channel) =>
      Effect.sync(() => {
        for (const subscription of subscriptions) {
          if (channel !== undefined && !subscription.to.includes(channel)) continue
          const waiting = Queue.takeUnsafe(subscription.queue)
          const both = waiting !== undefined && Exit.isSuccess(waiting) ? merge(waiting.value, hint) : hint
          Queue.offerUnsafe(subscription.queue, both)
        }
      })
  }
}

/**
 * Publishes to RabbitMQ with publisher confirms, and keeps the connection.
 *
 * While the broker is away, events fail at once and `ready` waits: nothing is queued here that the outbox does not
 * hold. Events that were sent and not confirmed fail when the connection is lost, and may have arrived all the same.
 */
import { Duration, Effect, Latch, Layer, Option, Random, Redacted, Result, Schedule } from "effect"
import type { CommittedEvent } from "../domain/GameEvent.ts"
import { brokerBlocked, brokerConnected } from "../observability/Metrics.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { Settings } from "../Settings.ts"
import { type Link, type LinkFailed, openLink, sweepsPerConfirm } from "./link.ts"
import { type BrokerState, BrokerUnavailable, BrokerUnreachable, Publisher } from "./Publisher.ts"
import { publishSequences, type Settle } from "./sequences.ts"

export interface RabbitLimits {
  /** Most events that are unconfirmed at once. */
  readonly window: number
  /** Longest wait for a confirm, give or take a tenth; after that the connection counts as dead. */
  readonly confirm: Duration.Duration
  /** Longest wait for the broker while the process starts. */
  readonly start: Duration.Duration
}

const defaultLimits: RabbitLimits = { window: 2000, confirm: Duration.seconds(10), start: Duration.seconds(30) }

/** How often an outage that lasts is said again. */
const reminder = Duration.seconds(30)

/** The pause before the n-th attempt in a row, without jitter: none, then doubling from 50 ms to 2 s. */
const pause = (attempt: number) => (attempt === 0 ? 0 : Math.min(50 * 2 ** Math.min(attempt - 1, 10), 2000))

/** An event that waits for room in the window. */
interface Waiting {
  readonly event: CommittedEvent
  readonly settle: Settle
}

const layerWith = (overrides: Partial<RabbitLimits>): Layer.Layer<Publisher, BrokerUnreachable, Settings> =>
  Layer.effect(
    Publisher,
    Effect.gen(function* () {
      const limits = { ...defaultLimits, ...overrides }
      const { rabbitmqUrl, rabbitmqExchange: exchange } = yield* Settings
      if (Option.isNone(rabbitmqUrl)) return yield* new BrokerUnreachable({ detail: "the variable is not set" })
      const url = rabbitmqUrl.value
      const address = describeUrl(url)
      const context = yield* Effect.context()
      const fork = Effect.runForkWith(context)

      const connected = Latch.makeUnsafe(false)
      /** First come, first sent. */
      const waiting = new Set<Waiting>()
      let link: Link | undefined
      let state: BrokerState = "disconnected"
      let obstacle = "it is not connected"

      const sendWaiting = () => {
        for (const each of waiting) {
          if (link?.hasRoom() !== true) return
          waiting.delete(each)
          link.send(each.event, each.settle)
        }
      }

      /** Takes over what the current link has become. */
      const onStatus = (changed: Link) => {
        if (changed !== link) return
        const status = changed.status()
        const before = state
        state = status._tag === "open" ? "connected" : status._tag === "blocked" ? "blocked" : "disconnected"
        brokerConnected.updateUnsafe(state === "connected" ? 1 : 0, context)
        brokerBlocked.updateUnsafe(state === "blocked" ? 1 : 0, context)
        if (status._tag === "open") {
          connected.openUnsafe()
          if (before === "blocked") fork(Effect.logInfo(`RabbitMQ at ${address} takes events again`))
          sendWaiting()
          return
        }
        connected.closeUnsafe()
        obstacle = status._tag === "blocked" ? `it is blocked (${status.reason})` : status.reason.detail
        if (status._tag === "blocked" && before !== "blocked") {
          fork(
            Effect.logWarning(`RabbitMQ at ${address} takes no events now: ${status.reason}. They wait in the outbox`)
          )
        }
        for (const { settle } of waiting) settle(new BrokerUnavailable({ detail: obstacle }))
        waiting.clear()
      }

      const open = openLink({ url, exchange, window: limits.window, onRoom: sendWaiting, onStatus }).pipe(
        Effect.map((opened) => {
          link = opened
          onStatus(opened)
        })
      )

      // Whatever became of the start: a finalizer that is registered late leaves the socket open.
      yield* Effect.addFinalizer(() => Effect.suspend(() => link?.close ?? Effect.void))
      const starting = makeOutage(address, "cannot be reached yet")
      yield* open.pipe(
        Effect.tapError((error) => {
          obstacle = error.detail
          return error.permanent ? Effect.void : starting.failed(error)
        }),
        Effect.retry({ while: (error) => !error.permanent, schedule: startSchedule }),
        Effect.timeoutOrElse({
          duration: limits.start,
          orElse: () =>
            Effect.fail(
              new BrokerUnavailable({ detail: `${obstacle}; gave up after ${Duration.format(limits.start)}` })
            )
        }),
        Effect.mapError(({ detail }) => new BrokerUnreachable({ detail: `${address}: ${detail}` }))
      )
      yield* Effect.logInfo(`RabbitMQ at ${address} is connected; events go to its exchange ${exchange}`)

      const outage = makeOutage(address, "is away, events wait in the outbox")

      /** Tries until a new link is open. */
      const reconnect = Effect.fnUntraced(function* (earlierAttempts: number) {
        for (let attempt = earlierAttempts; ; attempt++) {
          yield* Effect.sleep(Duration.millis(pause(attempt) * (yield* Random.nextBetween(0.5, 1))))
          const result = yield* Effect.result(open)
          if (Result.isSuccess(result)) return
          obstacle = result.failure.detail
          yield* outage.failed(result.failure)
        }
      })

      // Links in a row that ended without a single confirm: a broker that accepts connections only to end them is not
      // connected to at full speed.
      let barren = 0
      const run = Effect.gen(function* () {
        if (link !== undefined) {
          const current = link
          const sweeps = Effect.sync(current.sweep).pipe(
            Effect.andThen(Effect.sleep(Duration.divideUnsafe(limits.confirm, sweepsPerConfirm))),
            Effect.forever
          )
          yield* Effect.raceFirst(current.ended, sweeps)
          barren = current.hasConfirmed() ? 0 : barren + 1
          yield* outage.failed({ detail: obstacle, permanent: false })
          yield* Effect.forkChild(current.close)
        }
        yield* reconnect(barren)
        yield* outage.over
      }).pipe(Effect.forever)

      const publish = publishSequences((event, settle) => {
        if (state !== "connected") {
          settle(new BrokerUnavailable({ detail: obstacle }))
          return () => {}
        }
        const each: Waiting = { event, settle }
        waiting.add(each)
        sendWaiting()
        // Once it is sent there is no way back: its place in the window is free again with its confirm.
        return () => waiting.delete(each)
      })

      return Publisher.of({ publish, ready: connected.await, state: Effect.sync(() => state), run })
    })
  )

/** Publishes to the exchange of the settings; `layerWith` is for tests and tools. */
export const RabbitPublisher = { layer: layerWith({}), layerWith }

const startSchedule = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered
)

/** Says when the broker goes away and when it is back, and every 30 seconds that it is still away. */
const makeOutage = (address: string, what: "cannot be reached yet" | "is away, events wait in the outbox") => {
  let since: number | undefined
  let said = 0
  let saidDetail = ""
  return {
    failed: Effect.fnUntraced(function* ({ detail, permanent }: Pick<LinkFailed, "detail" | "permanent">) {
      const now = yield* uptimeMillis
      const isFirst = since === undefined
      since ??= now
      const someoneMustAct = permanent && detail !== saidDetail
      if (!isFirst && !someoneMustAct && now - said < Duration.toMillis(reminder)) return
      said = now
      saidDetail = detail
      const lasted = isFirst ? "" : ` (for ${Duration.format(Duration.millis(now - since))})`
      yield* (someoneMustAct ? Effect.logError : Effect.logWarning)(
        `RabbitMQ at ${address} ${what}${lasted}: ${detail}`
      )
    }),
    over: Effect.gen(function* () {
      if (since === undefined) return
      const lasted = Duration.millis((yield* uptimeMillis) - since)
      since = undefined
      saidDetail = ""
      yield* Effect.logInfo(`RabbitMQ at ${address} is back after ${Duration.format(lasted)}`)
    })
  }
}

/** Host, port and virtual host: no user, no password. */
const describeUrl = (url: Redacted.Redacted): string => {
  const { protocol, hostname, port, pathname } = new URL(Redacted.value(url))
  return `${hostname}:${port || (protocol === "amqps:" ? 5671 : 5672)}${pathname === "/" ? "" : pathname}`
}

/**
 * The relay between a real database and a real broker that fails: what waits leaves in its order, and nothing is lost.
 *
 * The broker is this file's own. Nobody binds a queue, so everything that was published lies in `kickoff.unrouted`, also
 * after the broker was killed. `DRAIN_EVENTS` lets more events wait, and says how long they took and what memory.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Logger, Metric, Option, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { afterAll, beforeAll } from "vitest"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { unrouted } from "../../src/messaging/topology.ts"
import { Health } from "../../src/observability/Health.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import * as Relay from "../../src/outbox/Relay.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { Settings } from "../../src/Settings.ts"
import { openChannel, readEvent } from "../messaging/consumer.ts"
import { eventually } from "../support/games.ts"
import { type Broker, makeBroker } from "../support/rabbitmq.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

let broker: Broker
beforeAll(async () => {
  broker = await makeBroker()
}, 120_000)
afterAll(() => broker.stop())

const { DRAIN_EVENTS: chosenEvents } = process.env

/** Of what is in use: where figures are asked for, what is not is collected before. */
const measureMemory = (() => {
  if (chosenEvents === undefined) return () => process.memoryUsage()
  setFlagsFromString("--expose-gc")
  const collect: () => void = runInNewContext("gc")
  return () => {
    collect()
    return process.memoryUsage()
  }
})()

/** The most that was seen while the relay was at work. */
class Peak extends Context.Service<Peak, { inHand: number; heap: number; resident: number }>()(
  "kickoff/test/outbox/Peak"
) {}

/** Looks at what the relay holds whenever it has all of a batch in hand. */
const watched = Layer.effect(
  OutboxRepository,
  Effect.gen(function* () {
    const real = yield* OutboxRepository
    const peak = yield* Peak
    const look = Effect.map(Metric.value(Metrics.relayInHand), ({ value }) => {
      const { heapUsed, rss } = measureMemory()
      peak.inHand = Math.max(peak.inHand, value)
      peak.heap = Math.max(peak.heap, heapUsed)
      peak.resident = Math.max(peak.resident, rss)
    })
    return OutboxRepository.of({ ...real, remove: (ids) => Effect.andThen(look, real.remove(ids)) })
  })
).pipe(
  Layer.provide(OutboxRepository.layer),
  Layer.provideMerge(Layer.sync(Peak, () => ({ inHand: 0, heap: 0, resident: 0 })))
)

/** A relay with a database and an exchange of its own, for a user of the broker. */
const relayLayer = (user = "guest", password = "guest") =>
  Layer.unwrap(
    Effect.sync(() => {
      const url = new URL(broker.url)
      url.username = user
      url.password = password
      return Layer.mergeAll(
        watched,
        OutboxSignal.layer,
        Layer.unwrap(Effect.map(TestDatabase, (database) => Listener.layer(database.url))),
        RabbitPublisher.layer
      ).pipe(
        Layer.provideMerge(
          Settings.layerWith({
            rabbitmqUrl: Option.some(Redacted.make(url.href)),
            rabbitmqExchange: `test.${randomUUID()}`
          })
        ),
        Layer.provideMerge(Layer.mergeAll(Health.layer, Logger.layer([]))),
        Layer.provideMerge(TestDatabase.layer)
      )
    })
  )

/** Relays until the scope closes, on a broker that holds no events yet. */
const relaying = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const channel = yield* openChannel(broker.url)
  yield* Effect.promise(() => channel.purgeQueue(unrouted))
  yield* Effect.forkScoped(
    Effect.all([(yield* Listener).run, (yield* OutboxSignal).run, (yield* Publisher).run, Relay.run(url)], {
      concurrency: "unbounded",
      discard: true
    })
  )
})

let committed = 0

/**
 * Commits events and says so, as the API does; every tenth is of one and the same game, the others have a game for five
 * of them. Their numbers rise in the order of the commits.
 */
const commitEvents = Effect.fnUntraced(function* (count: number) {
  const sql = yield* SqlClient.SqlClient
  const signal = yield* OutboxSignal
  const rows = yield* sql<{ readonly event_id: string }>`
    INSERT INTO outbox (game_id, type, data)
    SELECT md5(CASE WHEN n % 10 = 0 THEN 'hot' ELSE (n % greatest(${count}::int / 5, 1))::text END)::uuid,
      'game.updated', json_build_object('title', repeat('a game ', 20), 'n', ${committed}::int + n)
    FROM generate_series(1, ${count}::int) AS n
    ORDER BY n
    RETURNING event_id`
  committed += count
  yield* signal.committed
  return rows.map(({ event_id }) => event_id)
})

const untilEmpty = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* eventually(sql`SELECT FROM outbox LIMIT 1`, (rows) => rows.length === 0)
  assert.isEmpty(yield* sql`SELECT FROM dead_letters`)
})

/** Takes what was published until each of these events has come, and asserts that those of each game came in order. */
const assertArrived = Effect.fnUntraced(function* (ids: ReadonlyArray<string>) {
  const channel = yield* openChannel(broker.url)
  const messages = yield* Queue.unbounded<CloudEvent>()
  yield* Effect.promise(() =>
    channel.consume(unrouted, (message) => void (message !== null && Queue.offerUnsafe(messages, readEvent(message))), {
      noAck: true
    })
  )
  const missing = new Set(ids)
  const latest = new Map<string, number>()
  const seen = new Set<string>()
  let repeated = 0
  while (missing.size > 0) {
    const event = yield* Queue.take(messages)
    missing.delete(event.id)
    if (seen.has(event.id)) {
      repeated++
      continue
    }
    seen.add(event.id)
    const n = Number(event.data["n"])
    assert.isAbove(n, latest.get(event.subject) ?? 0, `events of game ${event.subject}`)
    latest.set(event.subject, n)
  }
  assert.strictEqual(seen.size, ids.length)
  return { repeated }
})

const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`

/** `rabbitmqctl` alone takes much longer on a machine with other work. */
describe("the relay", { timeout: 60_000 }, () => {
  it.live(
    "drains 20,000 events after an outage, in order and each once, and has no more than 4,000 of them in hand",
    () =>
      Effect.gen(function* () {
        const count = Number(chosenEvents ?? 20_000)
        const publisher = yield* Publisher
        const peak = yield* Peak
        yield* relaying
        yield* Effect.promise(async () => {
          await broker.flush()
          await broker.kill()
        })
        yield* eventually(publisher.state, (state) => state === "disconnected")
        const ids = yield* commitEvents(count)
        const before = measureMemory()

        yield* Effect.promise(broker.start)
        const began = yield* Clock.currentTimeMillis
        yield* untilEmpty
        const took = ((yield* Clock.currentTimeMillis) - began) / 1000
        if (chosenEvents !== undefined) {
          process.stderr.write(
            `${count} events in ${took} s, ${Math.round(count / took)} per second; at most ${peak.inHand} in hand; ` +
              `heap ${megabytes(before.heapUsed)} before, ${megabytes(peak.heap)} at most; ` +
              `resident ${megabytes(before.rss)} before, ${megabytes(peak.resident)} at most\n`
          )
        }
        assert.isAtLeast(peak.inHand, 1000)
        assert.isAtMost(peak.inHand, 4000)
        assert.deepStrictEqual(yield* assertArrived(ids), { repeated: 0 })
      }).pipe(Effect.scoped, Effect.provide(relayLayer())),
    300_000
  )

  const ctl = (...args: ReadonlyArray<string>) => Effect.promise(() => broker.ctl(...args))
  const cut = ctl("close_all_connections", "test")
  const permit = (user: string) => ctl("set_permissions", user, ".*", ".*", ".*")

  /** What happens to the broker, and how it ends. */
  const hardships = [
    {
      name: "has no memory left",
      begin: () => ctl("set_vm_memory_high_watermark", "0.0000001"),
      end: () => ctl("set_vm_memory_high_watermark", "0.4")
    },
    {
      name: "knows its user by another password",
      begin: (user: string) => Effect.andThen(ctl("change_password", user, "another"), cut),
      end: (user: string) => ctl("change_password", user, "s3cret")
    },
    {
      name: "has taken its user's permissions",
      begin: (user: string) => Effect.andThen(ctl("clear_permissions", user), cut),
      end: permit
    },
    {
      name: "has an exchange of that name and another type",
      begin: (_user: string, exchange: string) =>
        Effect.flatMap(openChannel(broker.url), (channel) =>
          Effect.promise(async () => {
            await channel.deleteExchange(exchange)
            await channel.assertExchange(exchange, "fanout")
          })
        ),
      end: (_user: string, exchange: string) =>
        Effect.flatMap(openChannel(broker.url), (channel) =>
          Effect.promise(() => channel.deleteExchange(exchange))
        ).pipe(Effect.scoped)
    }
  ]

  it.live.each(hardships)("waits, loses nothing and counts no attempt while the broker $name", ({ begin, end }) =>
    Effect.gen(function* () {
      const user = `relay-${randomUUID()}`
      yield* ctl("add_user", user, "s3cret")
      yield* permit(user)
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const publisher = yield* Publisher
        const { rabbitmqExchange: exchange } = yield* Settings
        yield* relaying
        const ids = yield* commitEvents(50)
        yield* untilEmpty
        yield* Effect.acquireRelease(begin(user, exchange), () => end(user, exchange))
        // The broker says what is wrong to those who publish.
        yield* Effect.repeat(
          Effect.gen(function* () {
            ids.push(...(yield* commitEvents(5)))
            yield* Effect.sleep("20 millis")
            return yield* publisher.state
          }),
          { until: (state) => state !== "connected" }
        )
        ids.push(...(yield* commitEvents(500)))
        const waiting = yield* eventually(
          sql<{ readonly waiting: number; readonly attempts: number }>`
            SELECT count(*)::int AS waiting, max(attempts) AS attempts FROM outbox`,
          ([row]) => (row?.waiting ?? 0) >= 500
        )
        assert.strictEqual(waiting[0]?.attempts, 0)
        yield* end(user, exchange)
        yield* untilEmpty
        yield* assertArrived(ids)
      }).pipe(Effect.scoped, Effect.provide(relayLayer(user, "s3cret")))
      yield* ctl("delete_user", user)
    })
  )
})

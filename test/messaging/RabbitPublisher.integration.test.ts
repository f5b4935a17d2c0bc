/** What a broker does to its publishers: on a broker of this file's own, which is killed, blocked and rearranged. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Logger, Option, Queue, Redacted, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll } from "vitest"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { type RabbitLimits, RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { unrouted } from "../../src/messaging/topology.ts"
import { Settings } from "../../src/Settings.ts"
import { type Broker, makeBroker } from "../support/rabbitmq.ts"
import { makeTcpProxy } from "../support/TcpProxy.ts"
import { consumeExchange, makeEvent, openChannel, publishAll, publishOne, readEvent } from "./consumer.ts"

let broker: Broker
beforeAll(async () => {
  broker = await makeBroker({ config: ["max_message_size = 65536"] })
}, 120_000)
afterAll(() => broker.stop())

interface Options {
  readonly exchange?: string
  readonly url?: string
  readonly limits?: Partial<RabbitLimits>
}

/** A publisher that keeps its connection, and what it logs. It closes with the scope. */
const makePublisher = (options: Options = {}) =>
  Effect.gen(function* () {
    const exchange = options.exchange ?? `test.${randomUUID()}`
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel}: ${[message].flat().join(" ")}`))
    const context = yield* Layer.build(
      RabbitPublisher.layerWith(options.limits ?? {}).pipe(
        Layer.provide(
          Settings.layerWith({
            rabbitmqUrl: Option.some(Redacted.make(options.url ?? broker.url)),
            rabbitmqExchange: exchange
          })
        ),
        Layer.provideMerge(Logger.layer([logger]))
      )
    )
    const publisher = yield* Publisher.pipe(Effect.provide(context))
    yield* Effect.forkScoped(Effect.provide(publisher.run, context))
    return { ...publisher, exchange, lines }
  })

/** Waits for the broker to have changed something that it says to nobody. */
const eventually = <A>(step: () => Promise<A>, isDone: (value: A) => boolean) =>
  Effect.promise(step).pipe(
    Effect.tap((value) => (isDone(value) ? Effect.void : Effect.sleep("20 millis"))),
    Effect.repeat({ until: isDone })
  )

const events = (count: number) => Array.from({ length: count }, (_, n) => makeEvent(n))

/** `rabbitmqctl` alone takes much longer on a machine with other work. */
describe("RabbitPublisher", { timeout: 60_000 }, () => {
  it.live("needs no more than the permissions that docs/security.md gives its user", () =>
    Effect.gen(function* () {
      const page = readFileSync(fileURLToPath(new URL("../../docs/security.md", import.meta.url)), "utf8")
      const [, arguments_ = ""] = /^rabbitmqctl (set_permissions kickoff .*)$/m.exec(page) ?? []
      const words = arguments_.split(" ").map((word) => word.replaceAll("'", ""))
      assert.lengthOf(words, 5)
      yield* Effect.promise(async () => {
        await broker.ctl("add_user", "kickoff", "s3cret")
        await broker.ctl(...words)
      })
      const url = new URL(broker.url)
      url.username = "kickoff"
      url.password = "s3cret"
      const publisher = yield* makePublisher({ url: url.href, exchange: "kickoff.events" })
      yield* publishOne(publisher, makeEvent())
      const failed = yield* Effect.flip(makePublisher({ url: url.href, exchange: "other.events" }))
      assert.match(failed.message, /ACCESS_REFUSED/)
    }).pipe(Effect.scoped)
  )

  it.live("sends persistent CloudEvents with the properties that consumers rely on", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const messages = yield* consumeExchange(broker.url, publisher.exchange)
      const event = makeEvent(7)
      yield* publishOne(publisher, event)
      const message = yield* Queue.take(messages)
      assert.deepStrictEqual(readEvent(message), event)
      assert.strictEqual(message.fields.routingKey, "game.started")
      assert.strictEqual(message.fields.exchange, publisher.exchange)
      const { appId, contentType, deliveryMode, messageId, timestamp, type } = message.properties
      assert.deepStrictEqual(
        { appId, contentType, deliveryMode, messageId, timestamp, type },
        {
          appId: "kickoff",
          contentType: "application/cloudevents+json",
          deliveryMode: 2,
          messageId: event.id,
          timestamp: 1767323045,
          type: "game.started"
        }
      )
    }).pipe(Effect.scoped)
  )

  it.live("keeps an event that no queue is bound for in kickoff.unrouted", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const channel = yield* openChannel(broker.url)
      yield* Effect.promise(() => channel.purgeQueue(unrouted))
      const event = makeEvent()
      yield* publishOne(publisher, event)
      const message = yield* eventually(
        () => channel.get(unrouted, { noAck: true }),
        (got) => got !== false
      )
      assert.strictEqual(message !== false && message.properties.messageId, event.id)
    }).pipe(Effect.scoped)
  )

  it.live("confirms 2,000 events that are published at once, and sends them in the order of publishing", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher({ limits: { window: 100 } })
      const messages = yield* consumeExchange(broker.url, publisher.exchange)
      const all = events(2000)
      yield* publishAll(
        publisher,
        all.map((event) => [event])
      )
      const seen = yield* Effect.forEach(all, () => Queue.take(messages))
      assert.deepStrictEqual(
        seen.map((message) => String(message.properties.messageId)),
        all.map(({ id }) => id)
      )
    }).pipe(Effect.scoped)
  )

  it.live("answers every publish when the broker is killed, and reconnects within 5 s of its return", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const all = events(5000)
      yield* Effect.promise(broker.flush)
      let confirmed = 0
      let killing: Promise<void> | undefined
      const failures = yield* publishAll(
        publisher,
        all.map((event) => [event]),
        () => {
          if (++confirmed === 500) killing = broker.kill()
        }
      )
      assert.isAbove(failures.length, 0)
      assert.strictEqual(confirmed + failures.length, all.length)
      for (const failure of failures) assert.strictEqual(failure.reason._tag, "BrokerUnavailable")
      assert.strictEqual(yield* publisher.state, "disconnected")
      yield* Effect.promise(async () => killing)

      yield* Effect.promise(broker.start)
      const [waited] = yield* Effect.timed(publisher.ready)
      assert.isBelow(Duration.toMillis(waited), 5000)
      yield* publishOne(publisher, makeEvent())
      const changes = publisher.lines.filter((line) => !line.startsWith("Info") || line.includes("is back"))
      assert.lengthOf(changes, 2)
      assert.match(changes[0] ?? "", /^Warn: RabbitMQ at 127\.0\.0\.1:\d+ is away/)
      assert.match(changes[1] ?? "", /^Info: RabbitMQ at 127\.0\.0\.1:\d+ is back after/)
    }).pipe(Effect.scoped)
  )

  it.live("reconnects when an operator closes its connection", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      yield* Effect.promise(() => broker.ctl("close_all_connections", "maintenance"))
      const away = yield* eventually(
        async () => publisher.lines.find((line) => line.startsWith("Warn")),
        (line) => line !== undefined
      )
      assert.include(away, "maintenance")
      yield* publisher.ready
      yield* publishOne(publisher, makeEvent())
    }).pipe(Effect.scoped)
  )

  it.live("declares its exchange anew when someone deleted it", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const channel = yield* openChannel(broker.url)
      yield* Effect.promise(() => channel.deleteExchange(publisher.exchange))
      const error = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.strictEqual(error.reason._tag, "BrokerUnavailable")
      assert.include(error.message, publisher.exchange)
      yield* publisher.ready
      const messages = yield* consumeExchange(broker.url, publisher.exchange)
      const event = makeEvent()
      yield* publishOne(publisher, event)
      assert.strictEqual(readEvent(yield* Queue.take(messages)).id, event.id)
    }).pipe(Effect.scoped)
  )

  it.live("confirms no event that came back, and declares what was missing", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const channel = yield* openChannel(broker.url)
      yield* Effect.promise(() => channel.deleteQueue(unrouted))
      const event = makeEvent()
      const error = yield* Effect.flip(publishOne(publisher, event))
      assert.strictEqual(error.reason._tag, "BrokerUnavailable")
      assert.include(error.message, "came back")
      yield* publisher.ready
      yield* publishOne(publisher, event)
      const message = yield* eventually(
        () => channel.get(unrouted, { noAck: true }),
        (got) => got !== false
      )
      assert.strictEqual(message !== false && message.properties.messageId, event.id)
    }).pipe(Effect.scoped)
  )

  it.live("declares one queue, which is bounded and whose events go nowhere else when they leave it", () =>
    Effect.gen(function* () {
      yield* makePublisher()
      const listed = yield* Effect.promise(() =>
        broker.ctl("list_queues", "name", "arguments", "--no-table-headers", "--silent")
      )
      const [queue = "", ...others] = listed.split("\n").filter((line) => !/^(?:amq\.gen|$)/.test(line))
      assert.isEmpty(others)
      assert.match(queue, /^kickoff\.unrouted\t/)
      assert.sameMembers(queue.match(/x-[a-z-]+/g) ?? [], [
        "x-max-length",
        "x-message-ttl",
        "x-overflow",
        "x-queue-type"
      ])
    }).pipe(Effect.scoped)
  )

  it.live(
    "exchanges heartbeats every ten seconds, so that a connection which has died is noticed in a long silence",
    () =>
      Effect.gen(function* () {
        yield* makePublisher()
        // Connections of earlier tests may still be on their way out.
        yield* eventually(
          () => broker.ctl("list_connections", "timeout", "--no-table-headers", "--silent"),
          (timeouts) => timeouts.trim() === "10"
        )
      }).pipe(Effect.scoped)
  )

  it.live("says at the start what differs when the exchange exists with other properties", () =>
    Effect.gen(function* () {
      const channel = yield* openChannel(broker.url)
      const exchange = `test.${randomUUID()}`
      yield* Effect.promise(() => channel.assertExchange(exchange, "fanout"))
      const error = yield* Effect.flip(makePublisher({ exchange }))
      assert.strictEqual(error._tag, "BrokerUnreachable")
      assert.include(
        error.message,
        `exchange '${exchange}' exists with another 'type': expected 'topic', found 'fanout'`
      )
      yield* Effect.promise(() => channel.deleteExchange(exchange))
      yield* Effect.promise(() => channel.assertExchange(exchange, "topic"))
      const other = yield* Effect.flip(makePublisher({ exchange }))
      assert.include(other.message, "another 'alternate-exchange': expected 'kickoff.unrouted', found none")
    }).pipe(Effect.scoped)
  )

  it.live("says at the start what differs when its queue exists with other arguments", () =>
    Effect.gen(function* () {
      const channel = yield* openChannel(broker.url)
      yield* Effect.acquireRelease(
        Effect.promise(async () => {
          await channel.deleteQueue(unrouted)
          await channel.assertQueue(unrouted, { durable: true })
        }),
        () => Effect.promise(() => channel.deleteQueue(unrouted))
      )
      const error = yield* Effect.flip(makePublisher())
      assert.strictEqual(error._tag, "BrokerUnreachable")
      assert.match(
        error.message,
        /queue 'kickoff\.unrouted' exists with another 'x-[\w-]+': expected .+, found .+\. Delete/
      )
    }).pipe(Effect.scoped)
  )

  it.live.each([
    {
      name: "refuses its login",
      begin: (user: string) => ["change_password", user, "another"],
      end: (user: string) => ["change_password", user, "s3cret"],
      says: (user: string) => `refused the login of user '${user}' (ACCESS_REFUSED)`
    },
    {
      name: "lets it into no virtual host",
      begin: (user: string) => ["clear_permissions", user],
      end: (user: string) => ["set_permissions", user, ".*", ".*", ".*"],
      says: (user: string) => `refused the virtual host to user '${user}'`
    },
    {
      name: "lets it declare nothing",
      begin: (user: string) => ["set_permissions", user, "", ".*", ".*"],
      end: (user: string) => ["set_permissions", user, ".*", ".*", ".*"],
      says: (user: string) => `refused for user '${user}'"; rabbitmqctl set_permissions`
    }
  ])("waits while the broker $name, says once who needs what, and goes on afterwards", ({ begin, end, says }) =>
    Effect.gen(function* () {
      const user = `user-${randomUUID()}`
      const ctl = (args: ReadonlyArray<string>) => Effect.promise(() => broker.ctl(...args))
      yield* ctl(["add_user", user, "s3cret"])
      yield* ctl(["set_permissions", user, ".*", ".*", ".*"])
      const url = new URL(broker.url)
      url.username = user
      url.password = "s3cret"
      const publisher = yield* makePublisher({ url: url.href })
      yield* publishOne(publisher, makeEvent())
      yield* ctl(begin(user))
      yield* ctl(["close_all_connections", "maintenance"])
      const errors = () => publisher.lines.filter((line) => line.startsWith("Error"))
      yield* eventually(
        async () => errors().length,
        (count) => count > 0
      )
      assert.include(errors()[0], says(user))
      const refused = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.strictEqual(refused.reason._tag, "BrokerUnavailable")
      assert.include(refused.message, says(user))
      yield* ctl(end(user))
      yield* publisher.ready
      yield* publishOne(publisher, makeEvent())
      assert.lengthOf(errors(), 1)
      assert.notInclude(publisher.lines.join(), "s3cret")
    }).pipe(Effect.scoped)
  )

  it.live("waits, once it runs, until a mismatched exchange is put right, and says once what differs", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const channel = yield* openChannel(broker.url)
      yield* Effect.promise(() => channel.deleteExchange(publisher.exchange))
      yield* Effect.promise(() => channel.assertExchange(publisher.exchange, "fanout"))
      const returned = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.strictEqual(returned.reason._tag, "BrokerUnavailable")
      const complaints = () => publisher.lines.filter((line) => line.startsWith("Error"))
      yield* eventually(
        async () => complaints().length,
        (count) => count > 0
      )
      assert.include(complaints()[0], `exchange '${publisher.exchange}' exists with another 'type'`)
      const refused = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.strictEqual(refused.reason._tag, "BrokerUnavailable")
      assert.include(refused.message, "exists with another 'type'")
      yield* Effect.promise(() => channel.deleteExchange(publisher.exchange))
      yield* publisher.ready
      yield* publishOne(publisher, makeEvent())
      assert.lengthOf(complaints(), 1)
    }).pipe(Effect.scoped)
  )

  it.live(
    "fails what was in flight as suspect when one event closed the channel, and takes the others afterwards",
    () =>
      Effect.gen(function* () {
        const publisher = yield* makePublisher()
        const tooLarge = makeEvent(0, { description: "x".repeat(100_000) })
        const error = yield* Effect.flip(publishOne(publisher, tooLarge))
        assert.strictEqual(error.event_id, tooLarge.id)
        assert.strictEqual(error.reason._tag, "ChannelClosed")
        assert.include(error.message, "larger than")
        yield* publisher.ready
        yield* publishOne(publisher, makeEvent())
      }).pipe(Effect.scoped)
  )

  it.live("refuses an event that cannot be encoded, names it, ends its sequence, and takes the others", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher()
      const messages = yield* consumeExchange(broker.url, publisher.exchange)
      // No such type exists: AMQP has no room for one of more than 255 bytes.
      const bad: CloudEvent = { ...makeEvent(), type: "x".repeat(300) as CloudEvent["type"] }
      const [after, other] = [makeEvent(), makeEvent()]
      const [error, ...more] = yield* publishAll(publisher, [[bad, after], [other]])
      assert.deepStrictEqual(more, [])
      assert.strictEqual(error?.event_id, bad.id)
      assert.strictEqual(error?.reason._tag, "EventRefused")
      assert.include(error?.message, bad.id)
      yield* publishOne(publisher, after)
      const seen = [yield* Queue.take(messages), yield* Queue.take(messages)].map((message) => readEvent(message).id)
      assert.deepStrictEqual(seen, [other.id, after.id])
    }).pipe(Effect.scoped)
  )

  it.live("is blocked while the broker has no memory, and goes on when it has", () =>
    Effect.gen(function* () {
      const publisher = yield* makePublisher({ limits: { confirm: Duration.millis(500) } })
      yield* Effect.acquireRelease(
        Effect.promise(() => broker.ctl("set_vm_memory_high_watermark", "0.0000001")),
        () => Effect.promise(() => broker.ctl("set_vm_memory_high_watermark", "0.4"))
      )
      // The broker says that it is blocked to those who publish.
      const blocked = yield* Effect.flip(
        Effect.forever(Effect.andThen(publishOne(publisher, makeEvent()), Effect.sleep("10 millis")))
      )
      assert.strictEqual(blocked.reason._tag, "BrokerUnavailable")
      assert.include(blocked.message, "low on memory")
      assert.strictEqual(yield* publisher.state, "blocked")
      const next = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.include(next.message, "low on memory")
      yield* Effect.promise(() => broker.ctl("set_vm_memory_high_watermark", "0.4"))
      yield* publisher.ready
      assert.strictEqual(yield* publisher.state, "connected")
      yield* publishOne(publisher, makeEvent())
      assert.lengthOf(
        publisher.lines.filter((line) => line.startsWith("Warn")),
        1
      )
    }).pipe(Effect.scoped)
  )

  it.live("gives up on a connection over which no confirm comes, and opens another", () =>
    Effect.gen(function* () {
      const proxy = yield* makeTcpProxy(broker.port)
      const publisher = yield* makePublisher({
        url: `amqp://127.0.0.1:${proxy.port}`,
        limits: { confirm: Duration.millis(300) }
      })
      yield* publishOne(publisher, makeEvent())
      yield* proxy.silence
      const results = yield* publishAll(
        publisher,
        events(10).map((event) => [event])
      )
      assert.lengthOf(results, 10)
      for (const error of results) assert.strictEqual(error.reason._tag, "BrokerUnavailable")
      assert.include(results[0]?.message, "did not confirm in time")
      assert.strictEqual(yield* publisher.state, "disconnected")
      yield* proxy.heal
      // The attempt under way is answered by nobody, and given up after 5 s.
      yield* publisher.ready
      yield* publishOne(publisher, makeEvent())
    }).pipe(Effect.scoped)
  )

  it.live("closes within about a second when the broker does not answer", () =>
    Effect.gen(function* () {
      const proxy = yield* makeTcpProxy(broker.port)
      const scope = yield* Scope.make()
      yield* Scope.provide(makePublisher({ url: `amqp://127.0.0.1:${proxy.port}` }), scope)
      yield* proxy.silence
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 2000)
    }).pipe(Effect.scoped)
  )

  it.live("closes its connection in good order", () =>
    Effect.gen(function* () {
      const proxy = yield* makeTcpProxy(broker.port)
      const scope = yield* Scope.make()
      const publisher = yield* Scope.provide(makePublisher({ url: `amqp://127.0.0.1:${proxy.port}` }), scope)
      yield* publishOne(publisher, makeEvent())
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 500)
      yield* eventually(
        () => Effect.runPromise(proxy.connections),
        (count) => count === 0
      )
      const late = yield* Effect.flip(publishOne(publisher, makeEvent()))
      assert.strictEqual(late.reason._tag, "BrokerUnavailable")
    }).pipe(Effect.scoped)
  )

  it.live("fails the start at once on a wrong password, and does not show it", () =>
    Effect.gen(function* () {
      const url = `amqp://guest:s3cret-word@127.0.0.1:${broker.port}`
      const [took, error] = yield* Effect.timed(Effect.flip(makePublisher({ url })))
      assert.strictEqual(error._tag, "BrokerUnreachable")
      assert.include(error.message, "ACCESS_REFUSED")
      assert.include(error.message, `127.0.0.1:${broker.port}`)
      assert.notInclude(error.message, "s3cret-word")
      assert.isBelow(Duration.toMillis(took), 5000)
    }).pipe(Effect.scoped)
  )

  it.live("fails the start when nothing listens, or nothing answers, for the whole time of the start", () =>
    Effect.gen(function* () {
      const proxy = yield* makeTcpProxy(broker.port)
      yield* proxy.silence
      const limits = { start: Duration.millis(500) }
      const silent = yield* Effect.flip(makePublisher({ url: `amqp://u:pw@127.0.0.1:${proxy.port}`, limits }))
      assert.include(silent.message, `127.0.0.1:${proxy.port}`)
      assert.include(silent.message, "gave up after 500ms")
      const noHost = yield* Effect.flip(makePublisher({ url: `${broker.url}/no-such-host`, limits }))
      assert.include(noHost.message, "/no-such-host: it refused the virtual host")
      // Port 9 is "discard", which nobody offers on a loopback.
      const refused = yield* Effect.flip(makePublisher({ url: "amqp://u:pw@127.0.0.1:9", limits }))
      assert.include(refused.message, "ECONNREFUSED")
      assert.notInclude(refused.message, "pw@")
    }).pipe(Effect.scoped)
  )
})

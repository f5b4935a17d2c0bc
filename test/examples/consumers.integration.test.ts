/**
 * The example consumers, with what a queue brings in bad times: duplicates, stale versions, poison, and their own crashes.
 *
 * Kickoff's own publisher sends the events. A consumer has the rights that docs/EVENTS.md gives it, and no more.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll } from "vitest"
import { examples } from "../../scripts/docs/events.ts"
import { type CloudEvent, cloudEventContentType, type GameEventType } from "../../src/domain/GameEvent.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { Settings } from "../../src/Settings.ts"
import { openChannel, publishOne } from "../messaging/consumer.ts"
import { eventually } from "../support/games.ts"
import { findPython } from "../support/pika.ts"
import { type Broker, makeBroker } from "../support/rabbitmq.ts"
import { type Program, startProcess } from "../support/service.ts"

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

const consumers: ReadonlyArray<readonly [language: string, program: () => Promise<string>, script: string]> = [
  ["typescript", async () => process.execPath, file("examples/typescript/consumer.ts")],
  ["python", findPython, file("examples/python/consumer.py")]
]

let broker: Broker
beforeAll(async () => {
  broker = await makeBroker()
}, 120_000)
afterAll(() => broker.stop())

/** The arguments of the commands for `rabbitmqctl` on the page, for another service than the one that they are about. */
const commandsOfPage = (service: string, password: string): ReadonlyArray<ReadonlyArray<string>> =>
  [...readFileSync(file("docs/EVENTS.md"), "utf8").matchAll(/^rabbitmqctl (.*)$/gm)].map(([, line = ""]) =>
    [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) =>
      (single ?? double ?? bare ?? "").replaceAll("my-service", service).replaceAll("$PASSWORD", password)
    )
  )

const publisher = Layer.unwrap(
  Effect.sync(() =>
    RabbitPublisher.layer.pipe(
      Layer.provide(Settings.layerWith({ rabbitmqUrl: Option.some(Redacted.make(broker.url)) }))
    )
  )
)

/** A consumer's user, folder and queue, and what the test does to it. */
const makeWorld = Effect.fnUntraced(function* (language: string, findProgram: () => Promise<string>, script: string) {
  const queue = `${language}-${randomUUID().slice(0, 8)}`
  const program = yield* Effect.promise(findProgram)
  const password = randomUUID()
  const commands = commandsOfPage(queue, password)
  assert.lengthOf(commands, 2)
  for (const command of commands) yield* Effect.promise(() => broker.ctl(...command))
  const url = new URL(broker.url)
  url.username = queue
  url.password = password
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-consumer-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )
  const env = {
    ...process.env,
    RABBITMQ_URL: url.href,
    QUEUE: queue,
    DATABASE: join(folder, "consumer.db"),
    RETRY_DELAY_MS: "100",
    PYTHONDONTWRITEBYTECODE: "1"
  }
  const channel = yield* openChannel(broker.url)
  const publish = Effect.fnUntraced(function* (...events: ReadonlyArray<CloudEvent>) {
    const service = yield* Publisher
    for (const event of events) yield* publishOne(service, event)
  })
  return {
    queue,
    channel,
    publish,
    start: Effect.gen(function* () {
      const consumer = yield* startProcess(() => spawn(program, [script], { cwd: folder, env }))
      yield* consumer.output(/^Consuming/m)
      return consumer
    }),
    stop: (consumer: Program) => Effect.andThen(consumer.kill("SIGTERM"), consumer.ended),
    /** Messages that wait in a queue; those that a consumer has are none of them. */
    waiting: (name: string) => Effect.promise(async () => (await channel.checkQueue(name)).messageCount),
    announcements: Effect.sync(() => {
      const database = new DatabaseSync(env.DATABASE, { readOnly: true, timeout: 5000 })
      const rows = database.prepare("SELECT text FROM announcements ORDER BY rowid").all()
      database.close()
      return rows.map(({ text }) => String(text))
    })
  }
})

/** How often a consumer has said what became of an event, or of any. */
const saidOf = (consumer: Program, what: string, id = "") =>
  consumer
    .stdout()
    .split("\n")
    .filter((line) => line.startsWith(`${what} `) && line.includes(id)).length

/** Waits for something that takes a consumer which runs. */
const until = <A, E, R>(consumer: Program, look: Effect.Effect<A, E, R>, condition: (value: A) => boolean) =>
  Effect.raceFirst(
    eventually(look, condition),
    Effect.flatMap(consumer.ended, ({ code }) =>
      Effect.die(new Error(`the consumer has ended, with exit code ${code}`))
    )
  )

/** Waits until a consumer has said so many times what became of an event, or of any. */
const says = (consumer: Program, what: string, id = "", times = 1) =>
  until(
    consumer,
    Effect.sync(() => saidOf(consumer, what, id)),
    (count) => count >= times
  )

const event = (type: GameEventType, game_id: string, version: number, data: CloudEvent["data"] = {}): CloudEvent => ({
  ...examples[type],
  id: randomUUID(),
  subject: game_id,
  data: { ...examples[type].data, game_id, version, ...data }
})

describe.each(consumers)("the consumer in %s", (...consumer) => {
  it.live(
    "acts once on what comes twice, not on what is late, and parks what is broken",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld(...consumer)
        const { channel, publish, queue } = world
        const running = yield* world.start
        const game = randomUUID()
        const started = event("game.started", game, 3, { title: "Catan" })
        const stale = event("game.updated", game, 2, { title: "an old title" })
        const sameVersion = event("game.updated", game, 3, { title: "Catan", status: "IN_PROGRESS" })
        yield* publish(event("game.created", game, 1), started, started, stale, sameVersion)
        yield* says(running, "handled", started.id)
        yield* says(running, "duplicate", started.id)
        yield* says(running, "stale", stale.id)
        yield* says(running, "handled", sameVersion.id)

        const poison = event("game.started", randomUUID(), 1, { title: null })
        const garbage = { id: randomUUID(), content: Buffer.from('{"id": ') }
        const reminder = event("game.reminder_due", randomUUID(), 1, { title: "Go" })
        yield* publish(poison)
        channel.publish("kickoff.events", "game.started", garbage.content, {
          messageId: garbage.id,
          type: "game.started",
          contentType: cloudEventContentType
        })
        yield* publish(reminder)
        // What is broken holds up nobody.
        yield* says(running, "handled", reminder.id)
        for (const { id } of [poison, garbage]) {
          yield* says(running, "parked", id)
          assert.strictEqual(saidOf(running, "failed", id), 5)
        }
        yield* eventually(world.waiting(`${queue}.parked`), (messages) => messages === 2)

        // As it came; and moved back it begins anew.
        const parked = yield* Effect.promise(async () => {
          const message = await channel.get(`${queue}.parked`, { noAck: true })
          return message === false ? assert.fail("the parked message is gone") : message
        })
        assert.deepInclude(parked.properties, {
          messageId: poison.id,
          type: "game.started",
          contentType: cloudEventContentType,
          appId: "kickoff",
          deliveryMode: 2
        })
        assert.deepStrictEqual(JSON.parse(parked.content.toString()), poison)
        const { headers = {}, messageId, type } = parked.properties
        channel.sendToQueue(queue, parked.content, { headers, messageId, type })
        yield* says(running, "failed", poison.id, 10)
        yield* says(running, "parked", poison.id, 2)

        assert.deepStrictEqual(yield* world.announcements, ["Catan begins", "Go begins in 15 minutes"])
        assert.deepStrictEqual(yield* world.stop(running), { code: 0, signal: null })
        assert.deepStrictEqual([yield* world.waiting(queue), yield* world.waiting(`${queue}.wait`)], [0, 0])
      }).pipe(Effect.scoped, Effect.provide(publisher)),
    60_000
  )

  it.live(
    "loses nothing and does nothing twice when it is killed or stopped amid its work",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld(...consumer)
        const { publish, queue } = world
        // It makes the queue.
        assert.deepStrictEqual(yield* world.stop(yield* world.start), { code: 0, signal: null })
        const games: Array<{ readonly id: string; readonly title: string }> = []
        for (const end of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
          const more = Array.from({ length: 60 }, (_, n) => ({
            id: randomUUID(),
            title: `Game ${end} ${games.length + n}`
          }))
          games.push(...more)
          const events = more.map(({ id, title }) => event("game.started", id, 2, { title }))
          yield* Effect.forEach(events, (each) => publish(each, each), { concurrency: 20 })
          const running = yield* world.start
          yield* says(running, "handled", "", 10)
          yield* running.kill(end)
          const expected = end === "SIGTERM" ? { code: 0, signal: null } : { code: null, signal: end }
          assert.deepStrictEqual(yield* running.ended, expected)
        }

        const last = yield* world.start
        yield* until(last, world.announcements, (texts) => texts.length >= games.length)
        const stale = event("game.updated", games[0]?.id ?? "", 1)
        yield* publish(stale)
        yield* says(last, "stale", stale.id)
        assert.deepStrictEqual(yield* world.stop(last), { code: 0, signal: null })
        assert.sameMembers(
          [...(yield* world.announcements)],
          games.map(({ title }) => `${title} begins`)
        )
        for (const name of [queue, `${queue}.wait`, `${queue}.parked`]) {
          assert.strictEqual(yield* world.waiting(name), 0, name)
        }
      }).pipe(Effect.scoped, Effect.provide(publisher)),
    60_000
  )
})

/**
 * A consumer of Kickoff's events, to copy: it acts on each event once, whatever comes twice, late or broken, and however
 * it ends.
 *
 * All that an event does is one transaction in SQLite: its id, the game's version and the work itself. Only then is the
 * message acknowledged. A crash in between brings it again, and its id tells that it was handled.
 */
import { connect, type ConsumeMessage } from "amqplib"
import { DatabaseSync } from "node:sqlite"

const {
  RABBITMQ_URL = "amqp://localhost",
  RABBITMQ_EXCHANGE = "kickoff.events",
  QUEUE = "example-typescript",
  DATABASE = "consumer.db",
  RETRY_DELAY_MS = "5000"
} = process.env

/** How often a message may fail before it is parked. */
const maxFailures = 5

/** What this consumer needs of an event; docs/schemas has all of it. */
interface GameEvent {
  readonly id: string
  readonly type: string
  readonly data: {
    readonly game_id: string
    readonly version: number
    readonly status: string
    readonly title: string
    readonly scheduled_at: string
    readonly reminder_minutes?: number
  }
}

// Whoever reads the file meanwhile may hold up a commit.
const database = new DatabaseSync(DATABASE, { timeout: 5000 })
database.exec(`
  CREATE TABLE IF NOT EXISTS handled_events (
    id TEXT NOT NULL PRIMARY KEY,
    handled_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
  );
  CREATE TABLE IF NOT EXISTS games (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    title TEXT NOT NULL,
    scheduled_at TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS announcements (text TEXT NOT NULL);
  DELETE FROM handled_events WHERE handled_at < datetime('now', '-90 days');
`)
const remember = database.prepare("INSERT INTO handled_events (id) VALUES (?) ON CONFLICT DO NOTHING")
// Games that were deleted keep their row: their version is what tells a late event from a new one.
const advance = database.prepare(`
  INSERT INTO games (id, version, status, title, scheduled_at) VALUES (?, ?, ?, ?, ?)
  ON CONFLICT (id) DO UPDATE
  SET version = excluded.version, status = excluded.status, title = excluded.title, scheduled_at = excluded.scheduled_at
  WHERE excluded.version >= games.version`)
const announce = database.prepare("INSERT INTO announcements (text) VALUES (?)")

const inTransaction = <A>(work: () => A): A => {
  database.exec("BEGIN IMMEDIATE")
  try {
    const result = work()
    database.exec("COMMIT")
    return result
  } catch (error) {
    database.exec("ROLLBACK")
    throw error
  }
}

const handle = ({ data, id, type }: GameEvent): "handled" | "duplicate" | "stale" => {
  if (remember.run(id).changes === 0) return "duplicate"
  // Events of one change of a game have the same version, so only a lower one is stale.
  const { changes } = advance.run(data.game_id, data.version, data.status, data.title, data.scheduled_at)
  if (changes === 0) return "stale"
  // Your own work comes here, in the same transaction.
  if (type === "game.started") announce.run(`${data.title} begins`)
  if (type === "game.reminder_due") announce.run(`${data.title} begins in ${data.reminder_minutes} minutes`)
  return "handled"
}

/** The disk is full or the file locked: that is no fault of the message, and would be the same with the next. */
const isDatabaseTrouble = (error: unknown): boolean =>
  error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) !== sqliteConstraint
const sqliteConstraint = 19

const say = (what: string, { properties }: ConsumeMessage, more = "") =>
  process.stdout.write(`${what} ${String(properties.type)} ${String(properties.messageId)}${more}\n`)

/** Whoever runs this starts it again; what was not acknowledged is delivered again. */
const end = (reason: string): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(1)
}

const connection = await connect(RABBITMQ_URL)
const channel = await connection.createConfirmChannel()

// A message that failed rests in the queue for retries until its time is over, then comes back; the broker counts how often.
const retries = `${QUEUE}.retries`
const quorum = (more: Record<string, unknown>) => ({ durable: true, arguments: { "x-queue-type": "quorum", ...more } })
const thenTo = (routingKey: string) => ({
  "x-dead-letter-exchange": retries,
  "x-dead-letter-routing-key": routingKey,
  // Dead letters are moved with confirms, which needs this overflow; otherwise a broker that fails may lose them.
  "x-dead-letter-strategy": "at-least-once",
  "x-overflow": "reject-publish"
})
await channel.assertExchange(retries, "direct", { durable: true })
// One consumer at a time keeps the order, however many run. A message that brings them down again and again counts as failed.
await channel.assertQueue(
  QUEUE,
  quorum({ ...thenTo("wait"), "x-single-active-consumer": true, "x-delivery-limit": 20 })
)
await channel.assertQueue(`${QUEUE}.wait`, quorum({ ...thenTo("again"), "x-message-ttl": Number(RETRY_DELAY_MS) }))
await channel.assertQueue(`${QUEUE}.parked`, quorum({}))
await channel.bindQueue(`${QUEUE}.wait`, retries, "wait")
await channel.bindQueue(`${QUEUE}.parked`, retries, "parked")
await channel.bindQueue(QUEUE, retries, "again")
await channel.bindQueue(QUEUE, RABBITMQ_EXCHANGE, "game.*")

const failuresOf = ({ properties }: ConsumeMessage): number =>
  (properties.headers?.["x-death"] ?? [])
    .filter((death) => death.queue === QUEUE)
    .reduce((sum, death) => sum + death.count, 0)

/** Puts a message where a person finds it, as it came. It is acknowledged once the broker has it there. */
const park = (message: ConsumeMessage) => {
  // Moved back into the queue one day, it starts anew.
  const { appId, contentType, headers = {}, messageId, timestamp, type } = message.properties
  delete headers["x-death"]
  channel.publish(
    retries,
    "parked",
    message.content,
    { appId, contentType, headers, messageId, timestamp, type, persistent: true, mandatory: true },
    (error) => {
      if (error !== null) end(`A message could not be parked: ${String(error)}`)
      say("parked", message)
      channel.ack(message)
    }
  )
}

let stopping = false
connection.on("error", (error) => end(error.message))
connection.on("close", () => stopping || end("The connection was closed"))
channel.on("error", (error) => end(error.message))

await channel.prefetch(20)
const { consumerTag } = await channel.consume(QUEUE, (message) => {
  if (message === null) return end("The queue is gone")
  if (failuresOf(message) >= maxFailures) return park(message)
  try {
    // Whatever it is: a member that is missing does not get past the tables.
    const event = JSON.parse(message.content.toString()) as GameEvent
    say(
      inTransaction(() => handle(event)),
      message
    )
    channel.ack(message)
  } catch (error) {
    if (isDatabaseTrouble(error)) end(String(error))
    say("failed", message, `: ${String(error)}`)
    channel.nack(message, false, false)
  }
})

const stop = async () => {
  stopping = true
  await channel.cancel(consumerTag)
  await channel.waitForConfirms()
  await channel.close()
  await connection.close()
  database.close()
}
process.once("SIGTERM", () => void stop())
process.once("SIGINT", () => void stop())
process.stdout.write(`Consuming ${QUEUE}\n`)

/**
 * What Kickoff is compared with: a program that does the same work in the shortest way that could work.
 *
 * A peer is a file that describes itself as a `Peer` and, run as a program, plays. It is told when games are planned and
 * says when none is left, so that it does nothing while others are measured.
 */
import { NodeRuntime } from "@effect/platform-node"
import type { PgConnection } from "@effect/sql-pg"
import { type ConfirmChannel, connect as connectBroker } from "amqplib"
import { Effect, Scope } from "effect"
import type { SqlError } from "effect/sql"
import { startProgram } from "./childProcess.ts"
import { consume, startedType } from "./consumer.ts"
import { Servers } from "./Servers.ts"
import { connect } from "./sql.ts"
import type { Subject } from "./Subject.ts"

export interface Peer {
  readonly name: string
  /** The program's file. */
  readonly file: string
  /** Statements that create its tables. */
  readonly schema: ReadonlyArray<string>
  /** See {@link Subject.plan}. */
  readonly plan: string
  /** Empties its tables. */
  readonly clear: string
}

/** Starts a peer on a fresh database; it stops when the scope closes. */
export const startPeer = Effect.fnUntraced(function* (peer: Peer, name: string) {
  const servers = yield* Servers
  const url = yield* servers.createDatabase(name)
  const database = yield* connect(url)
  for (const statement of peer.schema) yield* database.query(statement)
  const exchange = `${name}.events`
  const consumer = yield* consume(servers.rabbitmqUrl, { name: exchange })
  const program = yield* startProgram({
    name: peer.name,
    args: [peer.file],
    env: { DATABASE_URL: url, RABBITMQ_URL: servers.rabbitmqUrl, RABBITMQ_EXCHANGE: exchange }
  })
  const said = (word: string) =>
    program.next((output) => (output._tag === "message" && output.message === word ? word : undefined))
  yield* said("ready")
  return {
    name: peer.name,
    database,
    consumer,
    plan: peer.plan,
    begin: program.send({ begin: true }),
    settle: Effect.andThen(said("done"), database.query(peer.clear))
  } satisfies Subject
})

/** What a peer's program works with. */
export interface Means {
  readonly connect: Effect.Effect<PgConnection.PgConnection, SqlError.SqlError>
  /** Publishes events, persistent, and waits until all of them are confirmed. */
  readonly publish: (events: ReadonlyArray<OutgoingEvent>) => Effect.Effect<void>
}

export interface OutgoingEvent {
  readonly id: string
  readonly game_id: string
  readonly time: string
  /** JSON text. */
  readonly data: string
}

/** The program of a peer: connects, then runs `play` whenever it is told that games are planned. */
export const runPeer = <E>(prepare: (means: Means) => Effect.Effect<Effect.Effect<void, E>, E>): void => {
  const { DATABASE_URL: url = "", RABBITMQ_EXCHANGE: exchange = "", RABBITMQ_URL: rabbitmqUrl = "" } = process.env
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const channel = yield* Effect.promise(async () => {
      const connection = await connectBroker(rabbitmqUrl)
      return connection.createConfirmChannel()
    })
    const play = yield* prepare({
      connect: Effect.provideService(connect(url), Scope.Scope, scope),
      publish: (events) => publishAll(channel, exchange, events)
    })
    process.once("disconnect", () => process.exit())
    process.send?.("ready")
    for (;;) {
      yield* Effect.callback<void>((resume) => void process.once("message", () => resume(Effect.void)))
      yield* play
      process.send?.("done")
    }
  }).pipe(Effect.scoped, NodeRuntime.runMain)
}

const publishAll = (channel: ConfirmChannel, exchange: string, events: ReadonlyArray<OutgoingEvent>) =>
  Effect.callback<void>((resume) => {
    let unconfirmed = events.length
    const onConfirm = (error: unknown) => {
      if (error !== null) resume(Effect.die(error))
      else if (--unconfirmed === 0) resume(Effect.void)
    }
    for (const { data, game_id, id, time } of events) {
      const body =
        `{"specversion":"1.0","id":"${id}","source":"/bench","type":"${startedType}","subject":"${game_id}",` +
        `"time":"${time}","datacontenttype":"application/json","data":${data}}`
      channel.publish(
        exchange,
        startedType,
        Buffer.from(body),
        { persistent: true, messageId: id, type: startedType, contentType: "application/cloudevents+json" },
        onConfirm
      )
    }
  })

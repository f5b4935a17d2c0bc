/**
 * What Kickoff is compared with: a program that does the same work, by hand or by a library.
 *
 * A peer is a file that describes itself as a `Peer` and, run as a program, plays. It is told when games are planned and
 * says when the last event is confirmed, so that it does nothing while others are measured.
 */
import { NodeRuntime } from "@effect/platform-node"
import type { PgConnection } from "@effect/sql-pg"
import { connect as connectBroker } from "amqplib"
import { Effect, Scope } from "effect"
import type { SqlError } from "effect/sql"
import { inspect } from "node:util"
import { BenchError } from "./BenchError.ts"
import { startProgram } from "./childProcess.ts"
import { now } from "./clock.ts"
import { consume, startedType } from "./consumer.ts"
import { Servers } from "./Servers.ts"
import { connect } from "./sql.ts"
import type { Subject } from "./Subject.ts"

export interface Peer {
  readonly name: string
  /** The program's file. */
  readonly file: string
  /** The program's arguments, which say how it is set. */
  readonly args?: ReadonlyArray<string>
  /** Statements that create its tables, run before the program. */
  readonly schema: ReadonlyArray<string>
  /** See {@link Subject.plan}. */
  readonly plan: Subject["plan"]
  /** Empties its tables. */
  readonly clear: string
}

/** Games of a peer, which are what Kickoff has of a game that an event needs. */
export const gamesTable = `
  CREATE TABLE games (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), guild_id text NOT NULL, title text NOT NULL,
    status text NOT NULL DEFAULT 'SCHEDULED', due_at timestamptz NOT NULL, version integer NOT NULL DEFAULT 1)`

/** Inserts games; see {@link Subject.plan} for the parameters. */
export const insertGames = `
  INSERT INTO games (guild_id, title, due_at)
  SELECT 'bench', 'Game ' || n,
    date_trunc('milliseconds', statement_timestamp()) + ($2::float8 + due) * interval '1 millisecond'
  FROM unnest($1::float8[]) WITH ORDINALITY AS game (due, n)
  RETURNING id, due_at`

/** What is told of a game that was just started, in the order of {@link OutgoingEvent}; for a RETURNING clause. */
export const startedColumns = `
  id AS game_id, now()::text AS time, jsonb_build_object(
    'game_id', id, 'title', title, 'guild_id', guild_id, 'channel_id', NULL, 'host_id', NULL, 'status', status,
    'scheduled_at', due_at, 'version', version, 'transition_time', due_at,
    'lateness_ms', round(extract(epoch FROM clock_timestamp() - due_at) * 1000, 3))::text AS data`

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
    args: [peer.file, ...(peer.args ?? [])],
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
    bulk: { before: [], after: [] },
    begin: (games) => program.send({ games }),
    pids: [program.pid],
    lastConfirm: (_, clock) => Effect.map(said("confirmed"), () => now() + clock.offset),
    settle: Effect.andThen(said("done"), database.query(peer.clear))
  } satisfies Subject
})

/** What a peer's program works with. */
export interface Means {
  readonly url: string
  /** A session on a bare driver, which lives as long as the program. */
  readonly connect: Effect.Effect<PgConnection.PgConnection, SqlError.SqlError>
  /** Publishes events, persistent, and waits until all of them are confirmed. */
  readonly publish: (events: ReadonlyArray<OutgoingEvent>) => Promise<void>
}

export interface OutgoingEvent {
  readonly id: string
  readonly game_id: string
  readonly time: string
  /** JSON text. */
  readonly data: string
}

/**
 * The program of a peer: connects, then plays whenever it is told that so many games are planned.
 *
 * @param prepare what is done once; what it returns plays until as many events are confirmed, and its scope is closed
 *   after that was said
 */
export const runPeer = <E>(
  prepare: (means: Means) => Effect.Effect<(games: number) => Effect.Effect<void, E, Scope.Scope>, E>
): void => {
  const { DATABASE_URL: url = "", RABBITMQ_EXCHANGE: exchange = "", RABBITMQ_URL: rabbitmqUrl = "" } = process.env
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const play = yield* prepare({
      url,
      connect: Effect.provideService(connect(url), Scope.Scope, scope),
      publish: yield* Effect.promise(() => connectPublisher(rabbitmqUrl, exchange))
    })
    process.once("disconnect", () => process.exit())
    process.send?.("ready")
    for (;;) {
      const games = yield* Effect.callback<number>((resume) => {
        process.once("message", (message: { readonly games: number }) => resume(Effect.succeed(message.games)))
      })
      yield* Effect.scoped(
        Effect.andThen(
          play(games),
          Effect.sync(() => process.send?.("confirmed"))
        )
      )
      process.send?.("done")
    }
  }).pipe(Effect.scoped, NodeRuntime.runMain)
}

const connectPublisher = async (url: string, exchange: string): Promise<Means["publish"]> => {
  const connection = await connectBroker(url)
  const channel = await connection.createConfirmChannel()
  return (events) =>
    new Promise((resolve, reject) => {
      let unconfirmed = events.length
      const onConfirm = (error: unknown) => {
        if (error !== null) reject(new BenchError({ detail: `an event was not confirmed: ${inspect(error)}` }))
        else if (--unconfirmed === 0) resolve()
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
}

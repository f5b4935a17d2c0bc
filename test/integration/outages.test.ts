/**
 * The engine while its database goes away: crashed and started again, sessions killed, connections that went silent.
 *
 * The server is the test's own, because others could not bear this. Each replica is wired as the service wires it: a
 * session for each loop, and LISTEN and the relay's lock on sessions of their own.
 */
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Fiber, Layer, Logger, Metric, Queue, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { Health, type Loop } from "../../src/observability/Health.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Database } from "../../src/postgres/Database.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { migrate } from "../../src/postgres/migrations.ts"
import type * as DueLoop from "../../src/scheduling/DueLoop.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { Settings } from "../../src/Settings.ts"
import { answeringPublisher } from "../support/answeringPublisher.ts"
import { runDaemons } from "../support/daemons.ts"
import { eventually, insertGame, insertTransition } from "../support/games.ts"
import { embeddedBinaries, type PostgresServer, startPostgres } from "../support/postgres.ts"
import { makeTcpProxy, type TcpProxy } from "../support/TcpProxy.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"

class PrivateServer extends Context.Service<PrivateServer, PostgresServer>()("kickoff/test/integration/PrivateServer") {
  static readonly layer = Layer.effect(
    PrivateServer,
    Effect.acquireRelease(
      Effect.promise(async () => startPostgres(await embeddedBinaries())),
      (server) => Effect.promise(server.stop)
    )
  )
}

/** What a replica published. */
interface Received {
  readonly replica: string
  readonly event: CloudEvent
}

interface Outage {
  readonly url: Redacted.Redacted
  readonly received: Queue.Queue<Received>
}

/** The test's database and what was published from it; the client is one that the outages of others leave alone. */
class Scene extends Context.Service<Scene, Outage>()("kickoff/test/integration/Scene") {
  static readonly layer = Layer.unwrap(
    Effect.gen(function* () {
      const server = yield* PrivateServer
      const url = yield* makeTestDatabase({ server: server.url, migrated: false })
      const client = Database.layer({ url, connections: 1, name: "test" })
      yield* Effect.provide(migrate, client)
      const received = yield* Queue.unbounded<Received>()
      return Layer.merge(Layer.succeed(Scene, Scene.of({ url, received })), client)
    })
  )
}

interface ReplicaOptions {
  readonly name?: string
  /** Where each part finds the database; directly unless told otherwise. */
  readonly loops?: Redacted.Redacted
  readonly outbox?: Redacted.Redacted
  readonly listener?: Redacted.Redacted
  readonly relay?: Redacted.Redacted
  /** Gets what the replica logs, each line after its level. */
  readonly lines?: Array<string>
}

/** A process, as far as the database knows; never ends. */
const replica = (options: ReplicaOptions = {}) =>
  Effect.gen(function* () {
    const { received, url } = yield* Scene
    const session = (name: string, address = url) => Database.layer({ url: address, connections: 1, name })
    const name = options.name ?? "the only one"
    const publisher = Layer.succeed(
      Publisher,
      answeringPublisher((event) => Effect.asVoid(Queue.offer(received, { replica: name, event })))
    )
    const services = Layer.mergeAll(
      StatusTransitionRepository.layer.pipe(Layer.provide(session("status-transitions", options.loops))),
      NotificationRepository.layer.pipe(Layer.provide(session("notifications", options.loops))),
      OutboxRepository.layer.pipe(Layer.provide(session("outbox", options.outbox))),
      OutboxSignal.layer.pipe(Layer.provide(session("pool", options.loops))),
      Listener.layer(options.listener ?? url),
      publisher,
      Settings.layerWith({})
    ).pipe(
      Layer.provideMerge(Health.layer),
      Layer.provideMerge(
        Logger.layer(
          options.lines === undefined
            ? []
            : [
                Logger.make(({ logLevel, message }) => {
                  options.lines?.push(`${logLevel}: ${[message].flat().join(" ")}`)
                })
              ]
        )
      )
    )
    // What several replicas have in common is not to be shared between them.
    return yield* Effect.provide(runDaemons(options.relay ?? url), Layer.fresh(services))
  })

/** Takes events until every one of the games has started; returns the ids of the `game.started` of each, without repeats. */
const starts = (games: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { received } = yield* Scene
    const started = new Map(games.map((id) => [id, new Set<string>()]))
    const note = ({ event }: Received) => {
      if (event.type === "game.started") started.get(event.subject)?.add(event.id)
    }
    while ([...started.values()].some((ids) => ids.size === 0)) note(yield* Queue.take(received))
    return { started, note }
  })

/** Waits until all of the games have started and the outbox is empty, and asserts that each has started once. */
const assertAllStartOnce = (games: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { received } = yield* Scene
    const sql = yield* SqlClient.SqlClient
    const { note, started } = yield* starts(games)
    yield* eventually(sql`SELECT id FROM outbox LIMIT 1`, (rows) => rows.length === 0)
    for (const late of yield* Queue.clear(received)) note(late)
    assert.deepStrictEqual(
      [...started.values()].map((ids) => ids.size),
      games.map(() => 1),
      "events of each game"
    )
    const rows = yield* sql<{ readonly games: number }>`
      SELECT count(*)::int AS games FROM game_sessions WHERE status = 'IN_PROGRESS' AND version = 2`
    assert.deepStrictEqual(rows, [{ games: games.length }])
    const early = yield* sql`
      SELECT id FROM game_status_schedule WHERE executed AND executed_at < transition_time`
    assert.isEmpty(early)
  })

/** Inserts games that start `first` ms from now and then every so many milliseconds, and returns their ids. */
const planMany = (count: number, first: number, apart: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly game_id: string }>`
      WITH game AS (
        INSERT INTO game_sessions (guild_id, title, scheduled_at)
        SELECT 'guild', 'a game',
          clock_timestamp() + (${first}::float8 + n * ${apart}::float8) * interval '1 millisecond'
        FROM generate_series(0, ${count}::int - 1) AS n
        RETURNING id, scheduled_at
      )
      INSERT INTO game_status_schedule (game_id, target_status, transition_time)
      SELECT id, 'IN_PROGRESS', scheduled_at FROM game
      RETURNING game_id`
    return rows.map((row) => row.game_id)
  })

/** Inserts one game that starts in so many milliseconds, and returns its id. */
const planOne = (startsInMs: number) =>
  Effect.gen(function* () {
    const id = yield* insertGame(startsInMs)
    yield* insertTransition(id, "IN_PROGRESS", startsInMs)
    return id
  })

/** The sessions of the replicas, or those of one part of them. */
const sessions = (part?: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly pid: number }>`
      SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name NOT LIKE 'kickoff:test@%'
        AND (${part === undefined} OR application_name LIKE ${`kickoff:${part ?? ""}@%`})`
    return rows.map(({ pid }) => pid)
  })

/** Kills sessions and waits until they are gone. */
const kill = (pids: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`SELECT pg_terminate_backend(pid) FROM unnest(${pids}::int[]) AS pid`
    yield* eventually(sessions(), (left) => !left.some((pid) => pids.includes(pid)))
  })

/** The session that holds the relay's lock. */
const leader = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly pid: number }>`
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
  return rows[0]?.pid
})

/** Waits until a replica relays, listens and has looked at both of its schedules, so that it rests. */
const atRest = Effect.gen(function* () {
  yield* eventually(leader, (pid) => pid !== undefined)
  for (const part of ["listener", "status-transitions", "notifications"]) {
    yield* eventually(sessions(part), (pids) => pids.length > 0)
  }
  // One that starts by itself has gone the whole way.
  yield* starts([yield* planOne(50)])
  const sql = yield* SqlClient.SqlClient
  yield* sql`DELETE FROM game_sessions`
})

/** Runs a test beside its replicas; one that ends takes the test down with it. */
const beside = <A, E, R, E2, R2>(daemon: Effect.Effect<unknown, E, R>, test: Effect.Effect<A, E2, R2>) =>
  Effect.raceFirst(Effect.andThen(daemon, Effect.die(new Error("a replica has ended"))), test)

const proxied = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const address = new URL(Redacted.value(url))
    const proxy: TcpProxy = yield* makeTcpProxy(Number(address.port))
    address.port = String(proxy.port)
    return { proxy, url: Redacted.make(address.href) }
  })

/** How long an effect takes, in seconds. */
const seconds = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    yield* effect
    return ((yield* Clock.currentTimeMillis) - began) / 1000
  })

/** Until the test's own connections are new ones. */
const reachable = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.retry(sql`SELECT 1`, Schedule.spaced("20 millis"))
})

/** Whether the listener says that it is up: 1 or 0. */
const up = Effect.map(Metric.value(Metrics.listenerUp), (state) => state.value)

const wakeUps = (loop: Loop, cause: DueLoop.WakeUp) =>
  Effect.map(Metric.value(Metric.withAttributes(Metrics.wakeUps, { loop, cause })), (state) => state.count)

/** By how many milliseconds the game's event says that it started late. */
const lateness = (game: string) =>
  Effect.gen(function* () {
    const { received } = yield* Scene
    for (;;) {
      const { event } = yield* Queue.take(received)
      if (event.type === "game.started" && event.subject === game) return Number(event.data["lateness_ms"])
    }
  })

/** A role that may do all that the service does, until the scope closes, and the database's address with it. */
const makeRole = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { url } = yield* Scene
  const role = `service_${randomBytes(4).toString("hex")}`
  yield* Effect.acquireRelease(
    Effect.gen(function* () {
      yield* sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD 's3cret'`)
      yield* sql.unsafe(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`)
    }),
    () => Effect.orDie(Effect.andThen(sql.unsafe(`DROP OWNED BY ${role}`), sql.unsafe(`DROP ROLE ${role}`)))
  )
  const address = new URL(Redacted.value(url))
  address.username = role
  address.password = "s3cret"
  return { role, url: Redacted.make(address.href), alter: (what: string) => sql.unsafe(`ALTER ROLE ${role} ${what}`) }
})

layer(PrivateServer.layer, { timeout: "60 seconds", excludeTestServices: true })("while the database is away", (it) => {
  it.effect("games due during a crash of the server start by themselves within 5 s of its return, each once", () =>
    Effect.gen(function* () {
      const server = yield* PrivateServer
      yield* beside(
        replica(),
        Effect.gen(function* () {
          yield* atRest
          // The first ones fall due when the server crashes, the last ones after it is back.
          const games = yield* planMany(200, 0, 25)
          yield* Effect.sleep("500 millis")
          yield* Effect.promise(server.halt)
          yield* Effect.sleep("4 seconds")
          yield* Effect.promise(server.resume)
          const took = yield* seconds(Effect.andThen(reachable, assertAllStartOnce(games)))
          assert.isBelow(took, 5)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("100 games start once while all sessions are killed ten times", () =>
    beside(
      replica(),
      Effect.gen(function* () {
        yield* atRest
        const games = yield* planMany(100, 200, 10)
        yield* Effect.repeat(
          Effect.andThen(Effect.flatMap(sessions(), kill), Effect.sleep("100 millis")),
          Schedule.recurs(9)
        )
        yield* assertAllStartOnce(games)
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect.each([
    { name: "login", revoke: "NOLOGIN", restore: "LOGIN" },
    { name: "password", revoke: "PASSWORD 'another'", restore: "PASSWORD 's3cret'" }
  ])("a replica whose role has lost its $name says so once in each part, and goes on when it has it again", (case_) =>
    Effect.gen(function* () {
      const { alter, role, url } = yield* makeRole
      const lines: Array<string> = []
      yield* beside(
        replica({ loops: url, outbox: url, listener: url, relay: url, lines }),
        Effect.gen(function* () {
          yield* atRest
          const games = yield* planMany(50, 200, 20)
          yield* alter(case_.revoke)
          yield* Effect.flatMap(sessions(), kill)
          const errors = () => lines.filter((line) => line.startsWith("Error"))
          const parts = ["listener", "notifications", "outbox", "status-transitions"]
          yield* eventually(Effect.sync(errors), (said) => said.length >= parts.length)
          yield* alter(case_.restore)
          yield* assertAllStartOnce(games)
          assert.sameMembers(
            errors().map((line) => /^Error: (\S+) is interrupted/.exec(line)?.[1]),
            parts
          )
          for (const line of errors()) {
            assert.match(line, new RegExp(`"${role}".*; the role .*ALTER ROLE`))
            assert.notInclude(line, "s3cret")
          }
        })
      )
    }).pipe(Effect.scoped, Effect.provide(Scene.layer))
  )

  it.effect("a row inserted while nobody listens is found when the listener is back", () =>
    beside(
      replica(),
      Effect.gen(function* () {
        yield* atRest
        const before = yield* wakeUps("status-transitions", "reconnect")
        yield* Effect.flatMap(sessions("listener"), kill)
        const game = yield* planOne(0)
        assert.isBelow(yield* seconds(starts([game])), 2)
        yield* eventually(wakeUps("status-transitions", "reconnect"), (count) => count > before)
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect("events go on when the session that holds the relay's lock was killed", () =>
    beside(
      replica(),
      Effect.gen(function* () {
        yield* atRest
        const before = yield* leader
        yield* Effect.flatMap(sessions("relay"), kill)
        const game = yield* planOne(0)
        assert.isBelow(yield* seconds(starts([game])), 2)
        assert.notStrictEqual(yield* leader, before)
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect("events whose process was killed before it could tell of them are found all the same", () =>
    beside(
      replica(),
      Effect.gen(function* () {
        yield* atRest
        const { received } = yield* Scene
        const sql = yield* SqlClient.SqlClient
        // The backstop, a minute, is longer than this test may take.
        const found = wakeUps("outbox", "backstop")
        const before = yield* found
        const tellNobody = Effect.gen(function* () {
          const rows = yield* sql<{ readonly event_id: string }>`
            INSERT INTO outbox (game_id, type, data) VALUES (gen_random_uuid(), 'game.created', '{}') RETURNING event_id`
          const { event } = yield* Queue.take(received)
          assert.deepStrictEqual(rows, [{ event_id: event.id }])
        })
        // The first ones may be found by the looks of a relay that has no listener yet.
        yield* Effect.repeat(Effect.andThen(tellNobody, found), { until: (count) => count > before })
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect("the relay keeps its lock while somebody holds the outbox for longer than a heartbeat may take", () =>
    beside(
      replica(),
      Effect.gen(function* () {
        yield* atRest
        const database = yield* Database
        const sql = yield* SqlClient.SqlClient
        const before = yield* leader
        yield* database.transaction(
          Effect.gen(function* () {
            // A session of ours would be ended for doing nothing so long.
            yield* sql`SET LOCAL idle_in_transaction_session_timeout = 0`
            yield* sql`LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE`
            yield* Effect.sleep("5 seconds")
          })
        )
        assert.strictEqual(yield* leader, before)
        yield* starts([yield* planOne(0)])
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a standby takes over within a second when the replica that relays is gone", () =>
    Effect.gen(function* () {
      const { received, url } = yield* Scene
      const first = yield* proxied(url)
      const { url: address } = first
      yield* beside(
        replica({ name: "first", loops: address, outbox: address, listener: address, relay: address }),
        Effect.gen(function* () {
          yield* atRest
          const killed = yield* sessions()
          yield* beside(
            replica({ name: "second" }),
            Effect.gen(function* () {
              yield* eventually(sessions("relay"), (pids) => pids.length === 2)
              assert.include(killed, yield* leader)
              yield* first.proxy.silence
              yield* kill(killed)
              const took = yield* seconds(eventually(leader, (pid) => pid !== undefined))
              assert.isBelow(took, 1)
              const game = yield* planOne(0)
              const published = yield* Queue.take(received)
              assert.deepStrictEqual([published.replica, published.event.subject], ["second", game])
            })
          )
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("whoever waits, for a time, a hint or the relay's lock, holds no transaction and no snapshot open", () =>
    beside(
      Effect.all([replica({ name: "first" }), replica({ name: "second" })], { concurrency: "unbounded" }),
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* eventually(sessions("relay"), (pids) => pids.length === 2)
        yield* atRest
        const look = sql<{ readonly name: string; readonly settled: boolean; readonly open: boolean }>`
          SELECT split_part(application_name, '@', 1) AS name, clock_timestamp() - backend_start > interval '1500 milliseconds' AS settled,
            coalesce(clock_timestamp() - xact_start > interval '500 milliseconds', FALSE) AS open
          FROM pg_stat_activity
          WHERE datname = current_database() AND application_name NOT LIKE 'kickoff:test@%'`
        // By then a lock that is waited for has been waited for.
        const seen = yield* eventually(look, (rows) => rows.every(({ settled }) => settled))
        assert.deepStrictEqual(
          seen.filter(({ open }) => open),
          []
        )
        assert.includeMembers(
          seen.map(({ name }) => name),
          ["kickoff:listener", "kickoff:relay", "kickoff:status-transitions"]
        )
      })
    ).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a listener whose connection went silent is noticed within 5 s, and planned games start on time", () =>
    Effect.gen(function* () {
      const { url } = yield* Scene
      const listener = yield* proxied(url)
      yield* beside(
        replica({ listener: listener.url }),
        Effect.gen(function* () {
          yield* atRest
          assert.strictEqual(yield* up, 1)
          const known = yield* wakeUps("status-transitions", "notify")
          const planned = yield* planOne(1500)
          yield* eventually(wakeUps("status-transitions", "notify"), (count) => count > known)
          yield* listener.proxy.silence
          const noticed = yield* Effect.forkScoped(seconds(eventually(up, (value) => value === 0)))
          assert.isBelow(yield* lateness(planned), 500)
          // Nobody hears of this one.
          const missed = yield* planOne(0)
          assert.isBelow(yield* Fiber.join(noticed), 5)
          yield* listener.proxy.heal
          assert.isBelow(yield* seconds(starts([missed])), 5)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a loop whose connection went silent gives it up after 5 s and catches up", () =>
    Effect.gen(function* () {
      const { url } = yield* Scene
      const loops = yield* proxied(url)
      yield* beside(
        replica({ loops: loops.url }),
        Effect.gen(function* () {
          yield* atRest
          const games = yield* planMany(10, 300, 10)
          yield* loops.proxy.silence
          yield* loops.proxy.heal
          assert.isBelow(yield* seconds(assertAllStartOnce(games)), 8)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("events of a statement that the server finished after its deadline leave at once", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* beside(
        replica(),
        Effect.gen(function* () {
          yield* atRest
          const game = yield* planOne(500)
          const [before] = yield* sessions("status-transitions")
          const database = yield* Database
          yield* database.transaction(
            Effect.gen(function* () {
              yield* sql`LOCK TABLE game_status_schedule IN ACCESS EXCLUSIVE MODE`
              // The deadline has passed: another session asks, and the first one's statement waits on the server.
              const others = Effect.andThen(sql`SELECT pg_stat_clear_snapshot()`, sessions("status-transitions"))
              yield* eventually(others, (pids) => pids.some((pid) => pid !== before))
            })
          )
          assert.isBelow(yield* seconds(assertAllStartOnce([game])), 5)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a standby takes over from a replica that is frozen, whose host still answers", () =>
    Effect.gen(function* () {
      const { url } = yield* Scene
      const frozen = yield* proxied(url)
      yield* beside(
        replica({ name: "frozen", loops: frozen.url, outbox: frozen.url, listener: frozen.url, relay: frozen.url }),
        Effect.gen(function* () {
          yield* atRest
          const before = yield* leader
          yield* beside(
            replica({ name: "standby" }),
            Effect.gen(function* () {
              yield* eventually(sessions("relay"), (pids) => pids.length === 2)
              // The proxy keeps the connections open to the server, as the kernel of a stopped process does.
              yield* frozen.proxy.silence
              const took = yield* seconds(eventually(leader, (pid) => pid !== undefined && pid !== before))
              assert.isBelow(took, 10)
            })
          )
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a loop that cannot reach the database for a while catches up within 5 s of its return", () =>
    Effect.gen(function* () {
      const { url } = yield* Scene
      const loops = yield* proxied(url)
      yield* beside(
        replica({ loops: loops.url }),
        Effect.gen(function* () {
          yield* atRest
          const games = yield* planMany(10, 300, 10)
          yield* loops.proxy.silence
          yield* Effect.sleep("9 seconds")
          yield* loops.proxy.heal
          assert.isBelow(yield* seconds(assertAllStartOnce(games)), 5)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect("a relay whose connection to the outbox went silent gives it up after 5 s and catches up", () =>
    Effect.gen(function* () {
      const { url } = yield* Scene
      const outbox = yield* proxied(url)
      yield* beside(
        replica({ outbox: outbox.url }),
        Effect.gen(function* () {
          yield* atRest
          const games = yield* planMany(10, 300, 10)
          yield* outbox.proxy.silence
          yield* outbox.proxy.heal
          assert.isBelow(yield* seconds(assertAllStartOnce(games)), 8)
        })
      )
    }).pipe(Effect.provide(Scene.layer))
  )

  it.effect(
    "a relay whose lock session went silent opens another, and takes the lock when the server has freed it",
    () =>
      Effect.gen(function* () {
        const { url } = yield* Scene
        const relay = yield* proxied(url)
        yield* beside(
          replica({ relay: relay.url }),
          Effect.gen(function* () {
            yield* atRest
            const before = yield* sessions("relay")
            assert.deepStrictEqual(before, [yield* leader])
            yield* relay.proxy.silence
            yield* relay.proxy.heal
            yield* eventually(sessions("relay"), (pids) => pids.length === 2)
            // What the server does by itself when its keepalives are not answered; here the proxy's host answers them.
            yield* kill(before)
            assert.isBelow(yield* seconds(eventually(leader, (pid) => pid !== undefined)), 1)
            yield* starts([yield* planOne(0)])
          })
        )
      }).pipe(Effect.provide(Scene.layer))
  )
})

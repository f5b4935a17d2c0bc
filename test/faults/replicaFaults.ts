/** Faults of one replica: of its process, its clock, or its ways to the servers. */
import { Clock, Effect } from "effect"
import { findFaketime, wrongClock } from "../support/faketime.ts"
import { until } from "./deadlines.ts"
import type { Fault, Injected } from "./Fault.ts"
import { attempt, FaultError } from "./FaultError.ts"
import type { Replica } from "./Site.ts"

/** How long a replica is frozen or cut off: longer than the server keeps the session of one that says nothing, 8 s. */
const absence = "10 seconds"

/** From a kill to the new start: long enough for the others to have done all of its work. */
const mourning = "3 seconds"

const skew = 300

const over = Effect.map(Clock.currentTimeMillis, (at): Injected => ({ over: at }))

const kill: Fault["inject"] = Effect.fnUntraced(function* (replica) {
  const relayed = (yield* replica.gauge("kickoff_relay_leader")) === 1
  const at = yield* Clock.currentTimeMillis
  yield* replica.signal("SIGKILL")
  const timed = relayed ? [yield* until.killedLeaderReplaced(replica)] : []
  return { over: at, repair: Effect.andThen(Effect.sleep(mourning), replica.restart()), timed }
})

const freeze: Fault["inject"] = Effect.fnUntraced(function* (replica) {
  const relayed = (yield* replica.gauge("kickoff_relay_leader")) === 1
  const watch = relayed ? Effect.map(until.silentLeaderReplaced(replica), (timed) => [timed]) : Effect.succeed([])
  const [timed] = yield* Effect.acquireUseRelease(
    replica.signal("SIGSTOP"),
    () => Effect.all([watch, Effect.sleep(absence)], { concurrency: "unbounded" }),
    () => replica.signal("SIGCONT")
  )
  return { ...(yield* over), timed }
})

const silencePostgres: Fault["inject"] = Effect.fnUntraced(function* (replica) {
  const relayed = (yield* replica.gauge("kickoff_relay_leader")) === 1
  yield* replica.postgres.silence
  const watches = [until.silentListenerNoticed(replica), ...(relayed ? [until.silentLeaderReplaced(replica)] : [])]
  const [timed] = yield* Effect.all([Effect.all(watches, { concurrency: "unbounded" }), Effect.sleep(absence)], {
    concurrency: "unbounded"
  })
  yield* replica.postgres.heal
  // Else each silence would take some of the server's connections away for ever.
  yield* replica.postgres.tellOfClosed
  return { ...(yield* over), timed }
})

const silenceBroker: Fault["inject"] = Effect.fnUntraced(function* (replica) {
  yield* replica.broker.silence
  yield* Effect.sleep(absence)
  yield* replica.broker.heal
  yield* replica.broker.tellOfClosed
  return yield* over
})

const cut = (which: "postgres" | "broker"): Fault["inject"] =>
  Effect.fnUntraced(function* (replica, dice) {
    for (let n = 0; n < 4; n++) {
      yield* replica[which].cut
      yield* Effect.sleep(dice.between(100, 500))
    }
    yield* replica[which].cut
    return yield* over
  })

const slow = (which: "postgres" | "broker"): Fault["inject"] =>
  Effect.fnUntraced(function* (replica, dice) {
    yield* replica[which].slow(() => dice.between(50, 150))
    yield* Effect.sleep("5 seconds")
    yield* replica[which].heal
    return yield* over
  })

/** By how many seconds the clock of a replica is ahead, as the header `Date` of an answer says, which is in seconds. */
const clockAhead = (replica: Replica) =>
  Effect.map(
    attempt("The replica with the wrong clock does not answer", () => fetch(`${replica.url()}/health/ready`)),
    (response) => (Date.parse(response.headers.get("date") ?? "") - Date.now()) / 1000
  )

const faketime = attempt("No clock can be set", findFaketime)

const setClock = (seconds: number): Fault["inject"] =>
  Effect.fnUntraced(function* (replica) {
    const library = yield* faketime
    yield* replica.restart(wrongClock(library, seconds))
    const ahead = yield* clockAhead(replica)
    if (Math.abs(ahead - seconds) > 2) {
      yield* new FaultError({ detail: `The clock should be ${seconds} s ahead and is ${ahead.toFixed(1)} s ahead` })
    }
    yield* Effect.sleep("6 seconds")
    if (!((yield* replica.gauge("kickoff_schedule_rows_total")) ?? 0)) {
      yield* new FaultError({ detail: `The replica whose clock is ${seconds} s ahead has done nothing` })
    }
    return { ...(yield* over), repair: replica.restart() }
  })

export const replicaFaults: ReadonlyArray<Fault> = [
  { name: "kill-leader", summary: "`kill -9` of the replica that relays", subject: "leader", inject: kill },
  { name: "kill-other", summary: "`kill -9` of another replica", subject: "other", inject: kill },
  {
    name: "freeze-leader",
    summary: "SIGSTOP of the replica that relays, for 10 s",
    subject: "leader",
    inject: freeze
  },
  { name: "freeze-other", summary: "SIGSTOP of another replica, for 10 s", subject: "other", inject: freeze },
  {
    name: "clock-fast",
    summary: "a replica is started anew with its clock 5 min fast, for 6 s",
    subject: "any",
    needs: faketime,
    inject: setClock(skew)
  },
  {
    name: "clock-slow",
    summary: "a replica is started anew with its clock 5 min slow, for 6 s",
    subject: "any",
    needs: faketime,
    inject: setClock(-skew)
  },
  {
    name: "silent-postgres",
    summary: "nothing passes between the replica that relays and PostgreSQL for 10 s, connections stay open",
    subject: "leader",
    inject: silencePostgres
  },
  {
    name: "silent-postgres-other",
    summary: "nothing passes between another replica and PostgreSQL for 10 s, connections stay open",
    subject: "other",
    inject: silencePostgres
  },
  {
    name: "cut-postgres",
    summary: "all connections between a replica and PostgreSQL cut, five times within about 2 s",
    subject: "any",
    inject: cut("postgres")
  },
  {
    name: "slow-postgres",
    summary: "everything between a replica and PostgreSQL delayed by 50 to 150 ms, for 5 s",
    subject: "any",
    inject: slow("postgres")
  },
  {
    name: "silent-broker",
    summary: "nothing passes between the replica that relays and RabbitMQ for 10 s, connections stay open",
    subject: "leader",
    inject: silenceBroker
  },
  {
    name: "cut-broker",
    summary: "all connections between the replica that relays and RabbitMQ cut, five times within about 2 s",
    subject: "leader",
    inject: cut("broker")
  },
  {
    name: "slow-broker",
    summary: "everything between the replica that relays and RabbitMQ delayed by 50 to 150 ms, for 5 s",
    subject: "leader",
    inject: slow("broker")
  }
]

/**
 * Looks for what keeps a Kickoff from working well, names it, and says what to do about it: `kickoff doctor`.
 *
 * It judges what the database and the broker say; it repairs nothing. A check that cannot be made is a finding as well.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Clock, DateTime, Duration, Effect, Layer, Queue, Random, type Redacted } from "effect"
import type { SqlError } from "effect/sql"
import { counted } from "../domain/counted.ts"
import type { Pause } from "../domain/Pause.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { Replica } from "../observability/Replica.ts"
import { describeSqlError } from "../postgres/Database.ts"
import { MigrationRepository } from "../postgres/MigrationRepository.ts"
import { latestMigration } from "../postgres/migrations.ts"
import { sessionName, shadowParts } from "../postgres/sessionName.ts"
import { makeSockets, readTls } from "../postgres/sockets.ts"
import {
  type Backlog,
  DatabaseMetricsRepository,
  fromTheBeginning,
  type Holder,
  type OutboxDepth,
  type TableFacts
} from "./DatabaseMetricsRepository.ts"
import { DiagnosisRepository, type IndexFacts, type ServerFacts, type TriggerFacts } from "./DiagnosisRepository.ts"
import { PauseRepository } from "./PauseRepository.ts"
import { SessionRepository, type SessionFacts } from "./SessionRepository.ts"

/** `trouble`: games are late, events are lost to their consumers, or soon will be. `warning`: somebody should look. */
export type Verdict = "ok" | "warning" | "trouble"

export interface Finding {
  readonly check: string
  readonly verdict: Verdict
  readonly detail: string
  /** What to do about it. */
  readonly cure?: string
}

const ok = (check: string, detail: string): Finding => ({ check, verdict: "ok", detail })

/** All offenders in one finding, or that there are none. */
const unless = <A>(
  check: string,
  offenders: ReadonlyArray<A>,
  options: { readonly verdict: Verdict; readonly well: string; readonly cure: string },
  name: (offender: A) => string
): Finding =>
  offenders.length === 0
    ? ok(check, options.well)
    : { check, verdict: options.verdict, detail: offenders.map(name).join("; "), cure: options.cure }

/** What the migrations make; the catalogue of a migrated database is held against it by a test. */
export const expected = {
  triggers: [
    "game_status_schedule_notify_insert",
    "game_status_schedule_notify_update",
    "game_status_schedule_release",
    "game_status_schedule_reopen",
    "game_status_schedule_reset",
    "game_status_schedule_soon",
    "notification_schedule_notify_insert",
    "notification_schedule_notify_update",
    "notification_schedule_reopen",
    "notification_schedule_reset",
    "notification_schedule_soon",
    "pauses_notify"
  ],
  indexes: [
    "game_status_schedule_due_idx",
    "game_status_schedule_retry_idx",
    "game_status_schedule_waiting_idx",
    "notification_schedule_due_idx",
    "notification_schedule_retry_idx",
    "outbox_game_idx",
    "outbox_latest_idx",
    "outbox_retry_at_idx",
    "dead_letters_open_idx",
    "pauses_open_idx"
  ]
}

const oldestServer = 140_000
/** Dead rows beside live ones from which on cleaning up is behind, and how many do not matter. */
const bloat = { share: 0.5, atLeast: 50_000 }
const queueLimit = 0.25
/** How long something due may take before it counts as overdue. */
const duePatience = Duration.seconds(5)
const offsetLimit = Duration.seconds(1)
const eventPatience = Duration.seconds(10)

export const judgeServer = (server: ServerFacts): ReadonlyArray<Finding> => {
  const version = `PostgreSQL ${Math.floor(server.version / 10_000)}`
  return [
    server.version < oldestServer
      ? { check: "version", verdict: "trouble", detail: version, cure: "Run PostgreSQL 14 to 18" }
      : ok("version", version),
    server.in_recovery
      ? {
          check: "primary",
          verdict: "trouble",
          detail: "the server is a standby, which takes no changes",
          cure: "Let DATABASE_URL lead to the primary"
        }
      : ok("primary", "the server takes changes"),
    server.replication_role === "origin"
      ? ok("replication role", "triggers fire in sessions of this role")
      : {
          check: "replication role",
          verdict: "trouble",
          detail: `session_replication_role is ${server.replication_role} for ${server.role}: no trigger fires`,
          cure: "Reset session_replication_role of the role and the database"
        },
    server.notification_queue < queueLimit
      ? ok("notification queue", `${Math.round(server.notification_queue * 100)} % used`)
      : {
          check: "notification queue",
          verdict: "trouble",
          detail: `${Math.round(server.notification_queue * 100)} % used: a session listens and never ends its transaction; when it is full, no commit that notifies succeeds`,
          cure: "End the oldest transaction among the sessions that listen, see pg_stat_activity"
        }
  ]
}

export const judgeMigrations = (applied: number): Finding =>
  applied >= latestMigration
    ? ok("migrations", `at ${applied}`)
    : {
        check: "migrations",
        verdict: "trouble",
        detail: `at ${applied}, this program needs ${latestMigration}`,
        cure: "Run kickoff migrate"
      }

export const judgeTriggers = (triggers: ReadonlyArray<TriggerFacts>): Finding =>
  unless(
    "triggers",
    expected.triggers.filter((name) => triggers.find((trigger) => trigger.name === name)?.enabled !== true),
    {
      verdict: "trouble",
      well: "all are there and enabled",
      cure: "Enable it with ALTER TABLE … ENABLE TRIGGER …; one that is missing comes back with the migrations of a fresh database"
    },
    (name) => `${name} is ${triggers.some((trigger) => trigger.name === name) ? "disabled" : "missing"}`
  )

export const judgeIndexes = (indexes: ReadonlyArray<IndexFacts>): Finding =>
  unless(
    "indexes",
    expected.indexes.filter((name) => indexes.find((index) => index.name === name)?.valid !== true),
    {
      verdict: "trouble",
      well: "all are there and valid",
      cure: "REINDEX INDEX CONCURRENTLY … or create it anew as the migrations do"
    },
    (name) => `${name} is ${indexes.some((index) => index.name === name) ? "invalid" : "missing"}`
  )

export const judgeTables = (server: ServerFacts, tables: ReadonlyArray<TableFacts>): ReadonlyArray<Finding> => [
  server.autovacuum
    ? unless(
        "autovacuum",
        tables.filter(({ autovacuum }) => !autovacuum),
        {
          verdict: "warning",
          well: "on for all tables",
          cure: "Turn it on with ALTER TABLE … RESET (autovacuum_enabled)"
        },
        ({ table }) => `off for ${table}`
      )
    : { check: "autovacuum", verdict: "trouble", detail: "off for the whole server", cure: "Set autovacuum = on" },
  unless(
    "dead rows",
    tables.filter(({ dead, live }) => dead > bloat.atLeast && dead > bloat.share * live),
    {
      verdict: "warning",
      well: "cleaning up keeps pace",
      cure: "Find who holds old snapshots (below), then VACUUM the table"
    },
    ({ dead, live, table }) => `${table} has ${counted(dead, "dead row")} beside ${counted(live, "live one")}`
  )
]

export const judgePrivileges = (role: string, missing: ReadonlyArray<string>): Finding =>
  unless(
    "privileges",
    missing,
    { verdict: "trouble", well: `${role} may do all that the service does`, cure: `GRANT … TO ${role}` },
    (privilege) => `${role} lacks ${privilege}`
  )

/** How long a transaction may be open before it is named. */
const oldSnapshot = Duration.minutes(5)

export const judgeHolders = (holders: ReadonlyArray<Holder>, longerThan: Duration.Duration = oldSnapshot): Finding =>
  unless(
    "old snapshots",
    holders.filter(({ abandoned, held }) => abandoned || (held !== null && held > Duration.toSeconds(longerThan))),
    {
      verdict: "warning",
      well: "nobody keeps old versions of rows",
      cure: "End that transaction (pg_terminate_backend), ROLLBACK PREPARED it, or drop the slot"
    },
    ({ held, kind, name, pid }) =>
      `${kind} of ${name}${pid === null ? "" : ` (pid ${pid})`}${held === null ? "" : `, open for ${lasting(held)}`}`
  )

const lasting = (seconds: number): string => Duration.format(Duration.seconds(Math.round(seconds)))

/** What waits to be done, and who is there to do it. */
export interface Work {
  readonly backlogs: ReadonlyArray<Backlog>
  readonly pauses: ReadonlyArray<Pause>
  readonly outbox: OutboxDepth
  readonly openLetters: number
  readonly sessions: ReadonlyArray<SessionFacts>
}

const parts = ["status-transitions", "notifications", "outbox", "listener"]
const partsInShadow = [shadowParts["status-transitions"], shadowParts.notifications, "listener"]

const judgeParts = (needed: ReadonlyArray<string>, sessions: ReadonlyArray<SessionFacts>): Finding =>
  unless(
    "processes",
    needed.filter((part) => !sessions.some((session) => session.part === part)),
    {
      verdict: "trouble",
      well: "every role is played",
      cure: "Start a process with the role, see kickoff serve --help"
    },
    (part) => `no process has a session for ${part}`
  )

/** What is overdue there, or waits, is another system's. */
export const judgeShadow = (sessions: ReadonlyArray<SessionFacts>): ReadonlyArray<Finding> => [
  {
    check: "shadow",
    verdict: "warning",
    detail: "the database is in shadow: Kickoff records what it would do, and changes and publishes nothing",
    cure: "kickoff shadow report compares; once the other system has stopped, kickoff shadow end, then start without KICKOFF_SHADOW"
  },
  judgeParts(partsInShadow, sessions)
]

/** How many rows of a kind are due. */
const dueOf = (backlogs: ReadonlyArray<Backlog>, kind: ScheduleKind): number =>
  backlogs.find((backlog) => backlog.kind === kind)?.overdue ?? 0

/** Rows of a kind that is paused are not overdue: they wait because somebody wants them to. */
const judgeBacklogs = (all: ReadonlyArray<Backlog>): Finding => {
  const backlogs = all.filter(({ paused }) => !paused)
  const late = Math.max(0, ...backlogs.map(({ next_due }) => -(next_due ?? 0)))
  if (late < Duration.toSeconds(duePatience)) return ok("overdue", "nothing is overdue")
  return {
    check: "overdue",
    verdict: "trouble",
    detail: `${dueOf(backlogs, "status-transition")} transitions and ${dueOf(backlogs, "notification")} reminders are due, the earliest for ${lasting(late)}`,
    cure: "See the findings above; kickoff explain tells of one game"
  }
}

const judgePauses = (pauses: ReadonlyArray<Pause>, backlogs: ReadonlyArray<Backlog>): Finding =>
  unless(
    "pauses",
    pauses,
    {
      verdict: "warning",
      well: "nothing is paused",
      cure: `Once the reason is gone: ${pauses.map(({ kind }) => `kickoff resume ${kind}`).join("; ")}`
    },
    ({ kind, paused_at, paused_by, reason }) => {
      const why = reason === null ? "" : `, because: ${reason}`
      return `${kind} since ${DateTime.formatIso(paused_at)} by ${paused_by}${why}; ${dueOf(backlogs, kind)} of them are due`
    }
  )

export const judgeWork = ({ backlogs, openLetters, outbox, pauses, sessions }: Work): ReadonlyArray<Finding> => {
  const relays = sessions.filter((session) => session.relays).length
  return [
    judgeParts(parts, sessions),
    relays === 1
      ? ok("relay", "one process relays the events")
      : {
          check: "relay",
          verdict: "trouble",
          detail: relays === 0 ? "no process relays the events" : `${relays} sessions hold the relay's lock`,
          cure: "Start a process with the role outbox, and let DATABASE_LISTEN_URL lead to PostgreSQL directly"
        },
    judgePauses(pauses, backlogs),
    judgeBacklogs(backlogs),
    outbox.oldest < Duration.toSeconds(eventPatience)
      ? ok("outbox", outbox.events === 0 ? "empty" : "moves")
      : {
          check: "outbox",
          verdict: "trouble",
          detail: `the oldest event has waited for ${lasting(outbox.oldest)}`,
          cure: "See relay and broker"
        },
    openLetters === 0
      ? ok("dead letters", "none are open")
      : {
          check: "dead letters",
          verdict: "warning",
          detail: `${openLetters} are open`,
          cure: "kickoff dead-letters list, then replay or discard"
        }
  ]
}

/** By how much the database's clock is ahead of this process's, in ms; the way there and back is known to `doubt`. */
export const judgeClock = (offset: number, doubt: number): Finding => {
  const detail = `the database's is ${Math.round(Math.abs(offset))} ms ${offset < 0 ? "behind" : "ahead of"} this machine's, known within ${Math.ceil(doubt)} ms`
  return Math.abs(offset) - doubt < Duration.toMillis(offsetLimit)
    ? ok("clocks", detail)
    : {
        check: "clocks",
        verdict: "warning",
        detail,
        cure: "Synchronise both; games go by the database's clock, times in logs and dashboards by the process's"
      }
}

/** How long a notification to ourselves may take. */
const echoPatience = Duration.seconds(2)

/** Sends a notification by `DATABASE_URL` to a session on `DATABASE_LISTEN_URL`, as the service's own go. */
const checkListen = Effect.fnUntraced(function* (listenUrl: Redacted.Redacted) {
  const pg = yield* PgClient.PgClient
  const sockets = makeSockets(listenUrl)
  const channel = `kickoff_doctor_${yield* Random.nextIntBetween(0, 2 ** 40)}`
  const cure = "Let DATABASE_LISTEN_URL lead to PostgreSQL directly, not through a transaction pooler"
  return yield* Effect.gen(function* () {
    const connection = yield* PgConnection.make({
      url: listenUrl,
      stream: sockets.open,
      ssl: yield* readTls(listenUrl),
      applicationName: sessionName("doctor", yield* Replica)
    })
    const echoes = yield* connection.listen(channel)
    yield* pg.notify(channel, "")
    return yield* Effect.as(Queue.take(echoes), ok("LISTEN", "notifications come back")).pipe(
      Effect.timeoutOrElse({
        duration: echoPatience,
        orElse: () =>
          Effect.succeed<Finding>({
            check: "LISTEN",
            verdict: "trouble",
            detail: `a notification did not come back within ${Duration.format(echoPatience)}`,
            cure
          })
      })
    )
  }).pipe(
    Effect.ensuring(Effect.sync(sockets.destroyAll)),
    Effect.scoped,
    Effect.catch((error) =>
      Effect.succeed<Finding>({
        check: "LISTEN",
        verdict: "trouble",
        detail: error._tag === "SqlError" ? describeSqlError(error) : error.message,
        cure
      })
    )
  )
})

/** How often the clocks are compared: the fastest way there and back says most. */
const comparisons = 5

const checkClock = Effect.gen(function* () {
  const repository = yield* DatabaseMetricsRepository
  let best = { offset: 0, doubt: Number.POSITIVE_INFINITY }
  for (let n = 0; n < comparisons; n++) {
    const sent = yield* Clock.currentTimeMillis
    const now = yield* repository.now
    const received = yield* Clock.currentTimeMillis
    const doubt = (received - sent) / 2 + 1
    if (doubt < best.doubt) best = { offset: now - (sent + received) / 2, doubt }
  }
  return judgeClock(best.offset, best.doubt)
})

/** What a check that failed has to say. */
const checked = <R>(
  check: string,
  findings: Effect.Effect<Finding | ReadonlyArray<Finding>, SqlError.SqlError, R>
): Effect.Effect<ReadonlyArray<Finding>, never, R> =>
  findings.pipe(
    Effect.map((found) => [found].flat()),
    Effect.catchTag("SqlError", (error) =>
      Effect.succeed<ReadonlyArray<Finding>>([
        {
          check,
          verdict: "trouble",
          detail: `could not be checked: ${describeSqlError(error)}`,
          cure: "See the reason"
        }
      ])
    )
  )

const readWork = Effect.gen(function* () {
  const state = yield* DatabaseMetricsRepository
  const { list } = yield* SessionRepository
  const { listOpen } = yield* PauseRepository
  return {
    pauses: yield* listOpen,
    backlogs: yield* state.listBacklogs(fromTheBeginning),
    outbox: yield* state.outbox,
    openLetters: [...(yield* state.countOpenLetters).values()].reduce((sum, letters) => sum + letters, 0),
    sessions: yield* list
  } satisfies Work
})

/** Makes all checks of the database. */
export const diagnose = Effect.fn("Diagnosis.diagnose")(function* (
  listenUrl: Redacted.Redacted,
  longerThan?: Duration.Duration
) {
  const repository = yield* DiagnosisRepository
  const state = yield* DatabaseMetricsRepository
  const migrations = yield* MigrationRepository
  const sessions = yield* SessionRepository
  // Several checks ask for it.
  const server = yield* Effect.cached(repository.server)
  const applied = yield* checked("migrations", Effect.map(migrations.newest, judgeMigrations))
  const schema = [
    checked("triggers", Effect.map(repository.triggers, judgeTriggers)),
    checked("indexes", Effect.map(repository.indexes, judgeIndexes)),
    checked(
      "privileges",
      Effect.zipWith(server, repository.missingPrivileges, ({ role }, missing) => judgePrivileges(role, missing))
    ),
    checked("tables", Effect.zipWith(server, state.listTables, judgeTables)),
    checked(
      "work",
      Effect.flatMap(server, ({ shadow }) =>
        shadow ? Effect.map(sessions.list, judgeShadow) : Effect.map(readWork, judgeWork)
      )
    )
  ]
  const findings = yield* Effect.all([
    checked("server", Effect.map(server, judgeServer)),
    Effect.succeed(applied),
    // Without our tables there is nothing to say of them.
    ...(applied.some(({ verdict }) => verdict === "trouble") ? [] : schema),
    checked("LISTEN", checkListen(listenUrl)),
    checked(
      "old snapshots",
      Effect.map(state.listHolders, (holders) => judgeHolders(holders, longerThan))
    ),
    checked("clocks", checkClock)
  ])
  return findings.flat()
})

/** What {@link diagnose} asks. */
export const repositories = Layer.mergeAll(
  DiagnosisRepository.layer,
  DatabaseMetricsRepository.layer,
  SessionRepository.layer,
  PauseRepository.layer,
  MigrationRepository.layer
)

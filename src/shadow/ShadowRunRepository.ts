/**
 * A shadow's own tables and triggers: made when it begins, dropped as a whole when it ends.
 *
 * They are no migration, because a database that was never in shadow has nothing of them. As long as they are there, the
 * database itself refuses every event and every dead letter, so a live process that was started by mistake, or that came
 * back after an outage, can do nothing, and can count that against no row.
 */
import { Context, Duration, Effect, Layer, Option, Schedule, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { SessionRepository } from "../operations/SessionRepository.ts"
import { Database, describeSqlError } from "../postgres/Database.ts"
import { isHeld } from "../postgres/failures.ts"
import { shadowParts } from "../postgres/sessionName.ts"

/** Processes that cannot go on beside what is asked for. */
export class ProcessesInTheWay extends Schema.TaggedError<ProcessesInTheWay>()("ProcessesInTheWay", {
  mode: Schema.Literals(["live", "shadow"]),
  sessions: Schema.Array(Schema.String)
}) {
  override get message() {
    return `${this.mode === "live" ? "live processes work" : "processes in shadow work"} on this database, stop them first: ${this.sessions.join(", ")}`
  }
}

/** Somebody holds a table for so long that no trigger could be made or dropped; nothing was changed. */
export class TablesHeld extends Schema.TaggedError<TablesHeld>()("TablesHeld", { detail: Schema.String }) {
  override get message() {
    return `the tables are held by others, nothing was changed (${this.detail}): end the oldest transaction in pg_stat_activity, then try again`
  }
}

/** What the end of a shadow leaves to Kickoff, and what it does not. */
export interface Handover {
  /** Pending rows that are marked as done or dropped, because the other system has done what they are for. */
  readonly settled_transitions: number
  readonly settled_reminders: number
  /** Rows that are due and not done: Kickoff does them as soon as it starts. */
  readonly overdue_starts: number
  readonly overdue_completions: number
  readonly overdue_reminders: number
}

/** The parts of a process that tell what it does. */
const tellingParts: Readonly<Record<"live" | "shadow", ReadonlyArray<string>>> = {
  live: [...Object.keys(shadowParts), "outbox", "relay"],
  shadow: Object.values(shadowParts)
}

/** How long to wait for a lock, which makes everybody else wait behind it, how often to try again, and when. */
export interface Patience {
  readonly lock: Duration.Duration
  readonly retries: number
  readonly pause: Duration.Duration
}

const defaultPatience: Patience = { lock: Duration.seconds(2), retries: 10, pause: Duration.seconds(1) }

/** Serialises those who begin or end a shadow; any number that nobody else uses. */
const shadowLock = "5278104620893714"

export class ShadowRunRepository extends Context.Service<
  ShadowRunRepository,
  {
    /** Since when this database has been in shadow, ms since 1970 by its clock; none if it is not. */
    readonly since: Effect.Effect<Option.Option<number>, SqlError.SqlError>
    /** Begins a shadow, unless there is one; safe when several begin it together. */
    readonly begin: Effect.Effect<void, ProcessesInTheWay | TablesHeld | SqlError.SqlError>
    /**
     * Ends it, forgets what was recorded, and marks as done what the other system has done: what its games' status says, and
     * reminders that were due until an instant (ms since 1970). None if there was no shadow.
     */
    readonly end: (
      remindedUntil: Option.Option<number>
    ) => Effect.Effect<Option.Option<Handover>, ProcessesInTheWay | TablesHeld | SqlError.SqlError>
  }
>()("kickoff/shadow/ShadowRunRepository") {
  /** With another patience, for tests. */
  static readonly layerWith = (patience: Patience) =>
    Layer.effect(
      ShadowRunRepository,
      Effect.suspend(() => make(patience))
    ).pipe(Layer.provide(SessionRepository.layer))

  static readonly layer = ShadowRunRepository.layerWith(defaultPatience)
}

const make = Effect.fnUntraced(function* ({ lock, pause, retries }: Patience) {
  const sql = yield* SqlClient.SqlClient
  const database = yield* Database
  const sessions = yield* SessionRepository
  const trying = Schedule.max([Schedule.spaced(pause), Schedule.recurs(retries)])

  const since = Effect.gen(function* () {
    const [row] = yield* sql<{ readonly begun: boolean }>`SELECT to_regclass('shadow_run') IS NOT NULL AS begun`
    if (row?.begun !== true) return Option.none()
    const [run] = yield* sql<{ readonly since: number }>`
      SELECT (extract(epoch FROM since) * 1000)::float8 AS since FROM shadow_run`
    return Option.fromUndefinedOr(run?.since)
  })

  const requireNone = Effect.fnUntraced(function* (mode: keyof typeof tellingParts) {
    const found = (yield* sessions.list).filter(({ part }) => part !== null && tellingParts[mode].includes(part))
    if (found.length === 0) return
    const names = found.map(({ part, replica }) => `${part} of ${replica ?? "an unnamed process"}`)
    yield* new ProcessesInTheWay({ mode, sessions: names.toSorted() })
  })

  /** Runs a change of the schema alone, in one transaction that waits for nobody for long. */
  const alone = <A, E>(change: Effect.Effect<A, E | SqlError.SqlError>) =>
    database
      .transaction(
        Effect.gen(function* () {
          yield* sql`SELECT set_config('lock_timeout', ${`${Duration.toMillis(lock)}ms`}, true)`
          yield* sql`SELECT pg_advisory_xact_lock(${shadowLock}::bigint)`
          return yield* change
        })
      )
      .pipe(
        Effect.retry({ schedule: trying, while: isHeld }),
        Effect.mapError((error) => (isHeld(error) ? new TablesHeld({ detail: describeSqlError(error) }) : error))
      )

  // A row is decided for the time that it has then, so that one which is moved is decided again.
  const createTables = Effect.gen(function* () {
    yield* sql`
      CREATE TABLE shadow_run (
        single boolean     PRIMARY KEY DEFAULT TRUE CHECK (single),
        since  timestamptz NOT NULL DEFAULT clock_timestamp()
      )`
    yield* sql`
      CREATE TABLE shadow_decisions (
        kind        text        NOT NULL CHECK (kind IN ('status-transition', 'notification')),
        due_at      timestamptz NOT NULL,
        source_id   uuid        NOT NULL,
        game_id     uuid        NOT NULL,
        target      text        NOT NULL,
        outcome     text        NOT NULL
                                CHECK (outcome IN ('applied', 'sent', 'superseded', 'skipped', 'waiting', 'parked', 'failed')),
        game_status text        NOT NULL,
        detail      text,
        replica     text        NOT NULL,
        decided_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (kind, due_at, source_id)
      )`
    yield* sql`CREATE INDEX shadow_decisions_game_idx ON shadow_decisions (game_id, due_at)`
    yield* sql`
      CREATE TABLE shadow_changes (
        id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind       text        NOT NULL,
        game_id    uuid        NOT NULL,
        source_id  uuid,
        target     text        NOT NULL,
        due_at     timestamptz NOT NULL,
        changed_by text        NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
      )`
    yield* sql`CREATE INDEX shadow_changes_game_idx ON shadow_changes (game_id, changed_at)`
    yield* sql`CREATE INDEX shadow_changes_changed_idx ON shadow_changes (changed_at)`
  })

  // They write on behalf of whoever changes a game, who need not know of our tables. Rows that do not change what they
  // are about cost nothing.
  const createTriggers = Effect.gen(function* () {
    const [row] = yield* sql<{ readonly schema: string }>`SELECT current_schema() AS schema`
    const changes = sql`${sql(row?.schema ?? "public")}.shadow_changes`
    const by = sql`coalesce(nullif(current_setting('application_name'), ''), session_user::text)`
    yield* sql`
      CREATE FUNCTION shadow_note_status() RETURNS trigger LANGUAGE plpgsql
      SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      BEGIN
        INSERT INTO ${changes} (kind, game_id, target, due_at, changed_by)
        VALUES ('status-transition', NEW.id, NEW.status,
          CASE NEW.status
            WHEN 'COMPLETED' THEN NEW.scheduled_at + make_interval(mins => NEW.expected_duration_minutes)
            ELSE NEW.scheduled_at
          END,
          ${by});
        RETURN NULL;
      END $$`
    yield* sql`
      CREATE TRIGGER shadow_note_status AFTER UPDATE ON game_sessions
      FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION shadow_note_status()`
    yield* sql`
      CREATE FUNCTION shadow_note_sent() RETURNS trigger LANGUAGE plpgsql
      SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      BEGIN
        INSERT INTO ${changes} (kind, game_id, source_id, target, due_at, changed_by)
        VALUES ('notification', NEW.game_id, NEW.id, NEW.reminder_minutes::text, NEW.notification_time, ${by});
        RETURN NULL;
      END $$`
    yield* sql`
      CREATE TRIGGER shadow_note_sent AFTER UPDATE ON notification_schedule
      FOR EACH ROW WHEN (NEW.sent AND NOT OLD.sent) EXECUTE FUNCTION shadow_note_sent()`
    yield* sql`
      CREATE FUNCTION shadow_guard() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'this database is in shadow, where Kickoff changes and publishes nothing: see KICKOFF_SHADOW'
        USING ERRCODE = 'insufficient_privilege';
      END $$`
    yield* sql`
      CREATE TRIGGER shadow_guard BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION shadow_guard()`
    // Also where no row is inserted: every failure that is recorded has such a statement, in case it is the last.
    yield* sql`
      CREATE TRIGGER shadow_guard BEFORE INSERT ON dead_letters FOR EACH STATEMENT EXECUTE FUNCTION shadow_guard()`
  })

  const begin = alone(
    Effect.gen(function* () {
      if (Option.isSome(yield* since)) return
      yield* requireNone("live")
      yield* createTables
      yield* createTriggers
      // Last: what is due from now on cannot be done by anybody without being noted.
      yield* sql`INSERT INTO shadow_run DEFAULT VALUES`
    })
  )

  // As the bookkeeping of games does it: what is over has nothing pending, and a game that runs has been started.
  const settle = Effect.fnUntraced(function* (remindedUntil: Option.Option<number>) {
    const until = Option.match(remindedUntil, {
      onNone: () => sql`now()`,
      // A slip of the pen must not take the reminders that are still to come.
      onSome: (millis) => sql`least(${new Date(millis)}::timestamptz, now())`
    })
    const [row] = yield* sql<Handover>`
      WITH started AS (
        UPDATE game_status_schedule AS row SET executed = TRUE
        FROM game_sessions AS game
        WHERE game.id = row.game_id AND row.executed = FALSE
          AND game.status = 'IN_PROGRESS' AND row.target_status = 'IN_PROGRESS'
        RETURNING row.id
      ), over AS (
        DELETE FROM game_status_schedule AS row USING game_sessions AS game
        WHERE game.id = row.game_id AND row.executed = FALSE AND game.status IN ('COMPLETED', 'CANCELLED')
        RETURNING row.id
      ), reminded AS (
        UPDATE notification_schedule AS row SET sent = TRUE
        FROM game_sessions AS game
        WHERE game.id = row.game_id AND row.sent = FALSE
          AND game.status = 'SCHEDULED' AND row.notification_time <= ${until}
        RETURNING row.id
      ), pointless AS (
        DELETE FROM notification_schedule AS row USING game_sessions AS game
        WHERE game.id = row.game_id AND row.sent = FALSE AND game.status <> 'SCHEDULED'
        RETURNING row.id
      ), overdue AS (
        SELECT row.target_status FROM game_status_schedule AS row
        JOIN game_sessions AS game ON game.id = row.game_id
        WHERE row.executed = FALSE AND row.transition_time <= now()
          AND (game.status = 'SCHEDULED' OR (game.status = 'IN_PROGRESS' AND row.target_status = 'COMPLETED'))
      )
      SELECT
        ((SELECT count(*) FROM started) + (SELECT count(*) FROM over))::int AS settled_transitions,
        ((SELECT count(*) FROM reminded) + (SELECT count(*) FROM pointless))::int AS settled_reminders,
        (SELECT count(*) FROM overdue WHERE target_status = 'IN_PROGRESS')::int AS overdue_starts,
        (SELECT count(*) FROM overdue WHERE target_status = 'COMPLETED')::int AS overdue_completions,
        (
          SELECT count(*) FROM notification_schedule AS row
          JOIN game_sessions AS game ON game.id = row.game_id
          WHERE row.sent = FALSE AND game.status = 'SCHEDULED'
            AND row.notification_time > ${until} AND row.notification_time <= now()
        )::int AS overdue_reminders`
    return Option.fromUndefinedOr(row)
  })

  const drop = Effect.gen(function* () {
    yield* sql`DROP TRIGGER shadow_guard ON outbox`
    // A shadow that an earlier version began has none.
    yield* sql`DROP TRIGGER IF EXISTS shadow_guard ON dead_letters`
    yield* sql`DROP TRIGGER shadow_note_status ON game_sessions`
    yield* sql`DROP TRIGGER shadow_note_sent ON notification_schedule`
    yield* sql`DROP FUNCTION shadow_guard(), shadow_note_status(), shadow_note_sent()`
    yield* sql`DROP TABLE shadow_run, shadow_decisions, shadow_changes`
  })

  return ShadowRunRepository.of({
    since,
    begin,
    end: (remindedUntil) =>
      alone(
        Effect.gen(function* () {
          if (Option.isNone(yield* since)) return Option.none()
          yield* requireNone("shadow")
          const handover = yield* settle(remindedUntil)
          // Last, because from here on nobody else gets at the games.
          yield* drop
          return handover
        })
      )
  })
})

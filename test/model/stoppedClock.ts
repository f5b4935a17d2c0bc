/**
 * A database whose clock stands still until a history lets time pass.
 *
 * The product's unqualified `now()`, `statement_timestamp()` and `clock_timestamp()` find functions of the same names in a
 * schema that comes first, which read a table. So nothing waits for real time, and every instant can be compared exactly.
 */
import { Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { Database } from "../../src/postgres/Database.ts"
import { migrate } from "../../src/postgres/migrations.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"
import { toDate } from "./units.ts"

/**
 * A migrated database at step 0 of the model, and what histories need besides: `clock.instant` is the time, statements
 * take up to `clock.jitter` seconds longer, and engines cannot tell of the games in `poisoned`.
 */
export const makeDatabase = Effect.gen(function* () {
  const url = yield* makeTestDatabase({ migrated: false })
  const name = new URL(Redacted.value(url)).pathname.slice(1)
  const connection = () => Layer.fresh(Database.layer({ url, connections: 1, name: "model" }))
  const clock = (name: string) => `
    CREATE FUNCTION kickoff.${name}() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT instant FROM kickoff.clock'`
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE SCHEMA kickoff`
    yield* sql`CREATE TABLE kickoff.clock (instant timestamptz NOT NULL, jitter float8 NOT NULL)`
    yield* sql`INSERT INTO kickoff.clock VALUES (${toDate(0)}, 0)`
    for (const name of ["now", "statement_timestamp", "clock_timestamp"]) yield* sql.unsafe(clock(name))
    yield* sql.unsafe(`ALTER DATABASE ${name} SET search_path = kickoff, pg_catalog`)
  }).pipe(Effect.provide(connection()))
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* migrate
    yield* sql`CREATE TABLE poisoned (game_id uuid NOT NULL)`
    yield* sql`
      CREATE FUNCTION refuse_poisoned() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF EXISTS (SELECT FROM poisoned WHERE game_id = NEW.game_id) THEN RAISE EXCEPTION 'poisoned'; END IF;
        RETURN NEW;
      END $$`
    yield* sql`
      CREATE TRIGGER refuse_poisoned BEFORE INSERT ON outbox
      FOR EACH ROW WHEN (current_setting('application_name') LIKE 'kickoff:engine%')
      EXECUTE FUNCTION refuse_poisoned()`
    yield* sql`
      CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        PERFORM pg_sleep(random() * jitter) FROM clock WHERE jitter > 0;
        RETURN NULL;
      END $$`
    for (const table of ["game_sessions", "game_status_schedule", "notification_schedule", "outbox", "dead_letters"]) {
      yield* sql`
        CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE OR DELETE ON ${sql(table)}
        FOR EACH STATEMENT EXECUTE FUNCTION dawdle()`
    }
  }).pipe(Effect.provide(connection()))
  return url
})

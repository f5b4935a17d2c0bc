/**
 * Applies the migrations of `migrations/`; safe when several processes start together.
 *
 * They are imported one by one, so that the bundle carries them. Ids only grow: one below the latest is never run.
 */
import { Effect, Schedule, Schema } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import createTables from "../../migrations/0001_create_tables.ts"
import createTriggers from "../../migrations/0002_create_triggers.ts"
import createLedger from "../../migrations/0003_create_ledger.ts"
import makeUpdatesCheap from "../../migrations/0004_make_updates_cheap.ts"
import keepTraces from "../../migrations/0005_keep_traces.ts"
import createPauses from "../../migrations/0006_create_pauses.ts"
import letNewEventsPass from "../../migrations/0007_let_new_events_pass.ts"
import planFarGamesCheaply from "../../migrations/0008_plan_far_games_cheaply.ts"
import orderIdsByTime from "../../migrations/0009_order_ids_by_time.ts"
import { describeSqlError } from "./Database.ts"
import { isHeld } from "./failures.ts"

/** Lets a migration wait for no table for long: all others that come to the table meanwhile wait behind it. */
const briefly = <E>(migration: Effect.Effect<void, E, SqlClient.SqlClient>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`SET LOCAL lock_timeout = '500ms'`
    yield* migration
  })

const loader = Migrator.fromRecord({
  "0001_create_tables": briefly(createTables),
  "0002_create_triggers": briefly(createTriggers),
  "0003_create_ledger": briefly(createLedger),
  "0004_make_updates_cheap": briefly(makeUpdatesCheap),
  "0005_keep_traces": briefly(keepTraces),
  "0006_create_pauses": briefly(createPauses),
  "0007_let_new_events_pass": briefly(letNewEventsPass),
  "0008_plan_far_games_cheaply": briefly(planFarGamesCheaply),
  "0009_order_ids_by_time": briefly(orderIdsByTime)
})

/** The id of the newest migration that this program knows. */
export const latestMigration = 9

/** Where the ids of the applied migrations stand. */
export const migrationsTable = "schema_migrations"

/** A migration was refused by the database; nothing of this run was applied. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  detail: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `The database could not be migrated, nothing was changed: ${this.detail}`
  }
}

/** The deepest message of an error, where the database says what it disliked. */
const innermostMessage = (error: unknown): string => {
  let current: unknown = error
  let message = String(error)
  while (typeof current === "object" && current !== null) {
    if ("message" in current && typeof current.message === "string") message = current.message
    current = "reason" in current ? current.reason : "cause" in current ? current.cause : undefined
  }
  return message
}

/** How often what is pending is tried again while somebody uses a table of it for long, such as a backup. */
const trying = Schedule.max([Schedule.spaced("2 seconds"), Schedule.recurs(150)])

/** Applies what is pending, all in one transaction, and returns the names of what it applied. */
export const migrate: Effect.Effect<ReadonlyArray<string>, MigrationFailed, SqlClient.SqlClient> = Migrator.make({})({
  loader,
  table: migrationsTable
}).pipe(
  Effect.retry({ schedule: trying, while: (error) => error._tag === "MigrationError" && isHeld(error.cause) }),
  Effect.map((applied) => applied.map(([id, name]) => `${String(id).padStart(4, "0")}_${name}`)),
  Effect.catchTag("MigrationError", (cause) =>
    Effect.fail(
      new MigrationFailed({
        detail: `${cause.message}: ${innermostMessage(cause)}${isHeld(cause.cause) ? "; a table is in use, perhaps by a backup: try again when that is over" : ""}`,
        cause
      })
    )
  ),
  // Before the first migration: the table of what was applied could not be made, locked or read.
  Effect.catchTag("SqlError", (cause) => Effect.fail(new MigrationFailed({ detail: describeSqlError(cause), cause }))),
  Effect.withSpan("migrate")
)

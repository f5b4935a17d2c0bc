/**
 * Applies the migrations of `migrations/`; safe when several processes start together.
 *
 * They are imported one by one, so that the bundle carries them. Ids only grow: one below the latest is never run.
 */
import { Effect, Schema } from "effect"
import { Migrator, type SqlClient } from "effect/sql"
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

const loader = Migrator.fromRecord({
  "0001_create_tables": createTables,
  "0002_create_triggers": createTriggers,
  "0003_create_ledger": createLedger,
  "0004_make_updates_cheap": makeUpdatesCheap,
  "0005_keep_traces": keepTraces,
  "0006_create_pauses": createPauses,
  "0007_let_new_events_pass": letNewEventsPass,
  "0008_plan_far_games_cheaply": planFarGamesCheaply,
  "0009_order_ids_by_time": orderIdsByTime
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

/** Applies what is pending, all in one transaction, and returns the names of what it applied. */
export const migrate: Effect.Effect<ReadonlyArray<string>, MigrationFailed, SqlClient.SqlClient> = Migrator.make({})({
  loader,
  table: migrationsTable
}).pipe(
  Effect.map((applied) => applied.map(([id, name]) => `${String(id).padStart(4, "0")}_${name}`)),
  Effect.catchTag("MigrationError", (cause) =>
    Effect.fail(new MigrationFailed({ detail: `${cause.message}: ${innermostMessage(cause)}`, cause }))
  ),
  // Before the first migration: the table of what was applied could not be made, locked or read.
  Effect.catchTag("SqlError", (cause) => Effect.fail(new MigrationFailed({ detail: describeSqlError(cause), cause }))),
  Effect.withSpan("migrate")
)

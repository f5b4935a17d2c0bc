/** `kickoff migrate`: brings the database's schema up to date and says what it did; safe beside others that do the same. */
import { Effect } from "effect"
import { Command } from "effect/cli"

export const migrate = Command.make(
  "migrate",
  {},
  Effect.fnUntraced(function* () {
    const { migrateDatabase } = yield* Effect.promise(() => import("./service.ts"))
    const applied = yield* migrateDatabase
    yield* Effect.sync(() =>
      process.stdout.write(
        applied.length === 0
          ? "Nothing to apply, the schema is up to date\n"
          : applied.map((name) => `Applied ${name}\n`).join("")
      )
    )
  })
).pipe(Command.withDescription("Apply pending migrations to the database"))

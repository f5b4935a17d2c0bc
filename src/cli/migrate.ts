/** `kickoff migrate`: brings the database's schema up to date and says what it did; safe beside others that do the same. */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { json, printJson } from "./json.ts"
import { print } from "./terminal.ts"

export const migrate = Command.make(
  "migrate",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { migrateDatabase } = yield* Effect.promise(() => import("./service.ts"))
    const applied = yield* migrateDatabase
    if (json) yield* printJson({ applied })
    else if (applied.length === 0) yield* print("Nothing to apply, the schema is up to date")
    else for (const name of applied) yield* print(`Applied ${name}`)
  })
).pipe(Command.withDescription("Apply pending migrations to the database"))

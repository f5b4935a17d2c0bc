import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { TestDatabase } from "../support/TestDatabase.ts"

layer(TestDatabase.layer)("The triggers", (it) => {
  it.effect("stand on a fresh database", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql`SELECT count(*)::int AS games FROM game_sessions`
      assert.deepStrictEqual(rows, [{ games: 0 }])
    })
  )
})

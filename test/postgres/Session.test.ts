import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { makeOutages } from "../../src/postgres/outages.ts"
import { keepSession } from "../../src/postgres/Session.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

describe("a session of its own", () => {
  it.live("has the server notice within ten seconds that its host is gone, or that nobody uses it", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const shown = yield* Deferred.make<Readonly<Record<string, number>>>()
      yield* Effect.forkScoped(
        keepSession({ url, name: "test", outages: makeOutages("listener", Effect.void) }, ({ connection }) =>
          connection
            .queryValues(
              "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp_%' OR name = 'idle_session_timeout'"
            )
            .pipe(
              Effect.flatMap((rows) =>
                Deferred.succeed(
                  shown,
                  Object.fromEntries(rows.map(([name, setting]) => [String(name), Number(setting)]))
                )
              ),
              Effect.andThen(Effect.never)
            )
        )
      )
      const {
        idle_session_timeout: unused = 0,
        tcp_keepalives_count: count = 0,
        tcp_keepalives_idle: idle = 0,
        tcp_keepalives_interval: interval = 0,
        tcp_user_timeout: unacknowledged = 0
      } = yield* Deferred.await(shown)
      // Zero is the system's own, which is hours.
      for (const setting of [unused, count, idle, interval, unacknowledged]) assert.isAbove(setting, 0)
      assert.isAtMost(idle + interval * count, 10)
      assert.isAtMost(unacknowledged, 10_000)
      assert.isAtMost(unused, 10_000)
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )
})

/**
 * Whether this process can work, component by component.
 *
 * One question to the database serves all who ask meanwhile, and nobody waits for its answer longer than two seconds.
 * It has a connection of its own: where all of the pool waits for locks, the database is there all the same.
 */
import { Context, Duration, Effect, Layer, Option, Result } from "effect"
import type { SqlError } from "effect/sql"
import { Publisher } from "../messaging/Publisher.ts"
import { Database, describeSqlError } from "../postgres/Database.ts"
import { Listener } from "../postgres/Listener.ts"
import { MigrationRepository } from "../postgres/MigrationRepository.ts"
import { latestMigration } from "../postgres/migrations.ts"
import { shareQuestion } from "../postgres/sharedQuestion.ts"
import type { Component, Components } from "./api/OperationsApi.ts"

/** How long a probe waits for the database. */
const patience = Duration.seconds(2)

/** When a question is given up, so that its connection is not lost to a server that went away without a word. */
const abandonAfter = Duration.seconds(15)

const ok: Component = { state: "ok" }
const unused: Component = { state: "not used" }
const away = (detail: string): Component => ({ state: "away", detail })

export class Readiness extends Context.Service<Readiness, { readonly check: Effect.Effect<Components> }>()(
  "kickoff/http/Readiness"
) {
  static readonly layer = Layer.effect(
    Readiness,
    Effect.gen(function* () {
      const migrations = yield* MigrationRepository
      const database = yield* Database
      const listener = yield* Listener
      const publisher = yield* Publisher
      // The first query after the server came back fails on a stale connection, the second does not.
      const question = Effect.retry(migrations.newest, { times: 1 })
      const ask = yield* shareQuestion(database.within(abandonAfter)(question), patience)

      const check = Effect.gen(function* () {
        const answer = yield* ask
        const broker = yield* publisher.state
        return {
          ...toDatabase(answer),
          listener: (yield* listener.isUp) ? ok : away("no LISTEN session; schedules are looked at periodically"),
          broker: broker === "connected" ? ok : broker === "unused" ? unused : away(broker)
        }
      })
      return Readiness.of({ check })
    })
  ).pipe(Layer.provide(MigrationRepository.layer))
}

const toDatabase = (
  answer: Option.Option<Result.Result<number, SqlError.SqlError>>
): Pick<Components, "database" | "migrations"> => {
  if (Option.isNone(answer)) return { database: away("no answer within 2 seconds"), migrations: away("unknown") }
  if (Result.isFailure(answer.value)) {
    return { database: away(describeSqlError(answer.value.failure)), migrations: away("unknown") }
  }
  const applied = answer.value.success
  return {
    database: ok,
    migrations: applied >= latestMigration ? ok : away(`at ${applied}, this program needs ${latestMigration}`)
  }
}

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
import { PauseRepository } from "../operations/PauseRepository.ts"
import type { Component, Components, PausedKind } from "./api/OperationsApi.ts"

/** How long a probe waits for the database. */
const patience = Duration.seconds(2)

/** When a question is given up, so that its connection is not lost to a server that went away without a word. */
const abandonAfter = Duration.seconds(15)

const ok: Component = { state: "ok" }
const unused: Component = { state: "not used" }
const away = (detail: string): Component => ({ state: "away", detail })

/** What the database said. */
interface Answer {
  /** The id of the newest migration. */
  readonly applied: number
  readonly paused: ReadonlyArray<PausedKind>
}

export class Readiness extends Context.Service<
  Readiness,
  {
    readonly check: Effect.Effect<{
      readonly components: Components
      /** As far as the database answers. */
      readonly paused: ReadonlyArray<PausedKind>
    }>
  }
>()("kickoff/http/Readiness") {
  static readonly layer = Layer.effect(
    Readiness,
    Effect.gen(function* () {
      const migrations = yield* MigrationRepository
      const pauses = yield* PauseRepository
      const database = yield* Database
      const listener = yield* Listener
      const publisher = yield* Publisher
      // The first query after the server came back fails on a stale connection, the second does not.
      const question = Effect.gen(function* (): Effect.fn.Return<Answer, SqlError.SqlError> {
        const applied = yield* Effect.retry(migrations.newest, { times: 1 })
        // Before that, nothing can be paused.
        const open = applied < latestMigration ? [] : yield* pauses.listOpen
        return { applied, paused: open.map(({ kind, paused_at }) => ({ kind, since: paused_at })) }
      })
      const ask = yield* shareQuestion(database.within(abandonAfter)(question), patience)

      const check = Effect.gen(function* () {
        const answer = yield* ask
        const broker = yield* publisher.state
        const components = {
          ...toDatabase(answer),
          listener: (yield* listener.isUp) ? ok : away("no LISTEN session; schedules are looked at periodically"),
          broker: broker === "connected" ? ok : broker === "unused" ? unused : away(broker)
        }
        return {
          components,
          paused: Option.isSome(answer) && Result.isSuccess(answer.value) ? answer.value.success.paused : []
        }
      })
      return Readiness.of({ check })
    })
  ).pipe(Layer.provide([MigrationRepository.layer, PauseRepository.layer]))
}

const toDatabase = (
  answer: Option.Option<Result.Result<Answer, SqlError.SqlError>>
): Pick<Components, "database" | "migrations"> => {
  if (Option.isNone(answer)) return { database: away("no answer within 2 seconds"), migrations: away("unknown") }
  if (Result.isFailure(answer.value)) {
    return { database: away(describeSqlError(answer.value.failure)), migrations: away("unknown") }
  }
  const { applied } = answer.value.success
  return {
    database: ok,
    migrations: applied >= latestMigration ? ok : away(`at ${applied}, this program needs ${latestMigration}`)
  }
}

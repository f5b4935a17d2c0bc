/** What `doctor` loads when it runs: the checks of the database and of the broker of the settings. */
import { Effect, Option } from "effect"
import { inspectBroker } from "../messaging/inspection.ts"
import { diagnose, type Finding, repositories } from "../operations/Diagnosis.ts"
import { Settings } from "../Settings.ts"
import { withDatabase } from "./connection.ts"

const checkBroker: Effect.Effect<Finding, never, Settings> = Effect.gen(function* () {
  const { rabbitmqExchange, rabbitmqUrl } = yield* Settings
  if (Option.isNone(rabbitmqUrl)) {
    return {
      check: "broker",
      verdict: "warning",
      detail: "RABBITMQ_URL is not set: events are shown by the process that relays them and go nowhere else",
      cure: "Set RABBITMQ_URL, also for this command"
    }
  }
  return yield* inspectBroker(rabbitmqUrl.value, rabbitmqExchange).pipe(
    Effect.map((missing): Finding => {
      return missing.length === 0
        ? {
            check: "broker",
            verdict: "ok",
            detail: `reachable, ${rabbitmqExchange} and its alternate exchange are as declared`
          }
        : {
            check: "broker",
            verdict: "warning",
            detail: `was missing and is declared anew: ${missing.join(", ")}`,
            cure: "Find out who deleted it, and bind the queues of the consumers again"
          }
    }),
    Effect.catchTag("LinkFailed", ({ detail }) =>
      Effect.succeed<Finding>({
        check: "broker",
        verdict: "trouble",
        detail,
        cure: "See RABBITMQ_URL and the broker's log"
      })
    )
  )
})

/** Everything that can be found, the database's first. */
export const examine = withDatabase(
  Effect.gen(function* () {
    const { databaseListenUrl, databaseUrl } = yield* Settings
    const url = Option.orElse(databaseListenUrl, () => databaseUrl)
    // The command has required the URL before it got here.
    const database = Option.isNone(url) ? [] : yield* diagnose(url.value)
    return [...database, yield* checkBroker]
  }).pipe(Effect.provide(repositories))
)

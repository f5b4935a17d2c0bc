/** The metrics of the real process, as Prometheus reads them. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Redacted } from "effect"
import { inject } from "vitest"
import * as Metrics from "../../src/observability/Metrics.ts"
import { eventually, insertGame, insertReminder } from "../support/games.ts"
import { metricOf, readSamples, type Sample } from "../support/metrics.ts"
import { promtool } from "../support/promtool.ts"
import { type Service, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const scrape = (service: Service) =>
  Effect.flatMap(service.get("/metrics"), (answer) => Effect.promise(() => answer.text()))

/** What the code does not know of a series; nothing if it knows it. */
const objection = ({ labels, name }: Sample): string | undefined => {
  const metric = metricOf(name)
  if (metric === undefined) return `${name} is no metric`
  const known = Metrics.labelsOf(metric)
  const given = Object.keys(labels).filter((label) => !(metric.type === "Histogram" && label === "le"))
  if (given.toSorted().join() !== Object.keys(known).toSorted().join()) return `${name} has the labels ${given.join()}`
  const stranger = given.find((label) => Array.isArray(known[label]) && !known[label].includes(labels[label]))
  return stranger === undefined ? undefined : `${name} has the ${stranger} ${labels[stranger]}`
}

/** A service that has started, reminded of and completed a game, and answered a few requests. */
const busyService = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const service = yield* startService({
    env: { DATABASE_URL: Redacted.value(url), RABBITMQ_URL: inject("rabbitmqUrl") }
  })
  const now = yield* Clock.currentTimeMillis
  yield* service.post("/v1/games", {
    guild_id: "guild",
    title: "Friday raid",
    scheduled_at: new Date(now).toISOString(),
    expected_duration_minutes: 0
  })
  yield* insertReminder(yield* insertGame(3_600_000), 60, 0)
  yield* service.get("/no/such/route")
  const confirmed = (text: string, type: string) =>
    readSamples(text).some(
      ({ labels, name, value }) =>
        name === "kickoff_lateness_confirmed_seconds_count" && labels["type"] === type && value > 0
    )
  const types = ["game.started", "game.completed", "game.reminder_due"]
  return { service, text: yield* eventually(scrape(service), (text) => types.every((type) => confirmed(text, type))) }
})

describe("the metrics of the running service", () => {
  it.live("are what the code says of them, and promtool has nothing to object", () =>
    Effect.gen(function* () {
      const { text } = yield* busyService
      assert.deepStrictEqual(yield* Effect.promise(() => promtool(["check", "metrics"], { input: text })), {
        code: 0,
        output: ""
      })
      const samples = readSamples(text)
      assert.deepStrictEqual(
        samples.map(objection).filter((each) => each !== undefined),
        []
      )
      assert.isEmpty(samples.filter(({ value }) => Number.isNaN(value)))
    }).pipe(Effect.provide(TestDatabase.layer), Effect.scoped)
  )
})

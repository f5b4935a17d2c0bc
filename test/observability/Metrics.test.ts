import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { readFileSync } from "node:fs"
import * as Metrics from "../../src/observability/Metrics.ts"
import { metrics } from "../support/metrics.ts"

const page = readFileSync(new URL("../../docs/METRICS.md", import.meta.url), "utf8")

/** The rows of the page's tables that begin with a metric. */
const documented = page.split("\n").filter((line) => /^\| `\w+` \|/.test(line))

const describeLabels = (metric: Metric.Metric<never, unknown>): string =>
  Object.entries(Metrics.labelsOf(metric))
    .map(([name, values]) =>
      typeof values === "string"
        ? `\`${name}\`: ${values}`
        : `\`${name}\`: ${values.map((value) => `\`${value}\``).join(", ")}`
    )
    .join("; ") || "–"

/** A metric as the page must show it. */
const rowOf = (metric: Metric.Metric<never, unknown>): string =>
  `| \`${metric.id}\` | ${metric.type.toLowerCase()} | ${describeLabels(metric)} | ${metric.description} |`

describe("the page on metrics", () => {
  it("lists every metric as the code has it, and no other", () => {
    assert.isNotEmpty(metrics)
    assert.sameMembers(documented, metrics.map(rowOf))
  })
})

describe("a metric", () => {
  it("has a name of its own", () => {
    const names = metrics.map(({ id }) => id)
    assert.lengthOf(new Set(names), names.length)
  })

  it("that counts is counted from zero by those who play the role, and by nobody else", () =>
    Effect.gen(function* () {
      yield* Metrics.startCounting(["notifications", "outbox"])
      const series = (yield* Metric.snapshot).map(({ attributes = {}, id }) =>
        [id, ...Object.values(attributes)].join()
      )
      assert.include(series, "kickoff_schedule_rows_total,notification,parked")
      assert.include(series, "kickoff_wakeups_total,outbox,notify")
      assert.include(series, "kickoff_events_total,parked")
      assert.include(series, "kickoff_relay_leader")
      assert.include(series, "kickoff_lateness_committed_seconds,notification")
      assert.include(series, "kickoff_lateness_confirmed_seconds,game.started")
      assert.isEmpty(series.filter((name) => name.includes("status-transition")))
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.runPromise))
})

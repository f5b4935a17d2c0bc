import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { alerts } from "../support/alerts.ts"
import { metricOf } from "../support/metrics.ts"
import { metricsIn } from "../support/promql.ts"

/** The anchor of a heading, as GitHub makes it. */
const toAnchor = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .replaceAll(/\s/g, "-")

const page = readFileSync(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8")
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [`docs/OPERATIONS.md#${toAnchor(section.split("\n")[0] ?? "")}`, section])
)

/** What Prometheus says by itself of everything that it scrapes. */
const prometheusOwn: ReadonlySet<string> = new Set(["up"])

describe("an expression of PromQL", () => {
  it("asks for the metrics that it names, not for labels, functions, ranges or values", () => {
    assert.deepStrictEqual(
      metricsIn(
        'sum by (job, kind) (rate(a_total{x=~"b|c", y!=""}[5m])) / on (job) group_left (z) max(d:e) unless f == 1 # g'
      ),
      ["a_total", "d:e", "f"]
    )
  })
})

describe("every alert", () => {
  it("has a name of its own", () => {
    const names = alerts.map(({ alert }) => alert)
    assert.isNotEmpty(names)
    assert.lengthOf(new Set(names), names.length)
  })

  it("asks for metrics that exist", () => {
    for (const { alert, expr } of alerts) {
      const names = metricsIn(expr)
      assert.isNotEmpty(names, alert)
      const unknown = names.filter((name) => !prometheusOwn.has(name) && metricOf(name) === undefined)
      assert.deepStrictEqual(unknown, [], alert)
    }
  })

  it("has a runbook that says what it means, where to look and what to do", () => {
    for (const { alert, annotations } of alerts) {
      const section = sections.get(annotations.runbook_url) ?? ""
      assert.match(section, new RegExp(`^${alert}\n`), annotations.runbook_url)
      assert.include(section, "**It means** that", alert)
      assert.include(section, "**Look** ", alert)
      assert.include(section, "**Do** ", alert)
    }
  })

  it("is on the page, and the page knows no other", () => {
    assert.deepStrictEqual(
      [...sections.keys()].filter((anchor) => anchor.includes("#kickoff")).toSorted(),
      alerts.map(({ annotations }) => annotations.runbook_url).toSorted()
    )
  })
})

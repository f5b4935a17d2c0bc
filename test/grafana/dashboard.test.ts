/** The dashboard that is in the repository: Grafana can lay it out, and what it asks for is there. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { labelsOf } from "../../src/observability/Metrics.ts"
import { dashboard, type Panel, panels, queries } from "../support/dashboard.ts"
import { metricOf, metrics } from "../support/metrics.ts"
import { metricsIn } from "../support/promql.ts"

const shown = panels.filter(({ type }) => type !== "row")
const asking = shown.filter(({ type }) => type !== "text")

/** What Prometheus knows by itself: of what it scrapes, and of its alerts. */
const prometheusOwn: ReadonlySet<string> = new Set(["up", "ALERTS"])

/** What Prometheus and `docker/prometheus/prometheus.yml` add to every series, and rules to their alerts. */
const addedLabels = ["job", "instance", "alertname", "alertstate"]

/** The labels that a series of this name may have; none is known of what is not ours. */
const labelsOfSeries = (name: string): Readonly<Record<string, ReadonlyArray<string> | string>> => {
  const metric = metricOf(name)
  const added = Object.fromEntries(addedLabels.map((label) => [label, "given by Prometheus"]))
  return {
    ...added,
    ...(metric === undefined ? {} : labelsOf(metric)),
    ...(metric?.type === "Histogram" ? { le: "a bound" } : {})
  }
}

const overlap = (one: Panel, another: Panel) =>
  one.gridPos.x < another.gridPos.x + another.gridPos.w &&
  another.gridPos.x < one.gridPos.x + one.gridPos.w &&
  one.gridPos.y < another.gridPos.y + another.gridPos.h &&
  another.gridPos.y < one.gridPos.y + one.gridPos.h

describe("the dashboard", () => {
  it("gives each panel an id and a place of its own, whichever rows are folded up", () => {
    const ids = panels.map(({ id }) => id)
    assert.lengthOf(new Set(ids), ids.length)
    for (const [index, panel] of panels.entries()) {
      assert.isAtLeast(Math.min(panel.gridPos.x, panel.gridPos.y), 0, panel.title)
      assert.isAtLeast(Math.min(panel.gridPos.w, panel.gridPos.h), 1, panel.title)
      assert.isAtMost(panel.gridPos.x + panel.gridPos.w, 24, panel.title)
      for (const another of panels.slice(index + 1)) {
        assert.isFalse(overlap(panel, another), `${panel.title} and ${another.title}`)
      }
    }
  })

  it("uses panels that Grafana comes with, and says of each what it shows", () => {
    const known = ["row", "stat", "timeseries", "heatmap", "state-timeline", "table", "text"]
    for (const { description = "", title, type } of panels) {
      assert.include(known, type, title)
      assert.isNotEmpty(title)
      if (type !== "row" && type !== "text") assert.isNotEmpty(description, title)
    }
  })

  it("asks the Prometheus that is provisioned, in queries that are told apart", () => {
    const provisioned = readFileSync(
      new URL("../../docker/grafana/provisioning/datasources/prometheus.yml", import.meta.url),
      "utf8"
    )
    const uid = /uid: (\w+)/.exec(provisioned)?.[1]
    assert.isDefined(uid)
    for (const { datasource, targets = [], title } of asking) {
      assert.isNotEmpty(targets, title)
      assert.lengthOf(new Set(targets.map(({ refId }) => refId)), targets.length, title)
      for (const source of [datasource, ...targets.map((target) => target.datasource)]) {
        assert.deepStrictEqual(source, { type: "prometheus", uid }, title)
      }
    }
    for (const { datasource, name } of dashboard.templating.list) assert.strictEqual(datasource.uid, uid, name)
    for (const { datasource } of dashboard.annotations.list) assert.strictEqual(datasource.uid, uid)
  })

  it("uses the variables that it has, and has none that it does not use", () => {
    const names = dashboard.templating.list.map(({ name }) => name)
    const texts = [...queries.map(({ expr }) => expr), ...dashboard.templating.list.map(({ query }) => query.query)]
    const used = texts.flatMap((text) => [...text.matchAll(/\$(\w+)/g)].map(([, name = ""]) => name))
    assert.sameMembers(
      [...new Set(used)].filter((name) => !name.startsWith("__")),
      names
    )
  })

  it("asks for metrics that exist, by labels and values that they have", () => {
    for (const { expr, of } of queries) {
      const names = metricsIn(expr)
      assert.isNotEmpty(names, of)
      for (const name of names) assert.isTrue(prometheusOwn.has(name) || metricOf(name) !== undefined, `${of}: ${name}`)
      for (const [, name = "", selector = ""] of expr.matchAll(/(\w+)\{([^}]*)\}/g)) {
        const labels = labelsOfSeries(name)
        for (const [, label = "", operator, value = ""] of selector.matchAll(/(\w+)(=~|!~|!=|=)"([^"]*)"/g)) {
          const values = labels[label]
          assert.isDefined(values, `${of}: ${name} has no label ${label}`)
          if (operator === "=" && Array.isArray(values)) assert.include(values, value, `${of}: ${name}, ${label}`)
        }
      }
    }
  })

  it("sums and names series by labels that they have", () => {
    for (const { expr, legend, of } of queries) {
      const labels = new Set(metricsIn(expr).flatMap((name) => Object.keys(labelsOfSeries(name))))
      const by = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(", "))
      for (const label of by) assert.isTrue(labels.has(label), `${of}: by ${label}`)
      for (const [, label = ""] of legend.matchAll(/\{\{(\w+)\}\}/g)) {
        assert.isTrue(by.length === 0 ? labels.has(label) : by.includes(label), `${of}: legend ${label}`)
      }
    }
  })

  it("shows every metric of the code", () => {
    const asked = new Set(queries.flatMap(({ expr }) => metricsIn(expr).map((name) => metricOf(name)?.id)))
    assert.deepStrictEqual(
      metrics.map(({ id }) => id).filter((id) => !asked.has(id)),
      [],
      "each of these needs a panel in scripts/docs/dashboard.ts"
    )
  })

  it("names runbooks that there are, and has them all in it", () => {
    const operations = readFileSync(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8")
    const runbooks = [...operations.matchAll(/^## (Kickoff\w+)$/gm)].map(([, name = ""]) => name)
    const anchors = new Set(runbooks.map((name) => `#${name.toLowerCase()}`))
    for (const { description = "", title } of shown) {
      for (const [anchor] of description.matchAll(/#kickoff\w+/g))
        assert.isTrue(anchors.has(anchor), `${title}: ${anchor}`)
    }
    const inIt = shown.map(({ options }) => options?.["content"]).join("\n")
    assert.isNotEmpty(runbooks)
    for (const name of runbooks) assert.include(inIt, `## ${name}\n`)
  })
})

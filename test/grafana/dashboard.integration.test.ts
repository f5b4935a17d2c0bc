/** The queries of the dashboard, as Prometheus reads them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { queries } from "../support/dashboard.ts"
import { promtool } from "../support/promtool.ts"

/** With values in place of the variables, as Grafana sends it. */
const filledIn = (expr: string) =>
  expr.replaceAll("$__rate_interval", "1m").replaceAll("$job", "kickoff").replaceAll("$instance", ".*")

describe("the queries of the dashboard", () => {
  it.live("are understood by Prometheus, each of them", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-dashboard-"))),
      (folder) =>
        Effect.promise(async () => {
          const file = join(folder, "queries.yml")
          const rules = queries.map(({ expr }, index) => ({ record: `query_${index}`, expr: filledIn(expr) }))
          for (const { expr } of rules) assert.notInclude(expr, "$")
          writeFileSync(file, JSON.stringify({ groups: [{ name: "queries", rules }] }))
          const { code, output } = await promtool(["check", "rules", file])
          assert.strictEqual(code, 0, output)
          assert.include(output, `${queries.length} rules found`)
        }),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    )
  )
})

/** The alerting rules as they are written, and Prometheus' own judge of what they say of series. */
import { Effect, Schema } from "effect"
import { Yaml } from "effect/encoding"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promtool } from "./promtool.ts"

const file = new URL("../../docker/prometheus/alerts.yml", import.meta.url)

/** Where the rules are, for promtool. */
export const rulesFile = fileURLToPath(file)

const Alert = Schema.Struct({
  alert: Schema.String,
  expr: Schema.String,
  for: Schema.optionalKey(Schema.String),
  labels: Schema.Struct({ severity: Schema.Literals(["critical", "warning"]) }),
  annotations: Schema.Struct({ summary: Schema.String, description: Schema.String, runbook_url: Schema.String })
})
export type Alert = typeof Alert.Type

const Rules = Schema.Struct({
  groups: Schema.Array(Schema.Struct({ name: Schema.String, rules: Schema.Array(Alert) }))
})

/** Every alert; a rule without severity, summary, description or runbook is a defect of the file. */
export const alerts: ReadonlyArray<Alert> = Schema.decodeUnknownSync(Rules)(
  Yaml.parse(readFileSync(file, "utf8"))
).groups.flatMap(({ rules }) => rules)

/** How far apart scrapes are, and the rules' evaluations, as in `docker/prometheus/prometheus.yml`. */
export const scrapeSeconds = 15

/** Holds the rules to a test in promtool's notation (https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules). */
export const judgeRules = (test: object) =>
  Effect.acquireUseRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-alerts-"))),
    (folder) =>
      Effect.promise(() => {
        const file = join(folder, "tests.yml")
        const interval = `${scrapeSeconds}s`
        // JSON is YAML.
        writeFileSync(
          file,
          JSON.stringify({ rule_files: [rulesFile], evaluation_interval: interval, tests: [{ interval, ...test }] })
        )
        return promtool(["test", "rules", file])
      }),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )

/** The alerting rules as they are written. */
import { Schema } from "effect"
import { Yaml } from "effect/encoding"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

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

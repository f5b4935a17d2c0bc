/** Grafana's dashboard as it is in the repository: its panels, wherever they are folded up, and their queries. */
import { Schema } from "effect"
import { readFileSync } from "node:fs"

const DataSource = Schema.Struct({ type: Schema.Literal("prometheus"), uid: Schema.String })

const Target = Schema.Struct({
  refId: Schema.String,
  expr: Schema.String,
  legendFormat: Schema.String,
  datasource: DataSource
})

const GridPos = Schema.Struct({ x: Schema.Int, y: Schema.Int, w: Schema.Int, h: Schema.Int })

const fields = {
  id: Schema.Int,
  title: Schema.String,
  type: Schema.String,
  gridPos: GridPos,
  description: Schema.optionalKey(Schema.String),
  datasource: Schema.optionalKey(DataSource),
  targets: Schema.optionalKey(Schema.Array(Target)),
  options: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
}

const Panel = Schema.Struct({
  ...fields,
  collapsed: Schema.optionalKey(Schema.Boolean),
  panels: Schema.optionalKey(Schema.Array(Schema.Struct(fields)))
})

const Variable = Schema.Struct({
  name: Schema.String,
  datasource: DataSource,
  query: Schema.Struct({ query: Schema.String })
})

const Dashboard = Schema.Struct({
  uid: Schema.String,
  schemaVersion: Schema.Int,
  panels: Schema.Array(Panel),
  templating: Schema.Struct({ list: Schema.Array(Variable) }),
  annotations: Schema.Struct({
    list: Schema.Array(Schema.Struct({ datasource: DataSource, target: Schema.Struct({ expr: Schema.String }) }))
  })
})

export type Panel = Omit<typeof Panel.Type, "collapsed" | "panels">

/** It does not decode if a panel lacks what Grafana needs of it. */
export const dashboard = Schema.decodeUnknownSync(Schema.fromJsonString(Dashboard))(
  readFileSync(new URL("../../docker/grafana/dashboards/kickoff.json", import.meta.url), "utf8")
)

/** Every panel, rows included. */
export const panels: ReadonlyArray<Panel> = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])])

/** Every expression of a panel or annotation, with what it is for. */
export const queries: ReadonlyArray<{ readonly of: string; readonly expr: string; readonly legend: string }> = [
  ...panels.flatMap(({ targets = [], title }) =>
    targets.map(({ expr, legendFormat, refId }) => ({ of: `${title}, ${refId}`, expr, legend: legendFormat }))
  ),
  ...dashboard.annotations.list.map(({ target }) => ({ of: "annotation", expr: target.expr, legend: "" }))
]

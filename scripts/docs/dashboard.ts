/**
 * Grafana's dashboard, as rows of panels: what is wrong first, then where, then the runbooks of `docs/OPERATIONS.md`.
 *
 * Places and ids follow from the order. What only the database knows comes from every process alike: `max` or `min` of it,
 * never a sum, and for no instance alone.
 */
import {
  AxisPlacement,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  type Dashboard,
  DashboardCursorSync,
  type FieldConfig,
  FieldColorModeId,
  GraphDrawStyle,
  type GraphFieldConfig,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  MappingType,
  type Panel,
  PercentChangeColorMode,
  type RowPanel,
  ScaleDistribution,
  SortOrder,
  StackingMode,
  TableCellHeight,
  ThresholdsMode,
  TooltipDisplayMode,
  type ValueMapping,
  type VariableModel,
  VariableRefresh,
  VariableSort,
  VisibilityMode,
  VizOrientation
} from "@grafana/schema"
import {
  HeatmapColorMode,
  HeatmapColorScale,
  type Options as HeatmapOptions
} from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen"
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen"
import type {
  FieldConfig as StateTimelineField,
  Options as StateTimelineOptions
} from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen"
import type { Options as TableOptions } from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen"
import {
  type Options as TextOptions,
  TextMode
} from "@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen"
import type { Options as TimeSeriesOptions } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen"

/** As it is provisioned in `docker/grafana/provisioning`. */
const prometheus = { type: "prometheus", uid: "prometheus" }

// --- queries ---------------------------------------------------------------------------------------------------------

interface Query {
  readonly expr: string
  /** How its series are called; names of labels in double braces. */
  readonly legend?: string
}

const targets = (queries: ReadonlyArray<Query>, format: "time_series" | "heatmap" | "table", instant: boolean) =>
  queries.map(({ expr, legend = "" }, index) => ({
    refId: "ABCDEFGH".charAt(index),
    datasource: prometheus,
    editorMode: "code",
    expr,
    format,
    instant,
    range: !instant,
    legendFormat: legend
  }))

/** The job that was chosen. */
const job = 'job="$job"'
/** Of that job, the instances that were chosen. */
const chosen = `${job}, instance=~"$instance"`

const quantile = (of: number, metric: string, by: string, filter: string, range = "$__rate_interval") =>
  `histogram_quantile(${of}, sum by (${by === "" ? "le" : `le, ${by}`}) (rate(${metric}_bucket{${filter}}[${range}])))`

const quantiles = (metric: string, by: string, filter: string): ReadonlyArray<Query> =>
  [0.5, 0.99].map((of) => ({
    expr: quantile(of, metric, by, filter),
    legend: by === "" ? `p${of * 100}` : `{{${by}}} p${of * 100}`
  }))

const perSecond = (metric: string, by: string, filter: string): Query => ({
  expr: `sum by (${by}) (rate(${metric}{${filter}}[$__rate_interval]))`,
  legend: `{{${by}}}`
})

// --- panels ----------------------------------------------------------------------------------------------------------

/** A panel without its place and id. */
interface Sized {
  readonly width: number
  readonly height: number
  readonly panel: Omit<Panel, "gridPos" | "id">
}

/** From which value on which colour; the first is for all that is less. */
type Colours = readonly [string, ...ReadonlyArray<readonly [from: number, colour: string]>]

const thresholds = ([least, ...steps]: Colours) => ({
  mode: ThresholdsMode.Absolute,
  steps: [{ color: least, value: null }, ...steps.map(([value, color]) => ({ color, value }))]
})

/** Values by what they mean. */
type Meanings = Readonly<Record<string, readonly [text: string, colour: string]>>

const mappings = (meanings: Meanings): Array<ValueMapping> => [
  {
    type: MappingType.ValueToText,
    options: Object.fromEntries(
      Object.entries(meanings).map(([value, [text, color]], index) => [value, { text, color, index }])
    )
  }
]

interface About {
  readonly title: string
  /** What is right, and which runbook tells what to do when it is not. */
  readonly description: string
}

const stat = (
  about: About & {
    readonly expr: string
    readonly unit?: string
    readonly decimals?: number
    readonly colours?: Colours
    readonly meanings?: Meanings
    /** What is shown where there is no value. */
    readonly nothing: string
  }
): Sized => {
  const defaults: FieldConfig = {
    color: { mode: FieldColorModeId.Thresholds },
    mappings: mappings(about.meanings ?? {}),
    noValue: about.nothing,
    thresholds: thresholds(about.colours ?? ["green"]),
    unit: about.unit ?? "none",
    ...(about.decimals === undefined ? {} : { decimals: about.decimals })
  }
  const options: StatOptions = {
    colorMode: BigValueColorMode.Background,
    graphMode: BigValueGraphMode.None,
    justifyMode: BigValueJustifyMode.Center,
    orientation: VizOrientation.Auto,
    percentChangeColorMode: PercentChangeColorMode.Standard,
    reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
    showPercentChange: false,
    textMode: BigValueTextMode.Value,
    wideLayout: true
  }
  return {
    width: 4,
    height: 4,
    panel: {
      type: "stat",
      title: about.title,
      description: about.description,
      datasource: prometheus,
      targets: targets([{ expr: about.expr }], "time_series", true),
      fieldConfig: { defaults, overrides: [] },
      options: { ...options }
    }
  }
}

const graph = (
  about: About & {
    readonly queries: ReadonlyArray<Query>
    readonly unit: string
    readonly width?: number
    /** Whether the series add up. */
    readonly stacked?: boolean
    /** A scale of powers of ten, for what is mostly small and sometimes huge. */
    readonly logarithmic?: boolean
    /** Where it becomes orange and red. */
    readonly limits?: Colours
    readonly floor?: number
  }
): Sized => {
  const custom: GraphFieldConfig = {
    axisPlacement: AxisPlacement.Auto,
    drawStyle: GraphDrawStyle.Line,
    fillOpacity: about.stacked === true ? 40 : 0,
    lineWidth: 1,
    scaleDistribution:
      about.logarithmic === true ? { type: ScaleDistribution.Log, log: 10 } : { type: ScaleDistribution.Linear },
    showPoints: VisibilityMode.Never,
    spanNulls: false,
    stacking: { group: "A", mode: about.stacked === true ? StackingMode.Normal : StackingMode.None },
    thresholdsStyle: {
      mode: about.limits === undefined ? GraphThresholdsStyleMode.Off : GraphThresholdsStyleMode.Dashed
    }
  }
  const options: TimeSeriesOptions = {
    legend: {
      calcs: ["lastNotNull", "max"],
      displayMode: LegendDisplayMode.Table,
      placement: "bottom",
      showLegend: true
    },
    tooltip: { mode: TooltipDisplayMode.Multi, sort: SortOrder.Descending }
  }
  return {
    width: about.width ?? 8,
    height: 8,
    panel: {
      type: "timeseries",
      title: about.title,
      description: about.description,
      datasource: prometheus,
      targets: targets(about.queries, "time_series", false),
      fieldConfig: {
        defaults: {
          color: { mode: FieldColorModeId.PaletteClassic },
          custom: { ...custom },
          thresholds: thresholds(about.limits ?? ["transparent"]),
          unit: about.unit,
          ...(about.floor === undefined ? {} : { min: about.floor })
        },
        overrides: []
      },
      options: { ...options }
    }
  }
}

/** What holds from when to when, a line for each series. */
const timeline = (about: About & { readonly queries: ReadonlyArray<Query>; readonly meanings: Meanings }): Sized => {
  const custom: StateTimelineField = { fillOpacity: 70, lineWidth: 0 }
  const options: StateTimelineOptions = {
    alignValue: "left",
    legend: { calcs: [], displayMode: LegendDisplayMode.List, placement: "bottom", showLegend: false },
    mergeValues: true,
    rowHeight: 0.9,
    showValue: VisibilityMode.Auto,
    tooltip: { mode: TooltipDisplayMode.Single, sort: SortOrder.None }
  }
  return {
    width: 8,
    height: 8,
    panel: {
      type: "state-timeline",
      title: about.title,
      description: about.description,
      datasource: prometheus,
      targets: targets(about.queries, "time_series", false),
      fieldConfig: {
        defaults: {
          color: { mode: FieldColorModeId.Thresholds },
          custom: { ...custom },
          mappings: mappings(about.meanings),
          thresholds: thresholds(["green"])
        },
        overrides: []
      },
      options: { ...options }
    }
  }
}

const heatmap = (about: About & { readonly expr: string }): Sized => {
  const options: HeatmapOptions = {
    calculate: false,
    cellGap: 1,
    color: {
      exponent: 0.5,
      fill: "dark-orange",
      mode: HeatmapColorMode.Scheme,
      reverse: false,
      scale: HeatmapColorScale.Exponential,
      scheme: "Oranges",
      steps: 64
    },
    exemplars: { color: "rgba(255,0,255,0.7)" },
    filterValues: { le: 1e-9 },
    legend: { show: true },
    rowsFrame: { value: "events" },
    showValue: VisibilityMode.Never,
    tooltip: { mode: TooltipDisplayMode.Single, yHistogram: false },
    yAxis: { axisPlacement: AxisPlacement.Left, reverse: false, unit: "s" }
  }
  return {
    width: 8,
    height: 8,
    panel: {
      type: "heatmap",
      title: about.title,
      description: about.description,
      datasource: prometheus,
      targets: targets([{ expr: about.expr, legend: "{{le}}" }], "heatmap", false),
      fieldConfig: { defaults: {}, overrides: [] },
      options: { ...options }
    }
  }
}

/** The labels of the series that there are now. */
const table = (
  about: About & {
    readonly expr: string
    readonly width: number
    readonly height: number
    /** Labels in the order of their columns; others are not shown. */
    readonly columns: ReadonlyArray<string>
    readonly nothing: string
  }
): Sized => {
  const options: TableOptions = { cellHeight: TableCellHeight.Sm, frameIndex: 0, showHeader: true }
  return {
    width: about.width,
    height: about.height,
    panel: {
      type: "table",
      title: about.title,
      description: about.description,
      datasource: prometheus,
      targets: targets([{ expr: about.expr }], "table", true),
      transformations: [
        { id: "filterFieldsByName", options: { include: { names: about.columns } } },
        {
          id: "organize",
          options: { indexByName: Object.fromEntries(about.columns.map((name, index) => [name, index])) }
        }
      ],
      fieldConfig: { defaults: { noValue: about.nothing }, overrides: [] },
      options: { ...options }
    }
  }
}

const text = (title: string, content: string, height: number): Sized => {
  const options: TextOptions = { content, mode: TextMode.Markdown }
  return { width: 24, height, panel: { type: "text", title, options: { ...options } } }
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const upOrDown = (up: string, down: string): Meanings => ({ 1: [up, "green"], 0: [down, "red"] })

/** Everything in twelve boxes: what is not green is where to look. */
const atAGlance: ReadonlyArray<Sized> = [
  stat({
    title: "Alerts",
    description: "How many alerts fire. Which, and for whom, is in the table below; their runbooks are at the bottom.",
    expr: 'count(ALERTS{alertname=~"Kickoff.+", alertstate="firing"}) or vector(0)',
    colours: ["green", [1, "red"]],
    nothing: "Prometheus is away"
  }),
  stat({
    title: "On time",
    description:
      "Starts, completions and reminders of the last 5 minutes that were confirmed by the broker within a second of their due time. The objective is 99%. docs/OPERATIONS.md#kickofflate",
    expr:
      `sum(rate(kickoff_lateness_confirmed_seconds_bucket{${job}, le=~"1|1[.]0"}[5m]))` +
      ` / (sum(rate(kickoff_lateness_confirmed_seconds_count{${job}}[5m])) > 0)`,
    unit: "percentunit",
    decimals: 1,
    colours: ["red", [0.95, "orange"], [0.99, "green"]],
    nothing: "nothing was due"
  }),
  stat({
    title: "Late by, at most (p99)",
    description:
      "From the due time to the broker's confirm: 99 of 100 of the last 5 minutes were no later than this. docs/OPERATIONS.md#kickofflate",
    expr: `${quantile(0.99, "kickoff_lateness_confirmed_seconds", "", job, "5m")} >= 0`,
    unit: "s",
    colours: ["green", [0.5, "orange"], [10, "red"]],
    nothing: "nothing was due"
  }),
  stat({
    title: "Overdue for",
    description:
      "For how long the earliest row has been due that nobody has applied and that does not rest after a failure. docs/OPERATIONS.md#kickoffoverdue",
    expr: `clamp_min(0 - min(kickoff_next_due_seconds{${job}}), 0)`,
    unit: "s",
    colours: ["green", [5, "orange"], [30, "red"]],
    nothing: "nothing is planned"
  }),
  stat({
    title: "Oldest event waits for",
    description:
      "How long the first event of the outbox has waited for the broker's confirm. docs/OPERATIONS.md#kickoffoutboxageing",
    expr: `max(kickoff_outbox_oldest_seconds{${job}})`,
    unit: "s",
    colours: ["green", [10, "orange"], [120, "red"]],
    nothing: "no answer"
  }),
  stat({
    title: "Dead letters",
    description: "What was given up and waits for a person. docs/OPERATIONS.md#kickoffdeadletters",
    expr: `sum(max by (kind) (kickoff_dead_letters_open{${job}}))`,
    colours: ["green", [1, "orange"]],
    nothing: "no answer"
  }),
  stat({
    title: "Next is due in",
    description: "Until the earliest start, completion or reminder.",
    expr: `clamp_min(min(kickoff_next_due_seconds{${job}}), 0)`,
    unit: "s",
    colours: ["blue"],
    nothing: "nothing is planned"
  }),
  stat({
    title: "Relay",
    description: "Exactly one process relays events. docs/OPERATIONS.md#kickoffnorelay, #kickofftworelays",
    expr: `sum(kickoff_relay_leader{${job}})`,
    colours: ["red", [1, "green"], [2, "orange"]],
    meanings: { 0: ["none", "red"], 1: ["one", "green"] },
    nothing: "none is there"
  }),
  stat({
    title: "Broker",
    description:
      "Whether every process with the role outbox can publish. docs/OPERATIONS.md#kickoffbrokeraway, #kickoffbrokerblocked",
    expr: `min(kickoff_broker_connected{${job}} - on (job, instance) (kickoff_broker_blocked{${job}} == 1 or kickoff_broker_connected{${job}} * 0))`,
    meanings: { ...upOrDown("connected", "away"), "-1": ["blocked", "red"] },
    nothing: "none is used"
  }),
  stat({
    title: "Database",
    description: "Whether it answers every process within a second. docs/OPERATIONS.md#kickoffdatabaseaway",
    expr: `min(kickoff_database_up{${job}})`,
    meanings: upOrDown("answers", "away"),
    nothing: "nobody asks"
  }),
  stat({
    title: "Notifications",
    description: "Whether every process hears those of the database. docs/OPERATIONS.md#kickofflistenerdown",
    expr: `min(kickoff_listener_up{${job}})`,
    meanings: { 1: ["heard", "green"], 0: ["not heard", "orange"] },
    nothing: "nobody listens"
  }),
  stat({
    title: "Processes down",
    description: "Processes that do not answer a scrape. docs/OPERATIONS.md#kickoffdown",
    expr: `count(up{${job}} == 0) or vector(0)`,
    colours: ["green", [1, "orange"]],
    nothing: "Prometheus is away"
  }),
  table({
    title: "What fires",
    description: "The alerts that fire now; docs/OPERATIONS.md has a runbook for each, which is also at the bottom.",
    expr: 'ALERTS{alertname=~"Kickoff.+", alertstate="firing"}',
    width: 8,
    height: 8,
    columns: ["alertname", "severity", "instance", "kind", "type", "role", "loop", "application", "table"],
    nothing: "nothing"
  }),
  graph({
    title: "Due → confirmed",
    description:
      "From the due time, by the database's clock, to the broker's confirm of the event. docs/OPERATIONS.md#kickofflate",
    queries: quantiles("kickoff_lateness_confirmed_seconds", "type", job),
    unit: "s",
    logarithmic: true,
    limits: ["transparent", [1, "orange"], [10, "red"]]
  }),
  graph({
    title: "Done per second",
    description: "Rows of the schedules by what became of them.",
    queries: [
      {
        expr: `sum by (kind, outcome) (rate(kickoff_schedule_rows_total{${job}}[$__rate_interval])) > 0`,
        legend: "{{kind}} {{outcome}}"
      }
    ],
    unit: "ops",
    stacked: true,
    floor: 0
  })
]

const onTime: ReadonlyArray<Sized> = [
  heatmap({
    title: "Due → confirmed, each event",
    description:
      "How many events were how late. A band that moves up is a service that gets slower; single cells far up are single games.",
    expr: `sum by (le) (increase(kickoff_lateness_confirmed_seconds_bucket{${job}}[$__rate_interval]))`
  }),
  graph({
    title: "Due → committed",
    description: "Without the way to the broker: if only due → confirmed is late, look at the relay and the broker.",
    queries: quantiles("kickoff_lateness_committed_seconds", "kind", job),
    unit: "s",
    logarithmic: true
  }),
  graph({
    title: "Claiming and applying a batch",
    description: "One statement for up to some hundred rows. Slow statements are slow starts.",
    queries: [
      ...quantiles("kickoff_batch_seconds", "kind", job),
      {
        expr: `sum by (kind) (rate(kickoff_batch_rows_sum{${job}}[$__rate_interval])) / sum by (kind) (rate(kickoff_batch_rows_count{${job}}[$__rate_interval]))`,
        legend: "{{kind}} rows"
      }
    ],
    unit: "none",
    logarithmic: true
  }),
  graph({
    title: "Next due in",
    description: "Below zero something is overdue. docs/OPERATIONS.md#kickoffoverdue",
    queries: [{ expr: `min by (kind) (kickoff_next_due_seconds{${job}})`, legend: "{{kind}}" }],
    unit: "s"
  }),
  graph({
    title: "Overdue",
    description:
      "Rows that are due and not done, at the moment of a scrape. Some are normal where much is due, and any number while their kind is paused; in a shadow they are not counted. docs/OPERATIONS.md#kickoffpaused",
    queries: [
      { expr: `max by (kind) (kickoff_overdue_rows{${job}})`, legend: "{{kind}}" },
      { expr: `max by (kind) (kickoff_paused{${job}}) == 1`, legend: "{{kind}} is paused" },
      { expr: `kickoff_shadow{${job}} == 1`, legend: "{{instance}} is a shadow" }
    ],
    unit: "none",
    floor: 0
  }),
  graph({
    title: "Planned and resting",
    description:
      "Rows still to be done, and apart from them those that failed and are tried again, or wait for another one.",
    queries: [
      { expr: `max by (kind) (kickoff_pending_rows{${job}})`, legend: "{{kind}} planned" },
      { expr: `max by (kind, hold) (kickoff_resting_rows{${job}})`, legend: "{{kind}} {{hold}}" }
    ],
    unit: "none",
    floor: 0
  })
]

const events: ReadonlyArray<Sized> = [
  graph({
    title: "Outbox",
    description: "Events that are committed and not confirmed. docs/OPERATIONS.md#kickoffoutboxageing",
    queries: [
      { expr: `max(kickoff_outbox_events{${job}})`, legend: "waiting" },
      { expr: `max(kickoff_outbox_refused_events{${job}})`, legend: "refused, tried again" },
      { expr: `max(kickoff_relay_events_in_hand{${job}})`, legend: "in the relay's hands" }
    ],
    unit: "none",
    floor: 0
  }),
  graph({
    title: "Oldest event waits for",
    description: "docs/OPERATIONS.md#kickoffoutboxageing",
    queries: [{ expr: `max(kickoff_outbox_oldest_seconds{${job}})`, legend: "oldest" }],
    unit: "s",
    limits: ["transparent", [120, "red"]],
    floor: 0
  }),
  graph({
    title: "Events per second",
    description: "By what became of them: confirmed, refused by the broker, or given up as a dead letter.",
    queries: [perSecond("kickoff_events_total", "outcome", job)],
    unit: "ops",
    floor: 0
  }),
  timeline({
    title: "Who relays",
    description: "One process at a time; another one takes over within a second. docs/OPERATIONS.md#kickoffnorelay",
    queries: [{ expr: `kickoff_relay_leader{${chosen}}`, legend: "{{instance}}" }],
    meanings: { 1: ["relays", "green"], 0: ["stands by", "blue"] }
  }),
  timeline({
    title: "Connection to the broker",
    description: "Of each process with the role outbox. docs/OPERATIONS.md#kickoffbrokeraway",
    queries: [{ expr: `kickoff_broker_connected{${chosen}}`, legend: "{{instance}}" }],
    meanings: upOrDown("connected", "away or blocked")
  }),
  timeline({
    title: "Blocked by the broker",
    description: "RabbitMQ is short of memory or disk. docs/OPERATIONS.md#kickoffbrokerblocked",
    queries: [{ expr: `kickoff_broker_blocked{${chosen}}`, legend: "{{instance}}" }],
    meanings: { 0: ["takes events", "green"], 1: ["blocked", "red"] }
  })
]

const wakeUps = (loop: string): Sized =>
  graph({
    title: `Wake-ups per minute: ${loop}`,
    description:
      "What ended the loop's wait. timer: the next row was due; notify: somebody planned at short notice; backstop: nothing for a minute; contended: others hold what is due; lost, reconnect: the listener's session.",
    queries: [
      {
        expr: `60 * sum by (cause) (rate(kickoff_wakeups_total{${job}, loop="${loop}"}[$__rate_interval]))`,
        legend: "{{cause}}"
      }
    ],
    unit: "none",
    stacked: true,
    floor: 0
  })

const loops: ReadonlyArray<Sized> = [
  wakeUps("status-transitions"),
  wakeUps("notifications"),
  wakeUps("outbox"),
  graph({
    title: "Loops that make no progress",
    description: "0 while a loop lives. docs/OPERATIONS.md#kickoffloopstuck",
    queries: [{ expr: `kickoff_loop_overdue_seconds{${chosen}}`, legend: "{{loop}} of {{instance}}" }],
    unit: "s",
    floor: 0
  }),
  graph({
    title: "Failures that were waited out, per minute",
    description: "Lost connections, deadlocks, a broker that is away: by loop and error.",
    queries: [
      {
        expr: `60 * sum by (loop, error) (rate(kickoff_loop_errors_total{${job}}[$__rate_interval]))`,
        legend: "{{loop}} {{error}}"
      }
    ],
    unit: "none",
    floor: 0
  }),
  graph({
    title: "Round trip of a notification",
    description: "To ourselves, every two seconds, on the session that listens. docs/OPERATIONS.md#kickofflistenerdown",
    queries: [
      ...quantiles("kickoff_listener_heartbeat_seconds", "", chosen),
      { expr: `min(kickoff_listener_up{${chosen}})`, legend: "all of them hear (1)" }
    ],
    unit: "s",
    logarithmic: true
  })
]

const deadLetters: ReadonlyArray<Sized> = [
  graph({
    title: "Open dead letters",
    description: "What was given up and waits for a person. docs/OPERATIONS.md#kickoffdeadletters",
    queries: [{ expr: `max by (kind) (kickoff_dead_letters_open{${job}})`, legend: "{{kind}}" }],
    unit: "none",
    width: 12,
    floor: 0
  }),
  graph({
    title: "Given up within the hour",
    description: "Many at once have one reason most of the time. docs/OPERATIONS.md#kickoffgivingup",
    queries: [
      {
        expr: `sum by (kind) (increase(kickoff_schedule_rows_total{${job}, outcome="parked"}[1h]))`,
        legend: "{{kind}}"
      },
      { expr: `sum(increase(kickoff_events_total{${job}, outcome="parked"}[1h]))`, legend: "event" }
    ],
    unit: "none",
    width: 12,
    floor: 0
  })
]

const database: ReadonlyArray<Sized> = [
  graph({
    title: "Dead rows",
    description: "Rows that are gone and not vacuumed yet. docs/OPERATIONS.md#kickoffdeadrows",
    queries: [{ expr: `max by (table) (kickoff_table_dead_rows{${job}})`, legend: "{{table}}" }],
    unit: "short",
    floor: 0
  }),
  graph({
    title: "Living rows",
    description: "By the server's statistics.",
    queries: [{ expr: `max by (table) (kickoff_table_live_rows{${job}})`, legend: "{{table}}" }],
    unit: "short",
    floor: 0
  }),
  graph({
    title: "Vacuum is held back for",
    description: "By whom, once it lasts for half a minute. docs/OPERATIONS.md#kickoffvacuumheldback",
    queries: [{ expr: `max by (application) (kickoff_xmin_held_seconds{${job}})`, legend: "{{application}}" }],
    unit: "s",
    limits: ["transparent", [600, "red"]],
    floor: 0
  }),
  graph({
    title: "Vacuum is held back, in transactions",
    description: "How many have begun since the oldest snapshot. docs/OPERATIONS.md#kickoffvacuumheldback",
    queries: [{ expr: `max by (application) (kickoff_xmin_age_transactions{${job}})`, legend: "{{application}}" }],
    unit: "short",
    floor: 0
  }),
  graph({
    title: "Round trip and clock",
    description:
      "How long a question takes that costs nothing, and how far the process's clock is ahead of the database's. docs/OPERATIONS.md#kickoffclockoffset",
    queries: [
      { expr: `kickoff_database_round_trip_seconds{${chosen}}`, legend: "round trip {{instance}}" },
      { expr: `kickoff_clock_offset_seconds{${chosen}}`, legend: "clock {{instance}}" }
    ],
    unit: "s"
  }),
  timeline({
    title: "The database answers",
    description: "Each process, within a second. docs/OPERATIONS.md#kickoffdatabaseaway",
    queries: [{ expr: `kickoff_database_up{${chosen}}`, legend: "{{instance}}" }],
    meanings: upOrDown("answers", "away")
  }),
  graph({
    title: "Refused questions per minute",
    description: "What is asked for these metrics. docs/OPERATIONS.md#kickoffblind",
    queries: [
      {
        expr: `60 * sum by (error) (rate(kickoff_database_metrics_errors_total{${job}}[$__rate_interval]))`,
        legend: "{{error}}"
      }
    ],
    unit: "none",
    floor: 0
  })
]

const api = `${job}, route!~"/health/.*|/metrics"`

const http: ReadonlyArray<Sized> = [
  graph({
    title: "Requests per second",
    description: "By status, without probes and scrapes. docs/OPERATIONS.md#kickoffservererrors",
    queries: [perSecond("kickoff_http_requests_total", "status", api)],
    unit: "reqps",
    stacked: true,
    floor: 0
  }),
  graph({
    title: "Requests per second, by route",
    description: "Without probes and scrapes.",
    queries: [
      {
        expr: `sum by (method, route) (rate(kickoff_http_requests_total{${api}}[$__rate_interval]))`,
        legend: "{{method}} {{route}}"
      }
    ],
    unit: "reqps",
    stacked: true,
    floor: 0
  }),
  graph({
    title: "Answers take",
    description: "Without probes and scrapes.",
    queries: quantiles("kickoff_http_request_seconds", "route", api),
    unit: "s",
    logarithmic: true
  })
]

const processes: ReadonlyArray<Sized> = [
  table({
    title: "Who plays what",
    description: "The roles of each process that answers. docs/OPERATIONS.md#kickoffroleunplayed",
    expr: `kickoff_role{${chosen}} == 1`,
    width: 8,
    height: 8,
    columns: ["instance", "role"],
    nothing: "nobody"
  }),
  table({
    title: "Versions",
    description: "Of Kickoff and of Node.js.",
    expr: `kickoff_build_info{${chosen}}`,
    width: 8,
    height: 8,
    columns: ["instance", "version", "node"],
    nothing: "nobody"
  }),
  graph({
    title: "Up for",
    description: "A line that falls to zero is a start. docs/OPERATIONS.md#kickoffrestarts",
    queries: [{ expr: `time() - process_start_time_seconds{${chosen}}`, legend: "{{instance}}" }],
    unit: "s",
    floor: 0
  }),
  graph({
    title: "CPU",
    description: "1 is a whole core; a process has no use for more.",
    queries: [
      { expr: `rate(process_cpu_seconds_total{${chosen}}[$__rate_interval])`, legend: "{{instance}}" },
      {
        expr: `rate(nodejs_eventloop_active_seconds_total{${chosen}}[$__rate_interval])`,
        legend: "event loop of {{instance}}"
      }
    ],
    unit: "percentunit",
    floor: 0
  }),
  graph({
    title: "Event loop comes late by",
    description: "A process that is out of CPU is late for everything. docs/OPERATIONS.md#kickofflate",
    queries: [
      { expr: `nodejs_eventloop_lag_p50_seconds{${chosen}}`, legend: "p50 {{instance}}" },
      { expr: `nodejs_eventloop_lag_p99_seconds{${chosen}}`, legend: "p99 {{instance}}" },
      { expr: `nodejs_eventloop_lag_max_seconds{${chosen}}`, legend: "max {{instance}}" }
    ],
    unit: "s",
    logarithmic: true
  }),
  graph({
    title: "Collecting garbage",
    description: "Share of the time in which nothing else runs.",
    queries: [
      {
        expr: `sum by (instance, kind) (rate(nodejs_gc_duration_seconds_sum{${chosen}}[$__rate_interval]))`,
        legend: "{{kind}} {{instance}}"
      }
    ],
    unit: "percentunit",
    floor: 0
  }),
  graph({
    title: "Memory",
    description: "Resident, and of that the JavaScript heap and what it holds outside.",
    queries: [
      { expr: `process_resident_memory_bytes{${chosen}}`, legend: "resident {{instance}}" },
      { expr: `nodejs_heap_size_total_bytes{${chosen}}`, legend: "heap {{instance}}" },
      { expr: `nodejs_heap_size_used_bytes{${chosen}}`, legend: "heap in use {{instance}}" },
      { expr: `nodejs_external_memory_bytes{${chosen}}`, legend: "outside {{instance}}" }
    ],
    unit: "bytes",
    floor: 0
  }),
  graph({
    title: "File descriptors",
    description: "Open ones, as a share of those that the process may open; sockets are among them.",
    queries: [{ expr: `process_open_fds{${chosen}} / process_max_fds{${chosen}}`, legend: "{{instance}}" }],
    unit: "percentunit",
    floor: 0
  }),
  graph({
    title: "Batches of spans per second",
    description:
      "Where spans are exported: taken by the collector, or dropped because it was away or slow. docs/TRACING.md",
    queries: [perSecond("kickoff_span_batches_total", "outcome", chosen)],
    unit: "ops",
    floor: 0
  }),
  graph({
    title: "What keeps Node.js busy",
    description: "Open handles and requests under way, by Node.js' name for them.",
    queries: [{ expr: `sum by (type) (nodejs_active_resources{${chosen}})`, legend: "{{type}}" }],
    unit: "none",
    floor: 0
  })
]

/** The runbooks as Grafana can show them: it has no page to link to. */
const runbooks = (operations: string): Sized =>
  text("docs/OPERATIONS.md", operations.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, "**$1**"), 24)

interface Row {
  readonly title: string
  readonly collapsed: boolean
  readonly panels: ReadonlyArray<Sized>
}

const rows = (operations: string): ReadonlyArray<Row> => [
  { title: "At a glance", collapsed: false, panels: atAGlance },
  { title: "On time", collapsed: false, panels: onTime },
  { title: "Events: outbox, relay, broker", collapsed: false, panels: events },
  { title: "Wake-ups by cause, and what the loops waited out", collapsed: true, panels: loops },
  { title: "Dead letters", collapsed: true, panels: deadLetters },
  { title: "Database", collapsed: true, panels: database },
  { title: "HTTP", collapsed: true, panels: http },
  { title: "Processes", collapsed: true, panels: processes },
  { title: "Runbooks", collapsed: true, panels: [runbooks(operations)] }
]

// --- the dashboard ---------------------------------------------------------------------------------------------------

const columns = 24

/** Lays rows out from top to bottom, and panels from left to right. */
const layOut = (rows: ReadonlyArray<Row>): Array<Panel | RowPanel> => {
  let id = 0
  let y = 0
  return rows.flatMap(({ collapsed, panels, title }): Array<Panel | RowPanel> => {
    const row = { type: "row" as const, id: ++id, title, collapsed, gridPos: { x: 0, y, w: columns, h: 1 } }
    y += 1
    let x = 0
    let lineHeight = 0
    const placed = panels.map(({ height, panel, width }): Panel => {
      if (x + width > columns) {
        y += lineHeight
        x = 0
        lineHeight = 0
      }
      const gridPos = { x, y, w: width, h: height }
      x += width
      lineHeight = Math.max(lineHeight, height)
      return { ...panel, id: ++id, gridPos }
    })
    y += lineHeight
    return collapsed ? [{ ...row, panels: placed }] : [{ ...row, panels: [] }, ...placed]
  })
}

const variable = (name: string, query: string, options: Partial<VariableModel>): VariableModel => ({
  name,
  type: "query",
  datasource: prometheus,
  query: { query, refId: name },
  refresh: VariableRefresh.onTimeRangeChanged,
  sort: VariableSort.alphabeticalAsc,
  ...options
})

/** What marks the start of a process in every graph. */
const starts = {
  refId: "starts",
  expr: `changes(process_start_time_seconds{${chosen}}[1m]) > 0`,
  legendFormat: "{{instance}} has started"
}

/** The dashboard; `operations` is the page of runbooks, in Markdown. */
export const dashboard = (operations: string): Dashboard => ({
  uid: "kickoff",
  title: "Kickoff",
  description:
    "Whether games start, are reminded of and complete on time, and what keeps them from it. Written by npm run docs; runbooks are in docs/OPERATIONS.md, all metrics in docs/METRICS.md.",
  tags: ["kickoff"],
  schemaVersion: 42,
  editable: true,
  graphTooltip: DashboardCursorSync.Crosshair,
  timezone: "browser",
  time: { from: "now-1h", to: "now" },
  refresh: "15s",
  templating: {
    list: [
      variable("job", "label_values(kickoff_build_info, job)", { current: { text: "kickoff", value: "kickoff" } }),
      variable("instance", `label_values(kickoff_build_info{${job}}, instance)`, {
        multi: true,
        includeAll: true,
        allValue: ".*",
        current: { text: ["All"], value: ["$__all"] }
      })
    ]
  },
  annotations: {
    list: [
      {
        name: "Starts of processes",
        datasource: prometheus,
        enable: true,
        iconColor: "blue",
        target: starts
      }
    ]
  },
  panels: layOut(rows(operations))
})

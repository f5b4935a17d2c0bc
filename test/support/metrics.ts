/** The metrics that the code knows, and those that a process shows in the text format of Prometheus. */
import { Metric } from "effect"
import * as Metrics from "../../src/observability/Metrics.ts"

/** Every metric of the code. */
export const metrics: ReadonlyArray<Metric.Metric<never, unknown>> = Object.values(Metrics).filter((value) =>
  Metric.isMetric(value)
)

/** A series and its value. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Reads the text format. */
export const readSamples = (text: string): ReadonlyArray<Sample> =>
  text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, name = "", labels = "", value = ""] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)]
      return {
        name,
        labels: Object.fromEntries(pairs.map(([, label = "", value = ""]) => [label, value])),
        value: Number(value)
      }
    })

const byName = new Map(metrics.map((metric) => [metric.id, metric]))

/** The metric of a series: that of its name, or the histogram that it is a part of. */
export const metricOf = (series: string): Metric.Metric<never, unknown> | undefined => {
  const histogram = byName.get(series.replace(/_(bucket|sum|count)$/, ""))
  return byName.get(series) ?? (histogram?.type === "Histogram" ? histogram : undefined)
}

/**
 * What Prometheus would have seen of real processes, and whom it would have woken: scrapes of a job on a time line.
 *
 * The scrapes are real, the time between them is not: a state is taken to last for some minutes as it was scraped, but for
 * the series of which it is said that they go on growing as they did between two scrapes.
 */
import { assert } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { alerts, judgeRules, scrapeSeconds } from "./alerts.ts"
import { readSamples, type Sample } from "./metrics.ts"
import { metricsIn } from "./promql.ts"
import type { Service } from "./service.ts"

/** What a process answers to a scrape; nothing while it is down. */
export type Scrape = ReadonlyArray<Sample> | undefined

/** Processes by their instance. */
type Scrapes = Readonly<Record<string, Scrape>>

export interface Phase {
  readonly scrapes: Scrapes
  /** How long it is scraped like that. */
  readonly minutes: number
  /** The alerts that fire at its end, and no others. */
  readonly fires: ReadonlyArray<string>
  /** Series of these names go on growing from one scrape to the next as they did since earlier scrapes of the phase. */
  readonly growth?: { readonly since: Scrapes; readonly of: ReadonlyArray<string> }
}

export const scrapeOf = (service: Service): Effect.Effect<Scrape> =>
  Effect.promise(() =>
    fetch(`${service.url}/metrics`).then(
      async (response) => readSamples(await response.text()),
      () => undefined
    )
  )

/** The value of a series; nothing if it is not there. */
export const valueIn = (scrape: Scrape, name: string, labels: Readonly<Record<string, string>> = {}) =>
  scrape?.find(
    (sample) => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
  )?.value

/** Scrapes a process until a series has a value for which the condition holds, and returns that scrape. */
export const scrapeUntil = (
  service: Service,
  name: string,
  condition: (value: number) => boolean,
  labels?: Readonly<Record<string, string>>
): Effect.Effect<Scrape> =>
  scrapeOf(service).pipe(
    Effect.repeat({
      schedule: Schedule.spaced("200 millis"),
      until: (scrape) => condition(valueIn(scrape, name, labels) ?? Number.NaN)
    })
  )

/** What any rule asks for; nothing else matters. */
const asked: ReadonlySet<string> = new Set(alerts.flatMap(({ expr }) => metricsIn(expr)))

const written = (name: string, labels: Readonly<Record<string, string>>) =>
  `${name}{${Object.entries(labels)
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    .join(",")}}`

const job = "kickoff"

/** The series of one scrape, as Prometheus would keep them. */
const seriesOf = (instance: string, scrape: Scrape): ReadonlyMap<string, Sample> => {
  const ours = (scrape ?? []).filter(({ name }) => asked.has(name))
  const up = { name: "up", labels: {}, value: scrape === undefined ? 0 : 1 }
  return new Map([...ours, up].map((sample) => [written(sample.name, { job, instance, ...sample.labels }), sample]))
}

const ticksIn = (minutes: number) => (minutes * 60) / scrapeSeconds

/** The values of all series, one for each scrape of each phase; what is missing is `undefined`. */
const layOut = (phases: ReadonlyArray<Phase>) => {
  const series = new Map<string, Array<number | undefined>>()
  let length = 0
  for (const { growth, minutes, scrapes } of phases) {
    const ticks = ticksIn(minutes)
    for (const [instance, scrape] of Object.entries(scrapes)) {
      const earlier = seriesOf(instance, growth?.since[instance])
      for (const [key, { name, value }] of seriesOf(instance, scrape)) {
        const values = series.get(key) ?? []
        while (values.length < length) values.push(undefined)
        const grows = growth?.of.includes(name) === true
        const before = grows ? (earlier.get(key)?.value ?? value) : value
        for (let tick = 0; tick < ticks; tick++) values.push(before + tick * (value - before))
        series.set(key, values)
      }
    }
    length += ticks
  }
  return series
}

/** In promtool's notation: a series that ends is marked as stale, as Prometheus does. */
const notation = (values: ReadonlyArray<number | undefined>, length: number) =>
  Array.from({ length }, (_, tick) => {
    const value = values[tick]
    if (value !== undefined) return Number.isInteger(value) ? String(value) : value.toFixed(6)
    return tick > 0 && values[tick - 1] !== undefined ? "stale" : "_"
  }).join(" ")

/** Holds the rules to the phases, one after the other: exactly those alerts fire that should. */
export const assertFiring = Effect.fnUntraced(function* (phases: ReadonlyArray<Phase>) {
  const ends = phases.map((_, index) => phases.slice(0, index + 1).reduce((sum, { minutes }) => sum + minutes, 0))
  const length = ticksIn(ends.at(-1) ?? 0)
  const { code, output } = yield* judgeRules({
    input_series: [...layOut(phases)].map(([series, values]) => ({ series, values: notation(values, length) })),
    promql_expr_test: phases.map(({ fires }, index) => ({
      expr: 'group by (alertname) (ALERTS{alertstate="firing"})',
      // The last scrape of the phase.
      eval_time: `${(ends[index] ?? 0) * 60 - scrapeSeconds}s`,
      exp_samples: fires.map((alertname) => ({ labels: written("", { alertname }), value: 1 }))
    }))
  })
  assert.strictEqual(code, 0, output)
})

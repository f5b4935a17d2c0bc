/**
 * What this process says of itself and of Node.js: CPU, memory, event loop, garbage collection, open handles.
 *
 * The values are read when somebody asks. All the while only the event loop's delay is sampled, in C++, and each garbage
 * collection is noted. The names are those that dashboards for Node.js know.
 */
import { Context, Effect, Layer, Metric, Option } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { constants, monitorEventLoopDelay, performance, PerformanceObserver } from "node:perf_hooks"
import packageJson from "../../package.json" with { type: "json" }
import { Settings } from "../Settings.ts"
import * as Metrics from "./Metrics.ts"

/** How often the event loop's delay is sampled, ms: each sample wakes a process that may have nothing else to do. */
const resolution = 100

/** Where Linux shows a process its own open files and its limits. */
const openFilesFolder = "/proc/self/fd"
const limitsFile = "/proc/self/limits"

export class ProcessMetrics extends Context.Service<
  ProcessMetrics,
  {
    /** Reads everything anew into the registry of metrics. */
    readonly refresh: Effect.Effect<void>
  }
>()("kickoff/observability/ProcessMetrics") {
  static readonly layer = Layer.effect(
    ProcessMetrics,
    Effect.gen(function* () {
      const { roles, shadow } = yield* Settings
      const context = yield* Effect.context()

      yield* Metrics.startCounting(roles)
      yield* Metric.update(
        Metric.withAttributes(Metrics.buildInfo, { version: packageJson.version, node: process.versions.node }),
        1
      )
      for (const role of roles) yield* Metric.update(Metric.withAttributes(Metrics.rolePlayed, { role }), 1)
      yield* Metric.update(Metrics.shadow, shadow ? 1 : 0)
      yield* Metric.update(Metrics.processStart, performance.timeOrigin / 1000)
      const maxFiles = readMaxFiles()
      if (Option.isSome(maxFiles)) yield* Metric.update(Metrics.processMaxFiles, maxFiles.value)

      const totals = [
        Metric.registerUnsafe(Metrics.processCpu, context, total(cpuSeconds)),
        Metric.registerUnsafe(Metrics.eventLoopActive, context, total(activeSeconds))
      ]
      yield* Effect.addFinalizer(() => Effect.sync(() => totals.forEach((each) => each.remove())))
      yield* observeCollections(context)

      const delay = monitorEventLoopDelay({ resolution })
      delay.enable()
      yield* Effect.addFinalizer(() => Effect.sync(() => delay.disable()))
      let resources: ReadonlySet<string> = new Set()

      const refresh = Effect.gen(function* () {
        const memory = process.memoryUsage()
        yield* Metric.update(Metrics.processMemory, memory.rss)
        yield* Metric.update(Metrics.heapUsed, memory.heapUsed)
        yield* Metric.update(Metrics.heapTotal, memory.heapTotal)
        yield* Metric.update(Metrics.externalMemory, memory.external)
        const openFiles = countOpenFiles()
        if (Option.isSome(openFiles)) yield* Metric.update(Metrics.processOpenFiles, openFiles.value)

        // Asked again within a sample's time, there is nothing new to say.
        if (delay.count > 0) {
          yield* Metric.update(Metrics.eventLoopLagMedian, lagSeconds(delay.percentile(50)))
          yield* Metric.update(Metrics.eventLoopLagHigh, lagSeconds(delay.percentile(99)))
          yield* Metric.update(Metrics.eventLoopLagMax, lagSeconds(delay.max))
          delay.reset()
        }

        const active = Map.groupBy(process.getActiveResourcesInfo(), (type) => type)
        for (const type of resources) {
          if (!active.has(type)) yield* Metric.update(Metric.withAttributes(Metrics.activeResources, { type }), 0)
        }
        for (const [type, { length }] of active) {
          yield* Metric.update(Metric.withAttributes(Metrics.activeResources, { type }), length)
        }
        resources = new Set([...resources, ...active.keys()])
      })

      return ProcessMetrics.of({ refresh })
    })
  )
}

/** A counter whose value is read when it is asked for. */
const total = (read: () => number): Metric.Metric.Hooks<number, Metric.CounterState<number>> => ({
  get: () => ({ count: read(), incremental: true }),
  update: () => {},
  modify: () => {}
})

const cpuSeconds = () => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1e6
}

const activeSeconds = () => performance.eventLoopUtilization().active / 1000

/** What was measured is the time from one sample to the next. */
const lagSeconds = (nanos: number): number => Math.max(0, nanos / 1e9 - resolution / 1000)

/** None where the system does not show them. One of them is the folder that is read. */
const countOpenFiles = Option.liftThrowable(() => readdirSync(openFilesFolder).length - 1)

/** None where the system does not show it, or sets no limit. */
const readMaxFiles = () =>
  Option.liftThrowable(() => readFileSync(limitsFile, "utf8"))().pipe(
    Option.flatMap((limits) => Option.fromNullishOr(/^Max open files\s+(\d+)/m.exec(limits)?.[1])),
    Option.map(Number)
  )

const kindsOfCollection = new Map<unknown, string>([
  [constants.NODE_PERFORMANCE_GC_MINOR, "minor"],
  [constants.NODE_PERFORMANCE_GC_MAJOR, "major"],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, "incremental"],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, "weak"]
])

const observeCollections = (context: Context.Context<never>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const histograms = new Map(
        [...kindsOfCollection].map(([kind, name]) => [
          kind,
          Metric.withAttributes(Metrics.garbageCollection, { kind: name })
        ])
      )
      const observer = new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          const detail = "detail" in entry ? entry.detail : undefined
          const kind = typeof detail === "object" && detail !== null && "kind" in detail ? detail.kind : undefined
          histograms.get(kind)?.updateUnsafe(entry.duration / 1000, context)
        }
      })
      observer.observe({ entryTypes: ["gc"] })
      return observer
    }),
    (observer) => Effect.sync(() => observer.disconnect())
  )

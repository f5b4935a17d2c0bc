/**
 * Every metric, in one place: its name, what it says, and the labels that its series carry. `docs/METRICS.md` lists them.
 *
 * Times are in seconds, as Prometheus wants them; counters end in `_total`. Labels are attributes, given with
 * `Metric.withAttributes`; whoever updates a series often makes it once, because attributes make a key that is costly.
 */
import { Effect, Metric } from "effect"
import type { GameEventType } from "../domain/GameEvent.ts"
import type { Role } from "../Settings.ts"

/** The labels of a metric, each with all of its values, or with what they are where they are not known before. */
export type Labels = Readonly<Record<string, ReadonlyArray<string> | string>>

interface Options {
  readonly description: string
  readonly labels?: Labels
}

const labels = new Map<string, Labels>()

/** The labels that every series of a metric carries. */
export const labelsOf = ({ id }: { readonly id: string }): Labels => labels.get(id) ?? {}

const counter = (name: string, options: Options) => {
  labels.set(name, options.labels ?? {})
  return Metric.counter(name, { description: options.description, incremental: true })
}

const gauge = (name: string, options: Options) => {
  labels.set(name, options.labels ?? {})
  return Metric.gauge(name, { description: options.description })
}

const histogram = (name: string, options: Options & { readonly boundaries: ReadonlyArray<number> }) => {
  labels.set(name, options.labels ?? {})
  return Metric.histogram(name, { description: options.description, boundaries: options.boundaries })
}

/** From half a millisecond to a minute: fine where a healthy service lives, coarse where it only matters that it is ill. */
const latencyBoundaries = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
]

const kinds = ["status-transition", "notification"] as const
const scheduleLoops = ["status-transitions", "notifications"] as const
const loops = [...scheduleLoops, "outbox", "listener"] as const

const scheduleWakeUps = ["start", "timer", "notify", "reconnect", "lost", "backstop", "contended"] as const
const relayWakeUps = ["timer", "notify", "reconnect", "lost", "backstop"] as const

const rowOutcomes = {
  "status-transition": ["applied", "superseded", "waiting", "failed", "parked"],
  notification: ["sent", "skipped", "failed", "parked"]
} as const

const eventOutcomes = ["confirmed", "refused", "parked"] as const

// --- on time --------------------------------------------------------------------------------------------------------

export const committedLateness = histogram("kickoff_lateness_committed_seconds", {
  description: "Due time to commit of what the clock did",
  labels: { kind: kinds },
  boundaries: latencyBoundaries
})

export const confirmedLateness = histogram("kickoff_lateness_confirmed_seconds", {
  description: "Due time to the broker's confirm of the event that tells of it",
  labels: { type: ["game.started", "game.completed", "game.reminder_due"] satisfies ReadonlyArray<GameEventType> },
  boundaries: latencyBoundaries
})

export const scheduleRows = counter("kickoff_schedule_rows_total", {
  description: "Schedule rows by what became of them",
  labels: { kind: kinds, outcome: [...new Set(Object.values(rowOutcomes).flat())] }
})

export const batchSeconds = histogram("kickoff_batch_seconds", {
  description: "Duration of one statement that claims and applies due rows, as far as it found any",
  labels: { kind: kinds },
  boundaries: latencyBoundaries
})

export const batchRows = histogram("kickoff_batch_rows", {
  description: "Rows that one such statement dealt with",
  labels: { kind: kinds },
  boundaries: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
})

// --- events ---------------------------------------------------------------------------------------------------------

export const events = counter("kickoff_events_total", {
  description: "Events by what became of them: confirmed by the broker, refused and tried again, given up",
  labels: { outcome: eventOutcomes }
})

export const relayLeader = gauge("kickoff_relay_leader", {
  description: "1 while this process relays the outbox, 0 while it stands by"
})

export const brokerConnected = gauge("kickoff_broker_connected", { description: "1 while events can be published" })

export const brokerBlocked = gauge("kickoff_broker_blocked", {
  description: "1 while the broker is connected and takes no events, as under a memory or disk alarm"
})

// --- loops ----------------------------------------------------------------------------------------------------------

export const wakeUps = counter("kickoff_wakeups_total", {
  description: "What ended a loop's wait",
  labels: { loop: [...scheduleLoops, "outbox"], cause: scheduleWakeUps }
})

export const loopOverdue = gauge("kickoff_loop_overdue_seconds", {
  description:
    "How long ago a loop should have spoken, or since when it gets nowhere with what it could do; 0 while it lives",
  labels: { loop: loops }
})

export const loopErrors = counter("kickoff_loop_errors_total", {
  description: "Passing failures that a loop waited out",
  labels: { loop: loops, error: "the error's tag" }
})

export const listenerUp = gauge("kickoff_listener_up", {
  description: "1 while notifications of the database come in on the LISTEN session"
})

export const heartbeatSeconds = histogram("kickoff_listener_heartbeat_seconds", {
  description: "Round trip of a notification to ourselves on the LISTEN session",
  boundaries: latencyBoundaries
})

// --- HTTP -----------------------------------------------------------------------------------------------------------

const httpLabels = { method: "the method, or other", route: "the route with its parameters' names, or unknown" }

export const httpRequests = counter("kickoff_http_requests_total", {
  description: "HTTP requests answered",
  labels: { ...httpLabels, status: "the answer's status code" }
})

export const httpSeconds = histogram("kickoff_http_request_seconds", {
  description: "Duration of HTTP requests",
  labels: httpLabels,
  boundaries: latencyBoundaries
})

// --- the process ----------------------------------------------------------------------------------------------------

export const buildInfo = gauge("kickoff_build_info", {
  description: "Always 1, for its labels",
  labels: { version: "of Kickoff", node: "version of Node.js" }
})

export const rolePlayed = gauge("kickoff_role", {
  description: "1 for each role that this process plays",
  labels: { role: ["api", "status-transitions", "notifications", "outbox"] satisfies ReadonlyArray<Role> }
})

export const processStart = gauge("process_start_time_seconds", {
  description: "When the process started, in seconds since 1970"
})

export const processCpu = counter("process_cpu_seconds_total", {
  description: "CPU time that the process has used, user and system together"
})

export const processMemory = gauge("process_resident_memory_bytes", {
  description: "Memory of the process that is resident"
})

export const processOpenFiles = gauge("process_open_fds", {
  description: "Open file descriptors, sockets among them; on Linux alone"
})

export const processMaxFiles = gauge("process_max_fds", {
  description: "Most file descriptors that the process may open; on Linux alone"
})

export const heapUsed = gauge("nodejs_heap_size_used_bytes", { description: "JavaScript heap in use" })

export const heapTotal = gauge("nodejs_heap_size_total_bytes", { description: "JavaScript heap that is allocated" })

export const externalMemory = gauge("nodejs_external_memory_bytes", {
  description: "Memory outside of the heap that JavaScript objects hold, buffers among it"
})

const lag = (what: string) => `${what} of how late the event loop came to its timers since the last scrape`

export const eventLoopLagMedian = gauge("nodejs_eventloop_lag_p50_seconds", { description: lag("Median") })
export const eventLoopLagHigh = gauge("nodejs_eventloop_lag_p99_seconds", { description: lag("99th percentile") })
export const eventLoopLagMax = gauge("nodejs_eventloop_lag_max_seconds", { description: lag("Maximum") })

export const eventLoopActive = counter("nodejs_eventloop_active_seconds_total", {
  description: "Time in which the event loop had something to do"
})

export const garbageCollection = histogram("nodejs_gc_duration_seconds", {
  description: "Duration of garbage collections, during which nothing else runs",
  labels: { kind: ["minor", "major", "incremental", "weak"] },
  boundaries: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]
})

export const activeResources = gauge("nodejs_active_resources", {
  description: "What keeps the process alive: open handles and requests under way",
  labels: { type: "Node.js' name of it, like TCPSocketWrap or Timeout" }
})

/** Counts from zero what the loops of these roles count, so that the first of anything is seen as an increase. */
export const startCounting = (roles: ReadonlyArray<Role>): Effect.Effect<void> =>
  Effect.gen(function* () {
    const played = (role: Role) => roles.includes(role)
    yield* Metric.update(listenerUp, 0)
    for (const [index, loop] of scheduleLoops.entries()) {
      const kind = kinds[index]
      if (kind === undefined || !played(loop)) continue
      for (const outcome of rowOutcomes[kind]) {
        yield* Metric.update(Metric.withAttributes(scheduleRows, { kind, outcome }), 0)
      }
      for (const cause of scheduleWakeUps) yield* Metric.update(Metric.withAttributes(wakeUps, { loop, cause }), 0)
    }
    if (!played("outbox")) return
    yield* Metric.update(relayLeader, 0)
    for (const outcome of eventOutcomes) yield* Metric.update(Metric.withAttributes(events, { outcome }), 0)
    for (const cause of relayWakeUps) yield* Metric.update(Metric.withAttributes(wakeUps, { loop: "outbox", cause }), 0)
  })

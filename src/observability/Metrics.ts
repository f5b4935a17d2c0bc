/**
 * Every metric, in one place: its name, what it says, and the labels that its series carry. `docs/METRICS.md` lists them.
 *
 * Times are in seconds, as Prometheus wants them; counters end in `_total`. Labels are attributes, given with
 * `Metric.withAttributes`; whoever updates a series often makes it once, because attributes make a key that is costly.
 */
import { Effect, Metric } from "effect"
import { DeadLetterKind } from "../domain/DeadLetter.ts"
import type { GameEventType } from "../domain/GameEvent.ts"
import { ScheduleKind } from "../domain/ScheduleKind.ts"
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

const kinds = ScheduleKind.literals
const scheduleLoops = ["status-transitions", "notifications"] as const
const loops = [...scheduleLoops, "outbox", "listener"] as const

const scheduleWakeUps = ["timer", "notify", "reconnect", "lost", "backstop", "contended"] as const
const relayWakeUps = ["timer", "notify", "reconnect", "lost", "backstop"] as const

const rowOutcomes = {
  "status-transition": ["applied", "superseded", "waiting", "failed", "parked"],
  notification: ["sent", "skipped", "failed", "parked"]
} as const

/** What the clock tells of. */
const timedEvents = [
  "game.started",
  "game.completed",
  "game.reminder_due"
] as const satisfies ReadonlyArray<GameEventType>

const eventOutcomes = ["confirmed", "refused", "parked"] as const

// --- on time --------------------------------------------------------------------------------------------------------

export const committedLateness = histogram("kickoff_lateness_committed_seconds", {
  description: "Due time to commit of what the clock did",
  labels: { kind: kinds },
  boundaries: latencyBoundaries
})

export const confirmedLateness = histogram("kickoff_lateness_confirmed_seconds", {
  description: "Due time to the broker's confirm of the event that tells of it",
  labels: { type: timedEvents },
  boundaries: latencyBoundaries
})

export const scheduleRows = counter("kickoff_schedule_rows_total", {
  description: "Schedule rows by what became of them",
  labels: { kind: kinds, outcome: [...new Set(Object.values(rowOutcomes).flat()), "shadowed"] }
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

export const relayInHand = gauge("kickoff_relay_events_in_hand", {
  description: "Events that the relay has read and not settled yet; 4,000 at most, however many wait"
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

// --- what only the database knows -----------------------------------------------------------------------------------

const exactly = "exact up to 10,000, then the server's estimate"

export const pendingRows = gauge("kickoff_pending_rows", {
  description: `Schedule rows that are still to be done and do not rest; ${exactly}`,
  labels: { kind: kinds }
})

export const overdueRows = gauge("kickoff_overdue_rows", {
  description: "Those of them that are due by now, by the database's clock; counted up to 10,000",
  labels: { kind: kinds }
})

export const nextDue = gauge("kickoff_next_due_seconds", {
  description: "Time until the earliest of them is due, negative when it is; missing while there is none",
  labels: { kind: kinds }
})

export const pausedKinds = gauge("kickoff_paused", {
  description: "1 while somebody has paused the kind: nothing of it is done, whatever is due",
  labels: { kind: kinds }
})

export const restingRows = gauge("kickoff_resting_rows", {
  description: "Schedule rows that failed and are tried again, or that wait for another one; counted up to 10,000",
  labels: { kind: kinds, hold: ["retry", "waiting"] }
})

export const outboxEvents = gauge("kickoff_outbox_events", {
  description: `Events that are committed and not confirmed yet; ${exactly}`
})

export const outboxRefused = gauge("kickoff_outbox_refused_events", {
  description: "Those of them that the broker has refused and that are tried again; counted up to 10,000"
})

export const outboxOldest = gauge("kickoff_outbox_oldest_seconds", {
  description: "For how long the first event of the outbox has been waiting; 0 while it is empty"
})

export const openLetters = gauge("kickoff_dead_letters_open", {
  description: "Dead letters that nobody has settled; counted up to 10,000 together",
  labels: { kind: DeadLetterKind.literals }
})

export const databaseUp = gauge("kickoff_database_up", {
  description: "1 if the database answered when this process last asked for its metrics, within a second"
})

export const databaseRoundTrip = gauge("kickoff_database_round_trip_seconds", {
  description: "Duration of a question to the database that costs nothing"
})

export const clockOffset = gauge("kickoff_clock_offset_seconds", {
  description: "How far the clock of this process is ahead of the database's; only the database's decides what is due"
})

const tableLabels = { table: "a table of Kickoff" }

export const tableDeadRows = gauge("kickoff_table_dead_rows", {
  description: "Rows that are gone and not vacuumed yet, by the server's statistics",
  labels: tableLabels
})

export const tableLiveRows = gauge("kickoff_table_live_rows", {
  description: "Rows that are there, by the server's statistics",
  labels: tableLabels
})

const holderLabels = { application: "whose it is, once it lasts for 30 seconds; else empty" }

export const xminAge = gauge("kickoff_xmin_age_transactions", {
  description: "Transactions since the oldest snapshot that vacuum must respect, in this database",
  labels: holderLabels
})

export const xminHeld = gauge("kickoff_xmin_held_seconds", {
  description: "For how long that snapshot has been held; missing where the database does not tell this role",
  labels: holderLabels
})

export const databaseMetricsErrors = counter("kickoff_database_metrics_errors_total", {
  description: "Questions for these metrics that failed",
  labels: { error: "the error's tag" }
})

// --- traces ---------------------------------------------------------------------------------------------------------

export const spanBatches = counter("kickoff_span_batches_total", {
  description:
    "Batches of spans by what became of them: taken by the collector, or dropped because it was away or slow",
  labels: { outcome: ["delivered", "dropped"] }
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

export const shadow = gauge("kickoff_shadow", {
  description: "1 in a process that only records what it would do, as `KICKOFF_SHADOW` asks; else 0"
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

/** Shows what these roles count and measure from zero on, so that the first of anything is seen as an increase. */
export const startCounting = (roles: ReadonlyArray<Role>): Effect.Effect<void> =>
  Effect.gen(function* () {
    // A series is there once its value has been read.
    const start = (metric: Metric.Metric<number, unknown>, attributes: Metric.Metric.AttributeSet) =>
      Metric.value(Metric.withAttributes(metric, attributes))
    yield* start(listenerUp, {})
    for (const [index, loop] of scheduleLoops.entries()) {
      const kind = kinds[index]
      if (kind === undefined || !roles.includes(loop)) continue
      for (const outcome of rowOutcomes[kind]) yield* start(scheduleRows, { kind, outcome })
      for (const cause of scheduleWakeUps) yield* start(wakeUps, { loop, cause })
      for (const metric of [committedLateness, batchSeconds, batchRows]) yield* start(metric, { kind })
    }
    if (!roles.includes("outbox")) return
    yield* start(relayLeader, {})
    yield* start(relayInHand, {})
    for (const outcome of eventOutcomes) yield* start(events, { outcome })
    for (const cause of relayWakeUps) yield* start(wakeUps, { loop: "outbox", cause })
    for (const type of timedEvents) yield* start(confirmedLateness, { type })
  })

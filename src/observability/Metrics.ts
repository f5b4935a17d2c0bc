/**
 * Every metric's name, in one place. Times are in seconds, as Prometheus wants them; counters end in `_total`.
 *
 * Kinds and other labels are attributes, given at the update with `Metric.withAttributes`.
 */
import { Metric } from "effect"

/** From half a millisecond to a minute: fine where a healthy service lives, coarse where it only matters that it is ill. */
const latencyBoundaries = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
]

/** Attribute `kind`: `status-transition` or `notification`. */
export const committedLateness = Metric.histogram("kickoff_lateness_committed_seconds", {
  description: "Due time to commit of what the clock did",
  boundaries: latencyBoundaries
})

/** Attribute `type`: the event's type. */
export const confirmedLateness = Metric.histogram("kickoff_lateness_confirmed_seconds", {
  description: "Due time to the broker's confirm of the event that tells of it",
  boundaries: latencyBoundaries
})

/** Attributes `loop` and `cause`: `timer`, `notify`, `reconnect` or `backstop`. */
export const wakeUps = Metric.counter("kickoff_wakeups_total", {
  description: "What ended a loop's wait",
  incremental: true
})

/** Attributes `kind` and `outcome`: `applied`, `superseded`, `sent`, `skipped`, `waiting`, `failed`, `parked`. */
export const scheduleRows = Metric.counter("kickoff_schedule_rows_total", {
  description: "Schedule rows by what became of them",
  incremental: true
})

/** Attribute `outcome`: `confirmed`, `refused`, `parked`. */
export const events = Metric.counter("kickoff_events_total", {
  description: "Events by what became of them",
  incremental: true
})

/** Attributes `loop` and `error`: the error's tag. */
export const loopErrors = Metric.counter("kickoff_loop_errors_total", {
  description: "Passing failures that a loop waited out",
  incremental: true
})

export const batchSeconds = Metric.histogram("kickoff_batch_seconds", {
  description: "Duration of one claim-and-apply statement",
  boundaries: latencyBoundaries
})

export const relayLeader = Metric.gauge("kickoff_relay_leader", {
  description: "1 while this process relays the outbox"
})

export const listenerUp = Metric.gauge("kickoff_listener_up", { description: "1 while the LISTEN session is up" })

export const brokerConnected = Metric.gauge("kickoff_broker_connected", {
  description: "1 while events can be published"
})

/** Attributes `method`, `route` and `status`. */
export const httpRequests = Metric.counter("kickoff_http_requests_total", {
  description: "HTTP requests answered",
  incremental: true
})

export const httpSeconds = Metric.histogram("kickoff_http_request_seconds", {
  description: "Duration of HTTP requests",
  boundaries: latencyBoundaries
})

export const heartbeatSeconds = Metric.histogram("kickoff_listener_heartbeat_seconds", {
  description: "Round trip of a notification to ourselves on the LISTEN session",
  boundaries: latencyBoundaries
})

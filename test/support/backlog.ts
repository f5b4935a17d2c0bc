import type { Backlog } from "../../src/operations/DatabaseMetricsRepository.ts"

/** The backlog of a schedule with nothing in it, as the database tells of it. */
export const idleBacklog: Omit<Backlog, "kind"> = {
  pending: 0,
  overdue: 0,
  next_due: null,
  next_at: null,
  retrying: 0,
  waiting: 0,
  paused: false,
  from: 1000
}

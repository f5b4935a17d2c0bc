/**
 * What Kickoff means to reach on two cores that it shares with PostgreSQL and RabbitMQ: what must be, and what we aim at.
 *
 * A target names a figure that a scenario reports. Ratios are of one run; absolute figures are the machine's as well.
 */
export interface Target {
  /** For people: what was measured, against what. */
  readonly says: string
  readonly figure: string
  readonly unit: "×" | "ms" | "MB" | "per minute"
  /** Whether more or less of it is better. */
  readonly better: "more" | "less"
  readonly must: number
  /** None where reaching `must` is all that is wanted. */
  readonly aim?: number
}

export const targets = [
  {
    says: "burst of 100,000, one process: games/s against the limit loop with an outbox row per event",
    figure: "burst_against_limit",
    unit: "×",
    better: "more",
    must: 0.9,
    aim: 1.2
  },
  {
    says: "burst of 20,000, one process: games/s against the better of graphile-worker and pg-boss",
    figure: "burst_against_queues",
    unit: "×",
    better: "more",
    must: 2.7,
    aim: 3.6
  },
  {
    says: "other games that come due during a burst of 100,000: due → consumed, p99",
    figure: "burst_others_p99",
    unit: "ms",
    better: "less",
    must: 1000,
    aim: 100
  },
  {
    says: "lateness at 30/s, due → consumed, against the bare loop: p50",
    figure: "lateness_against_bare_p50",
    unit: "×",
    better: "less",
    must: 1.5,
    aim: 1.1
  },
  {
    says: "lateness at 30/s, due → consumed, against the bare loop: p99",
    figure: "lateness_against_bare_p99",
    unit: "×",
    better: "less",
    must: 2
  },
  {
    says: "lateness at 30/s, p50: how many times shorter than the better of graphile-worker's and pg-boss's defaults",
    figure: "lateness_against_queues",
    unit: "×",
    better: "more",
    must: 100,
    aim: 200
  },
  {
    says: "lateness at 1,000/s, due → consumed: p99",
    figure: "lateness_1000_p99",
    unit: "ms",
    better: "less",
    must: 100,
    aim: 30
  },
  {
    says: "head look-up at 10 M pending rows against 10 k",
    figure: "scale_look",
    unit: "×",
    better: "less",
    must: 1.5,
    aim: 1.1
  },
  {
    says: "claim of 1 at 10 M pending rows against 10 k",
    figure: "scale_claim_1",
    unit: "×",
    better: "less",
    must: 1.5,
    aim: 1.1
  },
  {
    says: "claim of 1,000 at 10 M pending rows against 10 k",
    figure: "scale_claim_1000",
    unit: "×",
    better: "less",
    must: 1.5,
    aim: 1.1
  },
  {
    says: "head look-up right after 1 M rows were executed",
    figure: "scale_look_after",
    unit: "ms",
    better: "less",
    must: 5,
    aim: 1
  },
  {
    says: "idle: looks at a schedule table, per loop",
    figure: "idle_looks",
    unit: "per minute",
    better: "less",
    must: 2,
    aim: 1
  },
  {
    says: "idle: heartbeats and lock attempts, per process, all together",
    figure: "idle_heartbeats",
    unit: "per minute",
    better: "less",
    must: 160,
    aim: 60
  },
  {
    says: "API creates/s against a bare handler",
    figure: "api_creates",
    unit: "×",
    better: "more",
    must: 0.5,
    aim: 0.8
  },
  {
    says: "commits/s of plain SQL inserting far-future games, no service running, against no trigger",
    figure: "api_notify",
    unit: "×",
    better: "more",
    must: 0.9,
    aim: 0.97
  },
  {
    says: "resident memory, idle",
    figure: "memory_idle",
    unit: "MB",
    better: "less",
    must: 150,
    aim: 100
  },
  {
    says: "resident memory, highest in a burst of 1 M",
    figure: "memory_burst",
    unit: "MB",
    better: "less",
    must: 250,
    aim: 150
  },
  {
    says: "ready after the start on a migrated database",
    figure: "startup_ready",
    unit: "ms",
    better: "less",
    must: 1500,
    aim: 700
  },
  {
    says: "kickoff health",
    figure: "startup_health",
    unit: "ms",
    better: "less",
    must: 300,
    aim: 120
  }
] as const satisfies ReadonlyArray<Target>

/** The figures that targets ask for, by name. */
export type Figures = Partial<Readonly<Record<(typeof targets)[number]["figure"], number>>>

export type Verdict = "aim reached" | "must reached" | "MISSED" | "not measured"

/** A figure that is no number counts as not measured, never as reached. */
export const judge = (target: Target, figure: number | undefined): Verdict => {
  if (figure === undefined || Number.isNaN(figure)) return "not measured"
  const reaches = (limit: number) => (target.better === "more" ? figure >= limit : figure <= limit)
  if (!reaches(target.must)) return "MISSED"
  return target.aim !== undefined && reaches(target.aim) ? "aim reached" : "must reached"
}

export interface Judged {
  readonly target: Target
  readonly figure: number | undefined
  readonly verdict: Verdict
}

export const judgeAll = (figures: Figures): ReadonlyArray<Judged> =>
  targets.map((target) => ({ target, figure: figures[target.figure], verdict: judge(target, figures[target.figure]) }))

/**
 * A schedule in memory: the twin of the tables for tests of the loop.
 *
 * It passes the same contract suite. Its rows belong to games that allow everything, so each due row is applied. Its clock
 * is as independent of the machine's as the database's is.
 */
import { Context, Duration, Effect, Layer, Option } from "effect"
import { SqlError } from "effect/sql"
import { GameId } from "../domain/Game.ts"
import { pauseAfter } from "../domain/RetryPolicy.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { channels } from "../postgres/channels.ts"
import type { DueRepository, DueRow, Except, Processed, RowFailure } from "./DueRepository.ts"

export interface MemoryRow {
  readonly id: string
  readonly game_id: string
  /** By `uptimeMillis`. */
  due: number
  done: boolean
  hold: "retry" | "parked" | undefined
  attempts: number
  /** In the order of what happened, which a clock of milliseconds does not tell. */
  failedAt: number
  retryAt: number
}

export interface MemoryDeadLetter extends RowFailure {
  readonly source_id: string
  readonly attempts: number
}

/** The other end of the schedule in memory. */
export class MemorySchedule extends Context.Service<
  MemorySchedule,
  {
    readonly repository: DueRepository
    readonly rows: ReadonlyMap<string, MemoryRow>
    readonly deadLetters: ReadonlyArray<MemoryDeadLetter>
    readonly add: (id: string, dueIn: Duration.Duration, gameId?: string) => Effect.Effect<void>
    /** Rows that the database would refuse, by id; their batch fails with them. */
    readonly poison: Set<string>
    /** The SQLSTATE with which it refuses them; that of a violated check at first. */
    refusal: string
    /** Rows that somebody else has locked, by id. */
    readonly locked: Set<string>
    /** Whether rows were put aside, which this schedule never does by itself. */
    stalled: boolean
    /** Whether somebody has paused it. */
    paused: boolean
    /** Fails the next calls, whatever they are, until it is set to none again. */
    outage: Option.Option<SqlError.SqlError>
    /** Called with the name of each method before it does its work. */
    onCall: (method: string) => Effect.Effect<void>
  }
>()("kickoff/scheduling/MemorySchedule") {
  static readonly layer = Layer.sync(MemorySchedule, () => make())
}

const refused = (code: string) =>
  new SqlError.SqlError({
    reason: new SqlError.ConstraintError({
      cause: Object.assign(new Error("a row was refused"), { code }),
      message: "a row was refused"
    })
  })

const make = (): MemorySchedule["Service"] => {
  const rows = new Map<string, MemoryRow>()
  const deadLetters: Array<MemoryDeadLetter> = []
  const poison = new Set<string>()
  const locked = new Set<string>()
  let happened = 0
  let appliedAt = Number.NEGATIVE_INFINITY

  const call = <A>(method: string, work: (now: number) => Effect.Effect<A, SqlError.SqlError>) =>
    Effect.gen(function* () {
      yield* schedule.onCall(method)
      if (Option.isSome(schedule.outage)) return yield* schedule.outage.value
      return yield* work(yield* uptimeMillis)
    })

  const pending = (hold: MemoryRow["hold"]) =>
    [...rows.values()].filter((row) => !row.done && row.hold === hold).toSorted((a, b) => a.due - b.due)

  const unpaused = (rows: ReadonlyArray<MemoryRow>) => (schedule.paused ? [] : rows)

  const apply = (candidates: ReadonlyArray<MemoryRow>, now: number) => {
    const claimed = unpaused(candidates).filter((row) => !locked.has(row.id))
    if (claimed.some((row) => poison.has(row.id))) return Effect.fail(refused(schedule.refusal))
    if (claimed.length > 0) appliedAt = ++happened
    const firstOfGame = [...Map.groupBy(claimed, (row) => row.game_id).values()].flatMap((group) => group.slice(0, 1))
    return Effect.succeed(
      firstOfGame.map((row): Processed => {
        Object.assign(row, { done: true, hold: undefined, attempts: 0 })
        return {
          id: row.id,
          game_id: GameId.make(row.game_id),
          target: "IN_PROGRESS",
          due_at: String(row.due),
          outcome: "applied",
          lateness_ms: now - row.due,
          planned_in: null,
          traceparent: null
        }
      })
    )
  }

  const reference = (row: MemoryRow): DueRow => ({ id: row.id, due: String(row.due) })

  const find = (wanted: DueRow) =>
    Option.filter(Option.fromNullishOr(rows.get(wanted.id)), (row) => String(row.due) === wanted.due && !row.done)

  const without = (except: Except = []) => {
    const listed = new Set(except.map(({ due, id }) => `${id} ${due}`))
    return (row: MemoryRow) => !listed.has(`${row.id} ${row.due}`)
  }

  const until = (instants: ReadonlyArray<number>, now: number) =>
    instants.length === 0 ? Option.none() : Option.some(Duration.millis(Math.min(...instants) - now))

  const repository: DueRepository = {
    kind: "status-transition",
    channel: channels.statusTransitions,
    look: (from, except) =>
      call("look", (now) => {
        const fresh = unpaused(pending(undefined)).filter((row) => row.due >= (from ?? Number.NEGATIVE_INFINITY))
        const due = ({ due }: MemoryRow) => due
        return Effect.succeed({
          fresh: until(fresh.filter(without(except)).map(due), now),
          retry: until(
            unpaused(pending("retry")).map((row) => row.retryAt),
            now
          ),
          stalled: schedule.stalled,
          paused: schedule.paused,
          from: Math.min(...fresh.map(due), now),
          now
        })
      }),
    applyDue: (limit, from, except) =>
      call("applyDue", (now) =>
        apply(
          pending(undefined)
            .filter((row) => row.due <= now && row.due >= (from ?? Number.NEGATIVE_INFINITY))
            .filter(without(except))
            .slice(0, limit),
          now
        )
      ),
    applyThese: (wanted) =>
      call("applyThese", (now) =>
        apply(
          wanted.flatMap((row) => Option.toArray(find(row))).filter((row) => row.due <= now && row.hold !== "parked"),
          now
        )
      ),
    listDue: (limit, except, from) =>
      call("listDue", (now) =>
        Effect.succeed(
          pending(undefined)
            .filter((row) => row.due <= now && row.due >= (from ?? Number.NEGATIVE_INFINITY))
            .filter(without(except))
            .slice(0, limit)
            .map(reference)
        )
      ),
    listRetries: (limit) =>
      call("listRetries", (now) =>
        Effect.succeed(
          pending("retry")
            .filter((row) => row.retryAt <= now && !locked.has(row.id))
            .slice(0, limit)
            .map(reference)
        )
      ),
    recordFailure: (wanted, failure, maxAttempts, certain = true) =>
      call("recordFailure", (now) =>
        Effect.succeed(
          Option.map(
            Option.filter(
              find(wanted),
              (row) => !locked.has(row.id) && (row.hold === undefined || (row.hold === "retry" && row.retryAt <= now))
            ),
            (row) => {
              const counted = certain || row.hold === undefined || appliedAt > row.failedAt
              if (counted) row.attempts += 1
              const parked = row.attempts >= maxAttempts
              row.hold = parked ? "parked" : "retry"
              row.failedAt = ++happened
              row.retryAt = now + Duration.toMillis(pauseAfter(row.attempts))
              if (parked) deadLetters.push({ ...failure, source_id: row.id, attempts: row.attempts })
              return {
                game_id: GameId.make(row.game_id),
                target: "IN_PROGRESS",
                due_at: wanted.due,
                attempts: row.attempts,
                counted,
                parked,
                planned_in: null
              }
            }
          )
        )
      ),
    findLeft: (overdueFor, from, except) =>
      call("findLeft", (now) =>
        Effect.succeed(
          Option.map(
            Option.fromNullishOr(
              pending(undefined)
                .filter(without(except))
                .find(
                  ({ due, id }) =>
                    due <= now - Duration.toMillis(overdueFor) &&
                    due >= (from ?? Number.NEGATIVE_INFINITY) &&
                    !locked.has(id)
                )
            ),
            (row) => ({ ...reference(row), game_id: row.game_id, target: "IN_PROGRESS" })
          )
        )
      ),
    releaseStalled: call("releaseStalled", () => Effect.void)
  }

  const schedule: MemorySchedule["Service"] = {
    repository,
    rows,
    deadLetters,
    poison,
    refusal: "23514",
    locked,
    stalled: false,
    paused: false,
    outage: Option.none(),
    onCall: () => Effect.void,
    add: (id, dueIn, gameId = crypto.randomUUID()) =>
      Effect.map(uptimeMillis, (now) => {
        rows.set(id, {
          id,
          game_id: gameId,
          due: now + Duration.toMillis(dueIn),
          done: false,
          hold: undefined,
          attempts: 0,
          failedAt: 0,
          retryAt: 0
        })
      })
  }
  return schedule
}

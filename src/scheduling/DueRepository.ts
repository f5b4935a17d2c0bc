/**
 * What a kind of schedule offers to the {@link DueLoop}: its next due time, and batches that are claimed and applied.
 *
 * A batch is claimed, applied and told of in one statement, which is one transaction, so a crash at any point undoes all
 * of it. Whoever implements this never waits for a row that somebody else has locked.
 */
import type { Duration, Effect, Option } from "effect"
import type { SqlError } from "effect/sql"
import type { GameId } from "../domain/Game.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import type { Channel } from "../postgres/channels.ts"

/** A schedule row as it was when it was read; `due` is exact text, so that a row moved since is recognised. */
export interface DueRow {
  readonly id: string
  readonly due: string
}

/**
 * `applied`, `sent`: took effect. `superseded`, `skipped`: done, without effect, because the game no longer allowed it.
 * `waiting`: a completion put aside until its start is done. `parked`: became a dead letter at once. `shadowed`: nothing
 * was done, only recorded what would have been.
 */
export type Outcome = "applied" | "sent" | "superseded" | "skipped" | "waiting" | "parked" | "shadowed"

/** A row of a batch after its transaction. */
export interface Processed {
  readonly id: string
  readonly game_id: GameId
  /** The status a game was to take, or the reminder's minutes. */
  readonly target: string
  readonly due_at: string
  readonly outcome: Outcome
  /** From the due time to the statement, by the database's clock, ms. */
  readonly lateness_ms: number
  /** The `traceparent` of whoever planned the row. */
  readonly planned_in: string | null
  /** That of what was done with the row, which the event carries; the same where no spans are exported. */
  readonly traceparent: string | null
}

/**
 * From when on rows are looked at, ms since 1970 by the database's clock; undefined for all. What is done leaves entries
 * in the index until the server cleans up, and a look that knows that nothing earlier is pending need not pass them.
 */
export type From = number | undefined

/** Rows that are passed over, each as it was: one that has been moved since is none of them. None unless given. */
export type Except = ReadonlyArray<DueRow>

export interface Look {
  /** Until the earliest such row is due, by the database's clock; zero or less when it is; none when there is none. */
  readonly fresh: Option.Option<Duration.Duration>
  /** The same for rows that failed and are tried again. */
  readonly retry: Option.Option<Duration.Duration>
  /** Whether rows were put aside that {@link DueRepository.releaseStalled} should look at now and then. */
  readonly stalled: boolean
  /** Whether somebody has paused the kind: then nothing of it is due, and nothing is claimed. */
  readonly paused: boolean
  /** Where the next look may begin, unless something earlier is hinted at: before the earliest fresh row of all. */
  readonly from: number
  /** When it was made, ms since 1970 by the database's clock. */
  readonly now: number
}

/** Why a row failed, as the dead letter will tell it. */
export interface RowFailure {
  readonly error: string
  readonly message: string
}

/** A row that is overdue though it could be applied. */
export interface LeftRow extends DueRow {
  readonly game_id: string
  readonly target: string
}

export interface DueRepository {
  readonly kind: ScheduleKind
  readonly channel: Channel
  readonly look: (from: From, except?: Except) => Effect.Effect<Look, SqlError.SqlError>
  /** Claims and applies the earliest fresh due rows, at most one per game. */
  readonly applyDue: (
    limit: number,
    from: From,
    except?: Except
  ) => Effect.Effect<ReadonlyArray<Processed>, SqlError.SqlError>
  /** Claims and applies these rows, as far as they are still due and unchanged. */
  readonly applyThese: (rows: ReadonlyArray<DueRow>) => Effect.Effect<ReadonlyArray<Processed>, SqlError.SqlError>
  /** The earliest fresh due rows, without a claim: what a batch that failed was about. */
  readonly listDue: (
    limit: number,
    except?: Except,
    from?: From
  ) => Effect.Effect<ReadonlyArray<DueRow>, SqlError.SqlError>
  /** The earliest failed rows whose pause is over, of those that nobody holds at the moment. */
  readonly listRetries: (limit: number) => Effect.Effect<ReadonlyArray<DueRow>, SqlError.SqlError>
  /**
   * Counts an attempt of a row, gives it its next try or makes it a dead letter. None when nothing was recorded: the row
   * has changed, is locked, or another engine that met the same failure has recorded it a moment before. Where it is not
   * `certain` that the row is at fault, a row that is tried again gets its next try and no attempt, unless another row
   * took effect since it failed last, whoever did it. Certain unless told otherwise.
   */
  readonly recordFailure: (
    row: DueRow,
    failure: RowFailure,
    maxAttempts: number,
    certain?: boolean
  ) => Effect.Effect<Option.Option<FailedRow>, SqlError.SqlError>
  /** The earliest fresh row that has been due for so long while neither it nor its game is held by anybody. */
  readonly findLeft: (
    overdueFor: Duration.Duration,
    from: From,
    except?: Except
  ) => Effect.Effect<Option.Option<LeftRow>, SqlError.SqlError>
  /** Puts rows that wait in vain back among the fresh ones. */
  readonly releaseStalled: Effect.Effect<void, SqlError.SqlError>
}

export interface FailedRow {
  readonly game_id: GameId
  readonly target: string
  readonly due_at: string
  readonly attempts: number
  /** Whether this failure was counted as an attempt. */
  readonly counted: boolean
  readonly parked: boolean
  /** The `traceparent` of whoever planned the row. */
  readonly planned_in: string | null
}

/**
 * A planned change of a game's status: the row of `game_status_schedule`.
 *
 * `hold` says why a row that is not executed is not simply waiting for its time; see {@link Hold}.
 */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { GameId } from "./Game.ts"
import { GameStatus } from "./GameStatus.ts"
import { InstantColumn, NullableInstantColumn } from "./Instant.ts"

/**
 * `retry`: failed, tried again at `retry_at`. `waiting`: a completion whose start is still pending. `parked`: given up,
 * a dead letter tells why. All three end when anybody changes the row's time or its done flag.
 */
export const Hold = Schema.Literals(["retry", "waiting", "parked"])
export type Hold = typeof Hold.Type

/** What became of an executed row: `superseded` means that the game's status no longer allowed it. */
export const StatusTransitionOutcome = Schema.Literals(["applied", "superseded"])

export class StatusTransition extends Model.Class<StatusTransition>("StatusTransition")({
  id: Schema.String,
  game_id: GameId,
  target_status: GameStatus,
  transition_time: InstantColumn,
  executed: Schema.Boolean,
  executed_at: NullableInstantColumn,
  outcome: Schema.NullOr(StatusTransitionOutcome),
  hold: Schema.NullOr(Hold),
  attempts: Schema.Int,
  retry_at: NullableInstantColumn,
  created_at: InstantColumn,
  /** The trace of the request that planned it, if any; it is nothing for clients. */
  traceparent: Model.Sensitive(Schema.NullOr(Schema.String))
}) {}

/** Why a use case on a game was refused. Each message is fit to be shown to the client. */
import { Schema } from "effect"
import { GameStatus } from "../domain/GameStatus.ts"

/** There is no game with this id. */
export class GameNotFound extends Schema.TaggedError<GameNotFound>()("GameNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no game ${this.id}`
  }
}

/** The caller deals with games of other guilds only. */
export class GuildForbidden extends Schema.TaggedError<GuildForbidden>()("GuildForbidden", {
  guild_id: Schema.String
}) {
  override get message() {
    return `Games of the guild ${JSON.stringify(this.guild_id)} are not yours to plan`
  }
}

/** The state machine has no such step. */
export class IllegalTransition extends Schema.TaggedError<IllegalTransition>()("IllegalTransition", {
  from: GameStatus,
  to: GameStatus
}) {
  override get message() {
    return `A game that is ${this.from} cannot become ${this.to}`
  }
}

/** A field that the game's status, as it stands after the change, does not allow to be changed. */
export class GameNotEditable extends Schema.TaggedError<GameNotEditable>()("GameNotEditable", {
  field: Schema.String,
  status: GameStatus
}) {
  override get message() {
    return `${this.field} of a game that is ${this.status} cannot be changed`
  }
}

/** The game would end in year 10000, which RFC 3339 has not, so that nobody could be told when. */
export class EndTooLate extends Schema.TaggedError<EndTooLate>()("EndTooLate", {}) {
  override get message() {
    return "Expected a start and a duration that end before the year 10000"
  }
}

/** Somebody changed the game since the client saw it. */
export class VersionMismatch extends Schema.TaggedError<VersionMismatch>()("VersionMismatch", { version: Schema.Int }) {
  override get message() {
    return `The game is at version ${this.version} by now`
  }
}

/** The key was used within the last 24 hours, and cannot answer this request. */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()("IdempotencyConflict", {
  reason: Schema.Literals(["other-request", "game-deleted"])
}) {
  override get message() {
    return this.reason === "other-request"
      ? "The Idempotency-Key was used for another request within the last 24 hours"
      : "The game that was created under this Idempotency-Key has been deleted"
  }
}

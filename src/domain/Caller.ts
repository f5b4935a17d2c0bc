/**
 * Who asks for something to be done: for the record, and for how much of the games he gets to see and may change.
 *
 * Use cases require one, so that nobody can forget to say on whose behalf they run.
 */
import { Context } from "effect"

/** The guilds whose games somebody deals with; of all others he does not even learn that they exist. */
export type Guilds = "every" | ReadonlyArray<string>

export class Caller extends Context.Service<
  Caller,
  {
    /** What the record shows, like `resolved_by` of a dead letter. */
    readonly name: string
    readonly guilds: Guilds
  }
>()("kickoff/domain/Caller") {
  /** Whoever reaches an API that asks for no key. */
  static readonly anybody = Caller.of({ name: "api", guilds: "every" })
}

export const includesGuild = (guilds: Guilds, guild_id: string): boolean =>
  guilds === "every" || guilds.includes(guild_id)

/** Those of a caller's guilds that a filter leaves; all of them when it names none. */
export const narrowTo = (guilds: Guilds, guild_id: string | undefined): Guilds =>
  guild_id === undefined ? guilds : includesGuild(guilds, guild_id) ? [guild_id] : []

/** On whose behalf the use cases of a test run. */
import { Layer } from "effect"
import { Caller, type Guilds } from "../../src/domain/Caller.ts"

/** Somebody who deals with every guild, or only with these. */
export const callerLayer = (name: string, guilds: Guilds = "every") =>
  Layer.succeed(Caller, Caller.of({ name, guilds }))

export const anybody = Layer.succeed(Caller, Caller.anybody)

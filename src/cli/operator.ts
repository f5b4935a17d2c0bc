/** On whose behalf a command runs: the person at the keyboard, who deals with every guild. */
import { Effect } from "effect"
import { userInfo } from "node:os"
import { Caller } from "../domain/Caller.ts"

export const operator = Effect.try({ try: () => userInfo().username, catch: () => undefined }).pipe(
  // A container may run under a number that has no name.
  Effect.orElseSucceed(() => `uid ${process.getuid?.() ?? "unknown"}`),
  Effect.map((name) => Caller.of({ name, guilds: "every" }))
)

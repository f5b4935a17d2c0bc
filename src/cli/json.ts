/** The flag that every command has, and what it prints: one line of JSON on standard output, and nothing else. */
import type { Effect } from "effect"
import { Flag } from "effect/cli"
import { print } from "./terminal.ts"

export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print JSON, for programs"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

export const printJson = (value: object): Effect.Effect<void> => print(JSON.stringify(value))

/**
 * The commands by their names. Each comes by a dynamic import, so that a call loads the one that it is about: a container
 * runs `health` every few seconds.
 */
import { Effect } from "effect"
import { Command } from "effect/cli"

const loaders = {
  serve: () => import("./serve.ts").then(({ serve }) => serve),
  migrate: () => import("./migrate.ts").then(({ migrate }) => migrate),
  health: () => import("./health.ts").then(({ health }) => health),
  status: () => import("./status.ts").then(({ status }) => status),
  doctor: () => import("./doctor.ts").then(({ doctor }) => doctor),
  verify: () => import("./verify.ts").then(({ verify }) => verify),
  explain: () => import("./explain.ts").then(({ explain }) => explain),
  forecast: () => import("./forecast.ts").then(({ forecast }) => forecast),
  pause: () => import("./pause.ts").then(({ pause }) => pause),
  resume: () => import("./pause.ts").then(({ resume }) => resume),
  "dead-letters": () => import("./deadLetters.ts").then(({ deadLetters }) => deadLetters),
  backfill: () => import("./backfill.ts").then(({ backfill }) => backfill),
  shadow: () => import("./shadow.ts").then(({ shadow }) => shadow),
  keys: () => import("./keys.ts").then(({ keys }) => keys)
}

type Name = keyof typeof loaders

const isName = (name: string): name is Name => Object.hasOwn(loaders, name)

// The names are the keys of the object, which TypeScript does not say.
const names = Object.keys(loaders) as ReadonlyArray<Name>

/** The commands that a call needs, by its first word: all of them for help, completions, and a name that is none. */
const namesFor = (word: string | undefined): ReadonlyArray<Name> =>
  word === "--version" || word === "-v" ? [] : word !== undefined && isName(word) ? [word] : names

/** The program, as far as a call needs it. */
export const loadFor = (word: string | undefined) =>
  Effect.map(
    Effect.promise(() => Promise.all(namesFor(word).map((name) => loaders[name]()))),
    (commands) =>
      Command.make("kickoff").pipe(
        Command.withDescription("The clock of a game-session platform. Without a command it serves."),
        Command.withSubcommands(commands)
      )
  )

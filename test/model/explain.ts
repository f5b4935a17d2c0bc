/**
 * Explains by the model what was seen of a game after a group of commands that happened at the same time.
 *
 * They may have happened in any order, with the steps of engines anywhere between: all of that is tried. Games are
 * independent of each other, so each is explained alone.
 */
import type { Engine, Kind } from "./commands.ts"
import { key } from "./differences.ts"
import type { Doing } from "./doing.ts"
import * as Model from "./model.ts"

/** Who runs the engines: the history, step by step, or they themselves. */
export type Mode = "steps" | "live"

/** What was done, and what its author was told. */
export interface Done {
  readonly doing: Doing
  readonly answer: Model.Answer
  /** The id of a game that came of it. */
  readonly id: string | null
}

/** One explanation of what happened to a game. */
export interface Path {
  readonly game: Model.Game | undefined
  /** What the authors of the group's commands should have been told, by their place in the group. */
  readonly answers: Readonly<Record<number, Model.Answer>>
}

/** Something that happens once to a game in a group: what may come of it. */
interface Once {
  readonly place: number
  readonly outcomes: (game: Model.Game | undefined) => ReadonlyArray<readonly [Model.Game | undefined, Model.Answer?]>
}

/** Everything that may become of a game: all orders of what happens once, and between them what flows on by itself. */
const explore = (
  begin: Model.Game | undefined,
  onces: ReadonlyArray<Once>,
  flow: (game: Model.Game) => ReadonlyArray<Model.Game>
): ReadonlyArray<Path> => {
  const ends: Array<Path> = []
  const visited = new Set<string>()
  const visit = (path: Path, open: ReadonlyArray<Once>) => {
    const place = key([path, open.map(({ place }) => place)])
    if (visited.has(place)) return
    visited.add(place)
    if (open.length === 0) ends.push(path)
    if (path.game !== undefined) for (const game of flow(path.game)) visit({ ...path, game }, open)
    for (const once of open) {
      for (const [game, answer] of once.outcomes(path.game)) {
        const answers = answer === undefined ? path.answers : { ...path.answers, [once.place]: answer }
        visit(
          { game, answers },
          open.filter((other) => other !== once)
        )
      }
    }
  }
  visit({ game: begin, answers: {} }, onces)
  return ends
}

/** A loop of an engine. */
interface Loop {
  readonly engine: Engine
  readonly kind: Kind
}

export const kinds: ReadonlyArray<Kind> = ["status-transition", "notification"]
const loops = kinds.flatMap((kind): ReadonlyArray<Loop> => [
  { engine: "A", kind },
  { engine: "B", kind }
])

/** What holds while a group happens. */
export interface Circumstances {
  readonly now: number
  readonly mode: Mode
  readonly paused: ReadonlySet<Kind>
}

/** What may become of one game in a group. */
export const explain = (
  name: string,
  begin: Model.Game | undefined,
  group: ReadonlyArray<Done>,
  { mode, now, paused }: Circumstances
): ReadonlyArray<Path> => {
  const crowded = group.length > 1 || mode === "live"
  const drained: ReadonlyArray<Loop> =
    mode === "live" ? loops : group.flatMap(({ doing }) => (doing._tag === "Drain" ? [doing] : []))
  const relayed: ReadonlyArray<{ readonly engine: Engine; readonly refused: boolean }> =
    mode === "live"
      ? [{ engine: "A", refused: false }]
      : group.flatMap(({ doing }) =>
          doing._tag === "Publish" ? [{ engine: doing.engine, refused: doing.refused === name }] : []
        )
  /** Whether others may have told something after the relay came to rest. */
  const toldLater = mode === "steps" && group.some(({ doing }) => doing._tag === "Claim" || doing._tag === "Drain")

  /** The release of a waiting completion passes over a row that somebody else holds at that moment. */
  const orUnreleased = (before: Model.Game | undefined, after: Model.Game): ReadonlyArray<Model.Game> => {
    if (!crowded || before?.rows.end?.hold !== "waiting" || after.rows.end?.hold !== null) return [after]
    const { end } = after.rows
    if (end.born !== before.rows.end.born || end.done || end.due !== before.rows.end.due) return [after]
    return [after, { ...after, rows: { ...after.rows, end: { ...end, hold: "waiting" } } }]
  }

  const flow = (game: Model.Game) => [
    ...drained.flatMap(({ engine, kind }) =>
      Model.advance(game, kind, now, engine, paused.has(kind)).flatMap((after) => orUnreleased(game, after))
    ),
    ...relayed.flatMap(({ engine, refused }) => Model.relay(game, now, engine, refused) ?? [])
  ]

  let acted = false
  const onces = group.flatMap(({ answer, doing }, place): ReadonlyArray<Once> => {
    switch (doing._tag) {
      case "Make":
      case "Insert":
        if (doing.name !== name) return []
        acted = true
        return [
          {
            place,
            outcomes: () => {
              const game = Model.create(doing.fields, now, doing._tag === "Make" ? "api" : doing.rows)
              return [[game, doing._tag === "Make" ? { status: 201, game: Model.showGame(game) } : { sql: "done" }]]
            }
          }
        ]
      case "Repeat":
      case "Act":
      case "Backfill": {
        if (doing._tag !== "Backfill" && doing.name !== name) return []
        acted = true
        const act: Model.Act = doing._tag === "Act" ? doing.act : { _tag: doing._tag }
        return [
          {
            place,
            outcomes: (game) => {
              if (game === undefined) return [[undefined]]
              const [after, answer] = Model.perform(game, act, now)
              return orUnreleased(game, after).map((after) => [after, answer] as const)
            }
          }
        ]
      }
      case "Claim": {
        const refused = answer["engine"] === "refused"
        return [
          {
            place,
            outcomes: (game) => {
              if (game === undefined || refused || paused.has(doing.kind)) return [[game]]
              if (!crowded) return Model.claim(game, doing.kind, now, doing.engine).map((after) => [after] as const)
              return Model.claimAmid(game, doing.kind, now, doing.engine)
                .flatMap((after) => orUnreleased(game, after))
                .map((after) => [after] as const)
            }
          }
        ]
      }
      default:
        return []
    }
  })
  const paths = explore(begin, onces, flow)
  if (acted && mode === "steps") return paths
  return paths.filter(
    ({ game }) =>
      game === undefined ||
      (drained.every(({ kind }) =>
        (mode === "live" ? Model.isSettled : Model.isQuiet)(game, kind, now, paused.has(kind))
      ) &&
        (toldLater || relayed.every(({ engine, refused }) => Model.relay(game, now, engine, refused) === undefined)))
  )
}

/** Answers that do not depend on a single game. */
export const expectedElsewhere = (
  { doing }: Done,
  games: ReadonlyArray<Model.Game>,
  { now, paused }: Circumstances,
  crowded: boolean
): ReadonlyArray<Model.Answer> => {
  switch (doing._tag) {
    case "Conflict":
      return [{ status: 409 }]
    case "Pause":
      return [{ status: 200 }]
    case "Resume":
      return [{ status: 204 }]
    case "Claim": {
      if (paused.has(doing.kind)) return [{ engine: "done" }]
      const refuses = games.some((game) => Model.refusesBatch(game, doing.kind, now))
      const poisoned = games.some((game) => game.poisoned)
      return [
        ...(refuses && !crowded ? [] : [{ engine: "done" }]),
        ...(refuses || (poisoned && crowded) ? [{ engine: "refused" }] : [])
      ]
    }
    case "Drain":
    case "Publish":
      return [{ engine: "done" }]
    case "Backfill":
      return [{ sql: "done" }]
    case "Pass":
      return [{}]
    default:
      return []
  }
}

/**
 * Plays a history on the real service and on the model, and says where they part.
 *
 * After each group of commands everything that can be seen of every game is held against the model; at the end also what
 * the API shows, and what `verify` finds.
 */
import { Effect, Schema } from "effect"
import { type Kind, type Move, type Step, toGroups } from "./commands.ts"
import { differences, key, nearest } from "./differences.ts"
import { type Doing, resolveGroup, showDoing, type Situation } from "./doing.ts"
import { type Done, expectedElsewhere, explain, kinds, type Mode } from "./explain.ts"
import * as Model from "./model.ts"
import type { Seen } from "./sight.ts"
import { World } from "./World.ts"

/** The service did what no order of the model explains. */
export class Divergence extends Schema.TaggedError<Divergence>()("Divergence", { report: Schema.String }) {
  override get message() {
    return this.report
  }
}

interface Known {
  readonly id: string
  readonly game: Model.Game
}

/** What the history has come to. */
interface State extends Situation {
  now: number
  readonly games: Map<string, Known>
  readonly paused: Set<Kind>
  readonly slots: Array<string | undefined>
  readonly keys: Map<string, NonNullable<ReturnType<Situation["keys"]["get"]>>>
  seen: ReadonlyMap<string, Seen>
}

const perform = Effect.fnUntraced(function* (doing: Doing, state: State): Effect.fn.Return<Done, never, World> {
  const world = yield* World
  const idOf = (name: string) => state.games.get(name)?.id ?? ""
  const told = (answer: Effect.Effect<Model.Answer>) => Effect.map(answer, (answer) => ({ doing, answer, id: null }))
  switch (doing._tag) {
    case "Make":
      return { doing, ...(yield* world.create(doing.fields, doing)) }
    case "Conflict":
      return yield* told(Effect.map(world.create(doing.made.fields, doing.made), ({ answer }) => answer))
    case "Repeat": {
      const { answer, id } = yield* world.create(doing.made.fields, doing.made)
      return { doing, answer: id === null || id === idOf(doing.name) ? answer : { another: id }, id: null }
    }
    case "Insert":
      return { doing, answer: { sql: "done" }, id: yield* world.insert(doing.fields, doing.rows) }
    case "Act": {
      const { act, name } = doing
      if (act._tag !== "Settle") return yield* told(world.act(idOf(name), act))
      const game = state.games.get(name)?.game
      const letter = game?.letters[act.letter]
      const meant = game === undefined || letter === undefined ? "" : key(Model.showLetter(game, letter))
      const found = state.seen.get(idOf(name))?.letters.find(({ shown }) => key(shown) === meant)
      return yield* told(world.settle(act.verb, found?.id ?? "no such letter"))
    }
    case "Backfill":
      return yield* told(world.backfill)
    case "Pass":
      return yield* told(Effect.as(world.passTo(doing.until), {}))
    case "Pause":
    case "Resume":
      return yield* told(world.setPaused(doing.kind, doing._tag === "Pause"))
    case "Claim":
      return yield* told(world.claim(doing.engine, doing.kind))
    case "Drain":
      return yield* told(world.drain(doing.engine, doing.kind))
    default:
      return yield* told(world.publish(doing.engine, doing.refused === null ? null : idOf(doing.refused)))
  }
})

/** What was played, a line for each group, the last of which went wrong, and how. */
const showReport = (played: ReadonlyArray<ReadonlyArray<Doing>>, lines: ReadonlyArray<string>): string =>
  [
    ...played.map(
      (group, at) => `${at === played.length - 1 ? ">" : " "} ${at + 1}  ${group.map(showDoing).join("   ‖   ")}`
    ),
    ...lines.map((line) => `      ${line}`)
  ].join("\n")

/** Plays one history from an empty database on; fails with where the service and the model part. */
export const play = Effect.fnUntraced(function* (history: ReadonlyArray<Move>, mode: Mode) {
  const world = yield* World
  yield* world.reset
  const state: State = { now: 0, games: new Map(), paused: new Set(), slots: [], keys: new Map(), seen: new Map() }
  const played: Array<ReadonlyArray<Doing>> = []
  const part = (lines: ReadonlyArray<string>) => Effect.fail(new Divergence({ report: showReport(played, lines) }))
  let crowded = false

  for (const group of [...toGroups(history), ...epilogue(mode)]) {
    const doings = resolveGroup(group, state)
    if (doings.length === 0) continue
    played.push(doings)
    if (doings.length > 1 !== crowded) {
      crowded = doings.length > 1
      yield* world.crowd(crowded)
    }
    const done = yield* Effect.forEach(doings, (doing) => perform(doing, state), { concurrency: "unbounded" })
    for (const { doing } of done) {
      if (doing._tag === "Pass") state.now = doing.until
      else if (doing._tag === "Pause") state.paused.add(doing.kind)
      else if (doing._tag === "Resume") state.paused.delete(doing.kind)
    }
    const { games: seen } = yield* mode === "live"
      ? Effect.catchTag(world.observeAtRest, "TimeoutError", () =>
          Effect.flatMap(world.observe, ({ games }) =>
            part([
              "the engines do not come to rest",
              ...[...games.values()].map(({ pending }) => JSON.stringify(pending))
            ])
          )
        )
      : world.observe
    const circumstances = { now: state.now, paused: state.paused, mode }
    const { now } = state

    const games = [...state.games.values()].map(({ game }) => game)
    for (const one of done) {
      const expected = expectedElsewhere(one, games, circumstances, crowded)
      if (expected.length > 0 && !expected.some((answer) => key(answer) === key(one.answer))) {
        yield* part([`${one.doing._tag}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(one.answer)}`])
      }
    }

    const born = done.flatMap(({ doing, id }) =>
      doing._tag === "Make" || doing._tag === "Insert" ? [{ name: doing.name, id, doing }] : []
    )
    for (const { name } of [...[...state.games.keys()].map((name) => ({ name })), ...born]) {
      const id = state.games.get(name)?.id ?? born.find((game) => game.name === name)?.id ?? null
      const paths = explain(name, state.games.get(name)?.game, done, circumstances)
      const found = id === null ? undefined : seen.get(id)?.shown
      const reasons = paths.map((path) => [
        ...Object.entries(path.answers).flatMap(([place, expected]) =>
          differences(expected, done[Number(place)]?.answer, `answer ${Number(place) + 1}`)
        ),
        ...differences(path.game === undefined ? undefined : Model.show(path.game), found, "")
      ])
      const explanation = paths[reasons.findIndex((reason) => reason.length === 0)]
      if (explanation?.game === undefined || id === null) yield* part([`${name}:`, ...nearest(reasons)])
      else state.games.set(name, { id, game: explanation.game })
    }
    const ids = new Set([...state.games.values()].map(({ id }) => id))
    const strangers = [...seen].flatMap(([id, { exists }]) => (exists && !ids.has(id) ? [id] : []))
    if (strangers.length > 0) yield* part([`games that nobody planned: ${strangers.join(", ")}`])

    for (const { doing, name } of born) {
      state.slots[doing.slot] = name
      if (doing._tag === "Make" && doing.key !== null) {
        state.keys.set(doing.key, { fields: doing.fields, key: doing.key, name, at: now })
      }
    }
    state.seen = seen
  }

  // What is settled moves on only where a completion is stranded: engines that run by themselves may find it at any time.
  const later = (game: Model.Game) =>
    mode === "live"
      ? Model.advance(game, "status-transition", state.now, "A", state.paused.has("status-transition"))
      : []
  for (const [name, { game, id }] of state.games) {
    const found = yield* world.read(id)
    const reasons = [game, ...later(game), ...later(game).flatMap(later)].map((game) =>
      differences(game.exists ? { game: Model.showGame(game), rows: Model.show(game).rows } : null, found, "")
    )
    if (reasons.every((lines) => lines.length > 0)) yield* part([`${name}, as the API shows it:`, ...nearest(reasons)])
  }
  const meddled = played.some((group) => group.some(isMeddling))
  for (const [check, count] of Object.entries(yield* world.verify)) {
    if (!meddled || soundChecks.has(check)) yield* part([`verify: ${count} ${check}`])
  }
})

/** What another application may do that `verify` objects to, and rightly so. */
const isMeddling = (doing: Doing): boolean =>
  doing._tag === "Insert" ||
  (doing._tag === "Act" && ["DeleteRow", "MarkRow", "MoveRow", "UpdateGame"].includes(doing.act._tag))

/** The checks that nobody but the service can offend. */
const soundChecks: ReadonlySet<string> = new Set(["early", "overdue", "unrecorded", "untold"])

/** What ends every history: pauses and causes of failure go away, everything becomes due and is done, and all events are published. */
const epilogue = (mode: Mode): ReadonlyArray<ReadonlyArray<Step>> => {
  const cures = [
    ...kinds.map((kind): ReadonlyArray<Step> => [{ _tag: "Resume", kind }]),
    ...[0, 1].map((slot): ReadonlyArray<Step> => [{ _tag: "Cure", slot }])
  ]
  const drains = (engine: "A" | "B") => kinds.map((kind): ReadonlyArray<Step> => [{ _tag: "Drain", kind, engine }])
  const later: ReadonlyArray<ReadonlyArray<Step>> = [[{ _tag: "PassADay" }]]
  return mode === "live"
    ? [...cures, ...later]
    : [...cures, ...drains("A"), ...later, ...drains("B"), [{ _tag: "Publish", engine: "A" }]]
}

/**
 * What a command means at its moment: which game, which instants, which version, which letter.
 *
 * Games have names here ("game 1"), because ids are made by the service; a command that means nothing now is left out.
 */
import type { Engine, Kind, RowName, Step } from "./commands.ts"
import { type Act, type Fields, type Game, isFinal, keyLife, type PlannedRow, rowsOf } from "./model.ts"

/** The request with which a game was made. */
interface Made {
  readonly fields: Fields
  readonly key: string
}

/** What the history has come to, as far as commands depend on it. */
export interface Situation {
  readonly now: number
  readonly games: ReadonlyMap<string, { readonly game: Game }>
  /** Kinds that are paused. */
  readonly paused: ReadonlySet<Kind>
  /** The names of the games that were made last in their slots. */
  readonly slots: ReadonlyArray<string | undefined>
  /** What idempotency keys were used for, and when. */
  readonly keys: ReadonlyMap<string, Made & { readonly name: string; readonly at: number }>
}

/** A game that is to be made. */
interface Birth {
  readonly name: string
  readonly slot: number
  readonly fields: Fields
}

/** A command in terms of this moment: which game, which instants, which version. */
export type Doing =
  | (Birth & { readonly _tag: "Make"; readonly key: string | null; readonly twice?: boolean })
  | (Birth & { readonly _tag: "Insert"; readonly rows: ReadonlyArray<PlannedRow> })
  /** A key that was used for something else. */
  | { readonly _tag: "Conflict"; readonly made: Made }
  | { readonly _tag: "Repeat"; readonly name: string; readonly made: Made }
  | {
      readonly _tag: "Act"
      readonly name: string
      readonly act: Exclude<Act, { readonly _tag: "Repeat" | "Backfill" }>
    }
  | { readonly _tag: "Backfill" }
  | { readonly _tag: "Pass"; readonly until: number }
  | { readonly _tag: "Publish"; readonly engine: Engine; readonly refused: string | null }
  | Extract<Step, { readonly _tag: "Claim" | "Drain" | "Pause" | "Resume" }>

/** The command in terms of this moment, or undefined if it says nothing now. */
const resolve = (command: Step, situation: Situation): Doing | undefined => {
  const { games, keys, now, paused, slots } = situation
  const fieldsOf = (command: {
    readonly startsIn: number
    readonly duration: number
    readonly reminders: ReadonlyArray<number>
  }) => ({
    title: "Go",
    startsAt: now + command.startsIn,
    duration: command.duration,
    reminders: command.reminders
  })
  const freshName = () => `game ${games.size + 1}`
  const on = (slot: number, make: (game: Game, name: string) => Doing | undefined) => {
    const name = slots[slot]
    const known = name === undefined ? undefined : games.get(name)
    return name === undefined || known === undefined ? undefined : make(known.game, name)
  }
  /** A game that is not over keeps its slot, so that much happens to few games. */
  const isTaken = (slot: number) => {
    const game = games.get(slots[slot] ?? "")?.game
    return game?.exists === true && !isFinal(game.status)
  }
  const onGame = (slot: number, make: (game: Game) => Extract<Doing, { _tag: "Act" }>["act"]) =>
    on(slot, (game, name) => ({ _tag: "Act", name, act: make(game) }))
  const onRow = (
    { slot, which }: { readonly slot: number; readonly which: number },
    make: (row: RowName) => Extract<Doing, { _tag: "Act" }>["act"]
  ) =>
    on(slot, (game, name) => {
      const rows = rowsOf(game)
      const row = rows[which % rows.length]?.[0]
      return row === undefined ? undefined : { _tag: "Act", name, act: make(row) }
    })
  const version = (game: Game, { ifMatch }: { readonly ifMatch?: "current" | "stale" }) =>
    ifMatch === undefined ? null : ifMatch === "current" ? game.version : game.version - 1

  switch (command._tag) {
    case "Create": {
      const fields: Fields = { ...fieldsOf(command), status: "SCHEDULED" }
      const key = command.key === undefined ? null : `key ${command.key}`
      const used = key === null ? undefined : keys.get(key)
      const twice = key !== null && command.twice === true ? { twice: true } : {}
      const make = { _tag: "Make", name: freshName(), slot: command.slot, fields, key, ...twice } as const
      if (used === undefined || now - used.at > keyLife) return isTaken(command.slot) ? undefined : make
      const made = { fields, key: used.key }
      return JSON.stringify(used.fields) === JSON.stringify(fields)
        ? { _tag: "Repeat", name: used.name, made }
        : { _tag: "Conflict", made }
    }
    case "Repeat": {
      const used = [...keys.values()].find(({ name }) => name === slots[command.slot])
      if (used === undefined) return undefined
      const { fields, key, name } = used
      return now - used.at > keyLife
        ? { _tag: "Make", name: freshName(), slot: command.slot, fields, key }
        : { _tag: "Repeat", name, made: used }
    }
    case "Edit": {
      const { duration, reminders, startsIn, title } = command
      return onGame(command.slot, (game) => ({
        _tag: "Edit",
        patch: {
          ...(title === undefined ? {} : { title }),
          ...(startsIn === undefined ? {} : { startsAt: now + startsIn }),
          ...(duration === undefined ? {} : { duration }),
          ...(reminders === undefined ? {} : { reminders })
        },
        ifMatch: version(game, command)
      }))
    }
    case "EditNothing":
      return onGame(command.slot, (game) => ({
        _tag: "Edit",
        patch: {
          title: game.title,
          status: game.status,
          startsAt: game.startsAt,
          duration: game.duration,
          reminders: game.reminders
        },
        ifMatch: version(game, command)
      }))
    case "SetStatus": {
      const { duration, status, title } = command
      return onGame(command.slot, (game) => ({
        _tag: "Edit",
        patch: { status, ...(title === undefined ? {} : { title }), ...(duration === undefined ? {} : { duration }) },
        ifMatch: version(game, command)
      }))
    }
    case "Cancel":
    case "Delete":
      return onGame(command.slot, (game) => ({ _tag: command._tag, ifMatch: version(game, command) }))
    case "Settle":
      return on(command.slot, (game, name) =>
        game.letters.length === 0
          ? undefined
          : {
              _tag: "Act",
              name,
              act: { _tag: "Settle", verb: command.verb, letter: command.which % game.letters.length }
            }
      )
    case "InsertGame": {
      if (isTaken(command.slot)) return undefined
      const rows = command.rows.map(({ dueIn, row }) => ({ row, due: now + dueIn }))
      return {
        _tag: "Insert",
        name: freshName(),
        slot: command.slot,
        fields: { ...fieldsOf(command), reminders: [...new Set(command.reminders)], status: command.status },
        rows: rows.filter(({ row }, index) => rows.findIndex((other) => other.row === row) === index)
      }
    }
    case "InsertRow":
      return onGame(command.slot, () => ({ _tag: "InsertRow", row: command.row, due: now + command.dueIn }))
    case "MoveRow":
      return onRow(command, (row) => ({ _tag: "MoveRow", row, due: now + command.dueIn }))
    case "MarkRow":
      return onRow(command, (row) => ({ _tag: "MarkRow", row, done: command.done }))
    case "DeleteRow":
      return onRow(command, (row) => ({ _tag: "DeleteRow", row }))
    case "UpdateGame": {
      const { startsIn, status, title } = command
      return onGame(command.slot, () => ({
        _tag: "UpdateGame",
        patch: {
          ...(title === undefined ? {} : { title }),
          ...(status === undefined ? {} : { status }),
          ...(startsIn === undefined ? {} : { startsAt: now + startsIn })
        }
      }))
    }
    case "Poison":
    case "Cure":
      return on(command.slot, ({ poisoned }, name) => {
        const on = command._tag === "Poison"
        return poisoned === on ? undefined : { _tag: "Act", name, act: { _tag: "Poison", on } }
      })
    case "Pause":
    case "Resume":
      return paused.has(command.kind) === (command._tag === "Pause") ? undefined : command
    case "Pass":
      return { _tag: "Pass", until: now + command.steps }
    case "PassADay":
      return { _tag: "Pass", until: now + keyLife + 6 }
    case "Publish":
      return {
        _tag: "Publish",
        engine: command.engine,
        refused: command.refused === undefined ? null : (slots[command.refused] ?? null)
      }
    default:
      return command
  }
}

/** The commands of a group in terms of this moment; two relays or two uses of one key at a time are not spoken of. */
export const resolveGroup = (group: ReadonlyArray<Step>, situation: Situation): ReadonlyArray<Doing> => {
  const doings: Array<Doing> = []
  let names = 0
  for (const command of group) {
    const doing = resolve(command, situation)
    if (doing === undefined) continue
    const keyOf = (doing: Doing) =>
      doing._tag === "Make" ? doing.key : doing._tag === "Conflict" || doing._tag === "Repeat" ? doing.made.key : null
    const key = keyOf(doing)
    if (doing._tag === "Publish" && doings.some(({ _tag }) => _tag === "Publish")) continue
    if (key !== null && doings.some((other) => keyOf(other) === key)) continue
    if (doing._tag === "Make" || doing._tag === "Insert") {
      names += 1
      doings.push({ ...doing, name: `game ${situation.games.size + names}` })
    } else doings.push(doing)
  }
  return doings
}

/** A command as a person reads it: the game, what is done to it, and the members that say how. */
export const showDoing = (doing: Doing): string => {
  const { _tag, name, act, ...members } = { name: undefined, act: undefined, ...doing }
  const { _tag: verb, ...more } = { ...act, _tag: act?._tag ?? _tag }
  const given = Object.entries({ ...members, ...more }).filter(([, value]) => value !== null)
  return [name ?? [], verb, ...given.map(([member, value]) => `${member} ${JSON.stringify(value)}`)].flat().join("  ")
}

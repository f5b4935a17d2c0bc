/**
 * What may happen to the service, as data: a history is a list of these, and so it can be generated, shrunk and printed.
 *
 * All times count in steps of ten minutes from now, so that due times meet each other and the present again and again.
 */
import { Arbitrary, Schema } from "effect"

const int = (minimum: number, maximum: number) => Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))

const atMost = <A>(items: Schema.Schema<A>, length: number) =>
  Schema.Array(items).pipe(Schema.check(Schema.isMaxLength(length)))

/** Games are named by the slot in which they were made last. */
const slot = int(0, 1)
/** Steps from now. */
const inSteps = int(-1, 3)
const Title = Schema.Literals(["Go", "Chess", "Catan"])
export const Status = Schema.Literals(["SCHEDULED", "IN_PROGRESS", "COMPLETED", "CANCELLED"])
export type Status = typeof Status.Type
/** Reminders by their steps before the start. */
const RowName = Schema.Literals(["start", "end", "reminder 1", "reminder 2", "reminder 3"])
export type RowName = typeof RowName.Type
const IfMatch = Schema.optionalKey(Schema.Literals(["current", "stale"]))
const Kind = Schema.Literals(["status-transition", "notification"])
export type Kind = typeof Kind.Type
const Engine = Schema.Literals(["A", "B"])
export type Engine = typeof Engine.Type

const times = { startsIn: inSteps, duration: int(0, 3), reminders: atMost(int(1, 3), 2) }

/** Over HTTP. */
const Create = Schema.TaggedStruct("Create", {
  slot,
  ...times,
  /** Idempotency-Key. */
  key: Schema.optionalKey(int(0, 1)),
  /** Sent twice at the same moment, under its key. */
  twice: Schema.optionalKey(Schema.Literal(true))
})
/** The request that made the game, once more. */
const Repeat = Schema.TaggedStruct("Repeat", { slot })
const Edit = Schema.TaggedStruct("Edit", {
  slot,
  startsIn: Schema.optionalKey(inSteps),
  duration: Schema.optionalKey(int(0, 3)),
  reminders: Schema.optionalKey(times.reminders),
  title: Schema.optionalKey(Title),
  ifMatch: IfMatch
})
/** A PATCH with the values that the game has already. */
const EditNothing = Schema.TaggedStruct("EditNothing", { slot, ifMatch: IfMatch })
const SetStatus = Schema.TaggedStruct("SetStatus", {
  slot,
  status: Status,
  title: Schema.optionalKey(Title),
  duration: Schema.optionalKey(int(0, 3)),
  ifMatch: IfMatch
})
const Cancel = Schema.TaggedStruct("Cancel", { slot, ifMatch: IfMatch })
const Delete = Schema.TaggedStruct("Delete", { slot, ifMatch: IfMatch })
/** Replays or discards one of the game's dead letters. */
const Settle = Schema.TaggedStruct("Settle", { slot, verb: Schema.Literals(["replay", "discard"]), which: int(0, 3) })

/** Another application, by plain SQL. */
const InsertGame = Schema.TaggedStruct("InsertGame", {
  slot,
  status: Status,
  ...times,
  /** Its rows, in the same statement; times are their own. Whatever is missing is left to `backfill`. */
  rows: atMost(Schema.Struct({ row: RowName, dueIn: inSteps }), 4)
})
const InsertRow = Schema.TaggedStruct("InsertRow", { slot, row: RowName, dueIn: inSteps })
/** Which of the rows that the game has. */
const which = int(0, 4)
const MoveRow = Schema.TaggedStruct("MoveRow", { slot, which, dueIn: inSteps })
const MarkRow = Schema.TaggedStruct("MarkRow", { slot, which, done: Schema.Boolean })
const DeleteRow = Schema.TaggedStruct("DeleteRow", { slot, which })
/** Another application changes a game, and steps its version as it should. */
const UpdateGame = Schema.TaggedStruct("UpdateGame", {
  slot,
  title: Schema.optionalKey(Title),
  status: Schema.optionalKey(Status),
  startsIn: Schema.optionalKey(inSteps)
})
const Backfill = Schema.TaggedStruct("Backfill", {})

/** From now on the database refuses what the engine wants to tell of the game. */
const Poison = Schema.TaggedStruct("Poison", { slot })
const Cure = Schema.TaggedStruct("Cure", { slot })

/** The database's clock goes on; so long that idempotency keys are forgotten, or short. */
const Pass = Schema.TaggedStruct("Pass", { steps: int(1, 4) })
const PassADay = Schema.TaggedStruct("PassADay", {})

/** One batch of one engine. */
const Claim = Schema.TaggedStruct("Claim", { kind: Kind, engine: Engine })
/** A loop of one engine, until it rests. */
const Drain = Schema.TaggedStruct("Drain", { kind: Kind, engine: Engine })
/** The relay, until it rests, before a broker that may refuse the events of a game. */
const Publish = Schema.TaggedStruct("Publish", { engine: Engine, refused: Schema.optionalKey(slot) })

/** An operator stops what the clock does of a kind, and lets it go on. */
const Pause = Schema.TaggedStruct("Pause", { kind: Kind })
const Resume = Schema.TaggedStruct("Resume", { kind: Kind })

/** The engines try a game in vain until one of them has given it up: {@link Poison} and a loop of each kind. */
const GiveUp = Schema.TaggedStruct("GiveUp", { slot })

/** The same commands with fewer choices: what they do is rare among all. */
const narrow = {
  /** Of a game that is due. */
  CreateDue: Schema.Struct({ ...Create.fields, startsIn: int(-1, 0) }),
  /** Of one that is far enough ahead for its reminder, which is its third row. */
  CreateAhead: Schema.Struct({ ...Create.fields, startsIn: int(3, 5), reminders: Schema.Tuple([int(1, 2)]) }),
  MarkReminder: Schema.Struct({ ...MarkRow.fields, which: Schema.Literal(2), done: Schema.Literal(true) }),
  MarkDone: Schema.Struct({ ...MarkRow.fields, done: Schema.Literal(true) }),
  Stretch: Schema.TaggedStruct("Edit", { slot, duration: int(0, 3) }),
  Move: Schema.TaggedStruct("Edit", { slot, startsIn: inSteps }),
  Overtake: Schema.Struct({ ...UpdateGame.fields, status: Schema.Literals(["IN_PROGRESS", "COMPLETED", "CANCELLED"]) }),
  Replay: Schema.Struct({ ...Settle.fields, verb: Schema.Literal("replay") })
}

/** What there is in every history. */
const always = [Create, Create, Pass, Pass] as const
/** What clients do. */
const clients = [Repeat, Edit, Edit, Edit, EditNothing, SetStatus, SetStatus, Cancel, Delete] as const
/** What other applications do. */
const writers = [InsertGame, InsertGame, InsertRow, MoveRow, MarkRow, MarkRow, DeleteRow, UpdateGame, Backfill] as const
/** What happens to what cannot be done. */
const failures = [Poison, Poison, Cure, Settle, Settle, MoveRow, DeleteRow, UpdateGame] as const
/** What was given up meets a change of its game by another application. */
const overtaking = [narrow.Overtake, narrow.Overtake, narrow.Replay, narrow.Replay, MoveRow] as const
/** What was given up meets a change of its game by a client. */
const moving = [narrow.Move, narrow.Move, narrow.Stretch, Edit, DeleteRow, Settle] as const
/** A change by a client meets rows that another application has marked as done. */
const marking = [
  narrow.MarkReminder,
  narrow.MarkReminder,
  narrow.MarkDone,
  narrow.Stretch,
  narrow.Stretch,
  narrow.Move,
  Pass
] as const
/** What engines do when they are told. */
const engines = [Claim, Claim, Claim, Drain, Drain, Publish] as const
/** What operators do. */
const operators = [Pause, Resume, Resume] as const

const Command = Schema.Union([
  ...always,
  ...clients,
  ...writers,
  ...failures,
  ...engines,
  ...operators,
  PassADay,
  GiveUp
])
export type Command = typeof Command.Type
/** What is played: {@link GiveUp} is played as what it is made of. */
export type Step = Exclude<Command, { readonly _tag: "GiveUp" }>

/** A command, and whether it happens at the same time as the one before. */
export interface Move {
  readonly command: Command
  readonly together: boolean
}

/** Few kinds of commands, which meet each other more often than they do among all. */
interface Theme {
  /** What there is at first. */
  readonly openings: ReadonlyArray<Schema.Schema<Command>>
  readonly commands: Schema.Schema<Command>
  /** Whether all of it is about one game; half of the histories are anyway. */
  readonly alone: boolean
}

const theme = (openings: Theme["openings"], ...commands: ReadonlyArray<Theme["commands"]>): Theme => ({
  openings,
  commands: Schema.Union(commands),
  alone: false
})
const aboutOneGame = (...parts: Parameters<typeof theme>): Theme => ({ ...theme(...parts), alone: true })

/** Parts of a history: their number makes it long, and each of them may shrink to nothing. */
const partLength = 5

/** Histories of one theme each. */
const histories = (themes: Readonly<Record<string, Theme>>, longest: number) =>
  Arbitrary.flatMap(Arbitrary.schema(Schema.Literals(Object.keys(themes))), (name) => {
    const { alone, commands, openings } = themes[name] ?? theme([])
    const move = Arbitrary.all({
      command: Arbitrary.schema(commands),
      together: Arbitrary.map(Arbitrary.schema(int(0, 5)), (n) => n > 3)
    })
    return Arbitrary.map(
      Arbitrary.all({
        inOneSlot: alone ? Arbitrary.Constant(true) : Arbitrary.schema(Schema.Boolean),
        first: Arbitrary.all(openings.map((opening) => Arbitrary.schema(opening))),
        parts: Arbitrary.all(
          Array.from({ length: longest / partLength }, () => Arbitrary.array(move, { maxLength: partLength }))
        )
      }),
      ({ first, inOneSlot, parts }): Array<Move> => {
        const history = [...first.map((command) => ({ command, together: false })), ...parts.flat()]
        return inOneSlot ? history.map((move) => ({ ...move, command: inFirstSlot(move.command) })) : history
      }
    )
  })

const inFirstSlot = (command: Command): Command => ("slot" in command ? { ...command, slot: 0 } : command)

/** Longest histories of the two kinds, without what there is at first. */
export const longest = { steps: 30, live: 25 }

const Made = Schema.Union([Create, Create, InsertGame])

/** Histories in which engines do a step when they are told. */
export const stepHistories = histories(
  {
    all: { ...theme([Made]), commands: Command },
    clients: theme([Create], ...always, ...clients, ...engines),
    writers: theme([Made], ...always, ...writers, ...engines, Edit, Edit),
    failures: theme([Made], ...always, ...failures, ...engines, Edit, SetStatus, InsertGame),
    overtaking: aboutOneGame([narrow.CreateDue, GiveUp], ...overtaking, GiveUp),
    moving: aboutOneGame([narrow.CreateDue, GiveUp], ...moving, GiveUp),
    marking: aboutOneGame([narrow.CreateAhead], ...marking, Drain),
    operators: theme([Made], ...always, ...operators, ...engines, Edit, SetStatus, InsertGame, MarkRow, Poison, Cure)
  },
  longest.steps
)

/** Histories in which both engines run by themselves. */
export const liveHistories = histories(
  {
    all: theme([Made], ...always, ...clients, ...writers, ...failures, ...operators, PassADay),
    clients: theme([Create], ...always, ...clients),
    writers: theme([Made], ...always, ...writers, Edit, Edit),
    failures: theme([Made], ...always, ...failures, Edit, SetStatus, InsertGame),
    overtaking: aboutOneGame([narrow.CreateAhead, Poison], ...overtaking, PassADay),
    moving: aboutOneGame([narrow.CreateAhead, Poison], ...moving, Poison, PassADay),
    marking: aboutOneGame([narrow.CreateAhead], ...marking),
    operators: theme([Made], ...always, ...operators, Edit, SetStatus, InsertGame, MarkRow, Poison, Cure)
  },
  longest.live
)

/** Most commands that happen at the same time. */
const mostTogether = 3

/** Commands that everybody else waits for. */
const isAlone = (command: Step) => ["Pass", "PassADay", "Poison", "Cure", "Pause", "Resume"].includes(command._tag)

/** The commands of a history in groups: those of a group happen at the same time, the groups one after the other. */
export const toGroups = (history: ReadonlyArray<Move>): ReadonlyArray<ReadonlyArray<Step>> => {
  const groups: Array<Array<Step>> = []
  for (const { command, together } of history) {
    if (command._tag === "GiveUp") {
      groups.push([{ _tag: "Poison", slot: command.slot }])
      for (const kind of Kind.literals) groups.push([{ _tag: "Drain", kind, engine: "A" }])
      continue
    }
    const last = groups.at(-1)
    if (together && last !== undefined && last.length < mostTogether && ![command, ...last].some(isAlone)) {
      last.push(command)
    } else groups.push([command])
  }
  return groups
}

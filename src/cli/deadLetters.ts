/**
 * `kickoff dead-letters`: lists, shows, replays and discards what was given up.
 *
 * Exit 1 when a letter was refused; one that is superseded is settled, so that is no failure.
 */
import { DateTime, Effect, Option, Schema, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { type DeadLetter, DeadLetterId, DeadLetterKind } from "../domain/DeadLetter.ts"
import { GameId } from "../domain/Game.ts"
import { InstantFromString } from "../domain/Instant.ts"
import { BadArgument } from "./failures.ts"
import { json, printJson } from "./json.ts"
import { plain, print, toTable } from "./terminal.ts"

/** Some of the letters could not be settled; which and why has been printed. */
export class LettersRefused extends Schema.TaggedError<LettersRefused>()("LettersRefused", { count: Schema.Int }) {
  override get message() {
    return this.count === 1 ? "a dead letter was refused" : `${this.count} dead letters were refused`
  }
}

const filters = {
  kind: Flag.Literals("kind", DeadLetterKind.literals).pipe(Flag.withDescription("What was given up"), Flag.optional),
  gameId: Flag.String("game-id").pipe(
    Flag.withSchema(GameId),
    Flag.withMetavar("uuid"),
    Flag.withDescription("The game it is about"),
    Flag.optional
  ),
  guildId: Flag.String("guild-id").pipe(
    Flag.withMetavar("id"),
    Flag.withDescription("The guild of its game; of a game that is gone, that of its events"),
    Flag.optional
  ),
  from: Flag.String("from").pipe(
    Flag.withSchema(InstantFromString),
    Flag.withMetavar("instant"),
    Flag.withDescription("Given up then or later, like 2026-12-31T20:00:00Z"),
    Flag.optional
  ),
  to: Flag.String("to").pipe(
    Flag.withSchema(InstantFromString),
    Flag.withMetavar("instant"),
    Flag.withDescription("Given up before"),
    Flag.optional
  )
}

interface Filters {
  readonly kind: Option.Option<DeadLetterKind>
  readonly gameId: Option.Option<GameId>
  readonly guildId: Option.Option<string>
  readonly from: Option.Option<DateTime.Utc>
  readonly to: Option.Option<DateTime.Utc>
}

const toFilter = ({ from, gameId, guildId, kind, to }: Filters) => ({
  kind: Option.getOrUndefined(kind),
  game_id: Option.getOrUndefined(gameId),
  guild_id: Option.getOrUndefined(guildId),
  from: Option.getOrUndefined(from),
  to: Option.getOrUndefined(to)
})

const desk = Effect.promise(() => import("./deadLetterDesk.ts"))

const stateOf = (letter: DeadLetter): string => letter.resolution ?? "open"

const headings = ["ID", "WRITTEN", "STATE", "KIND", "GAME", "TRIES", "REASON"]

const toRow = (letter: DeadLetter): ReadonlyArray<string> => [
  letter.id,
  DateTime.formatIso(letter.created_at),
  stateOf(letter),
  letter.kind,
  letter.game_id ?? "-",
  String(letter.attempts),
  plain(`${letter.error}: ${letter.message}`)
]

const toPage = (letters: ReadonlyArray<DeadLetter>, next: string | null): string =>
  letters.length === 0
    ? "No dead letters"
    : [toTable([headings, ...letters.map(toRow)]), ...(next === null ? [] : [`More with --cursor ${next}`])].join("\n")

const list = Command.make(
  "list",
  {
    ...filters,
    state: Flag.Literals("state", ["open", "resolved", "all"]).pipe(
      Flag.withDescription("Which letters"),
      Flag.withDefault("open" as const)
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withSchema(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: 1000 })))),
      Flag.withDescription("Most letters to print, 1 to 1000"),
      Flag.withDefault(50)
    ),
    cursor: Flag.String("cursor").pipe(
      Flag.withDescription("Where the page before said that the next one begins"),
      Flag.optional
    ),
    json
  },
  Effect.fnUntraced(function* ({ cursor, json, limit, state, ...rest }) {
    const { DeadLetters, decodeCursor, encodeCursor, encodeList, withDeadLetters } = yield* desk
    const after = Option.isNone(cursor)
      ? undefined
      : yield* Effect.mapError(
          decodeCursor(cursor.value),
          () => new BadArgument({ name: "--cursor", detail: "Expected what a page of this list ended with" })
        )
    const page = yield* withDeadLetters(
      Effect.flatMap(DeadLetters, (letters) => letters.list({ ...toFilter(rest), state, after, limit }))
    )
    const next = Option.isNone(page.next) ? null : yield* Effect.orDie(encodeCursor(page.next.value))
    const body = yield* Effect.orDie(encodeList({ dead_letters: page.dead_letters, next_cursor: next }))
    yield* json ? printJson(body) : print(toPage(page.dead_letters, next))
  })
).pipe(Command.withDescription("List dead letters, oldest first"))

/** A line for each field, the payload as it is. */
const toLines = ({
  payload,
  ...fields
}: {
  readonly payload: Schema.Json
  readonly [field: string]: Schema.Json
}): string =>
  [
    ...Object.entries(fields).map(
      ([name, value]) =>
        `${name.padEnd(12)} ${value === null ? "-" : plain(typeof value === "string" ? value : JSON.stringify(value))}`
    ),
    `payload      ${JSON.stringify(payload, undefined, 2)}`
  ].join("\n")

const show = Command.make(
  "show",
  { id: Argument.String("id").pipe(Argument.withSchema(DeadLetterId)), json },
  Effect.fnUntraced(function* ({ id, json }) {
    const { DeadLetters, encodeLetter, withDeadLetters } = yield* desk
    const letter = yield* withDeadLetters(Effect.flatMap(DeadLetters, (letters) => letters.get(id)))
    const body = yield* Effect.orDie(encodeLetter(letter))
    yield* json ? printJson(body) : print(toLines(body))
  })
).pipe(Command.withDescription("Show a dead letter with its payload"))

/** What became of a letter, as it is printed. */
interface Result {
  readonly id: string
  readonly outcome: "replayed" | "discarded" | "superseded" | "refused"
  readonly reason: string | null
}

/** What was said must leave no doubt about which letters are meant. */
const requireEither = (ids: ReadonlyArray<string>, all: boolean, filtered: boolean) => {
  const refuse = (detail: string) => Effect.fail(new BadArgument({ name: "id", detail }))
  if (ids.length > 0 && (all || filtered)) return refuse("Expected either ids, or --all with or without filters")
  return ids.length === 0 && !all ? refuse("Expected ids of dead letters, or --all") : Effect.void
}

const makeSettle = (verb: "replay" | "discard", description: string) =>
  Command.make(
    verb,
    {
      ids: Argument.String("id").pipe(Argument.withSchema(DeadLetterId), Argument.variadic()),
      all: Flag.Boolean("all").pipe(
        Flag.withDescription("All open letters that pass the filters, oldest first, instead of ids"),
        Flag.withoutNegation,
        Flag.withDefault(false)
      ),
      ...filters,
      json
    },
    Effect.fnUntraced(function* ({ all, ids, json, ...rest }) {
      yield* requireEither(
        ids,
        all,
        Object.values(rest).some((filter) => Option.isSome<unknown>(filter))
      )
      const { DeadLetters, settling } = yield* desk
      const results: Array<Result> = []
      const record = Effect.fnUntraced(function* (result: Result) {
        results.push(result)
        if (json) return
        const reason = result.reason === null ? "" : `: ${plain(result.reason)}`
        yield* print(`${result.outcome} ${result.id}${reason}`)
      })
      yield* settling(
        Effect.gen(function* () {
          const deadLetters = yield* DeadLetters
          const attempts = all ? deadLetters.settleAll(verb, toFilter(rest)) : deadLetters.settleThese(verb, ids)
          yield* Stream.runForEach(attempts, ({ id, outcome, reason }) =>
            record({ id, outcome, reason: Option.getOrNull(reason) })
          )
        })
      )
      const counts = Object.fromEntries(
        [verb === "replay" ? "replayed" : "discarded", ...(verb === "replay" ? ["superseded"] : []), "refused"].map(
          (outcome) => [outcome, results.filter((result) => result.outcome === outcome).length]
        )
      )
      if (json) yield* printJson({ results, ...counts })
      else {
        yield* print(
          Object.entries(counts)
            .map(([outcome, count]) => `${count} ${outcome}`)
            .join(", ")
        )
      }
      const refused = results.filter(({ outcome }) => outcome === "refused").length
      if (refused > 0) yield* new LettersRefused({ count: refused })
    })
  ).pipe(Command.withDescription(description))

export const deadLetters = Command.make("dead-letters").pipe(
  Command.withDescription("Look at what was given up, and replay or discard it"),
  Command.withSubcommands([
    list,
    show,
    makeSettle("replay", "Try again what was given up, unless it is pointless by now"),
    makeSettle("discard", "Close dead letters for good; what was given up stays undone")
  ])
)

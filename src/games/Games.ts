/**
 * What can be done to a game: each use case is one transaction that changes the game, keeps its schedule in step and
 * writes the event that tells of it.
 *
 * The game's row is locked before anything is judged, so a decision never rests on a status, version or time that
 * somebody else is just changing. The clock's own transitions take the same lock. A game of a guild that the caller does
 * not deal with is not there for him.
 */
import { Cause, Context, DateTime, Effect, Exit, Layer, Option, Schema, Semaphore } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { createHash } from "node:crypto"
import { Caller, includesGuild } from "../domain/Caller.ts"
import type { DeadLetterKind } from "../domain/DeadLetter.ts"
import { defaultDurationMinutes, type Game, type GameId, type GamePatch, NewGame } from "../domain/Game.ts"
import { canBecome, isFinal, type GameStatus } from "../domain/GameStatus.ts"
import type { GameEventType } from "../domain/GameEvent.ts"
import { lastInstant } from "../domain/Instant.ts"
import { appendGameEvent } from "../outbox/OutboxEventStore.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import { Database } from "../postgres/Database.ts"
import {
  EndTooLate,
  GameNotEditable,
  GameNotFound,
  GuildForbidden,
  IdempotencyConflict,
  IllegalTransition,
  VersionMismatch
} from "./errors.ts"
import {
  type GameColumns,
  type GameFilter,
  type GamePage,
  GameRepository,
  type GameSchedule
} from "./GameRepository.ts"

/** The versions at which the client is ready to change the game; any version if not given. */
export type ExpectedVersions = ReadonlyArray<number> | undefined

export interface GamesOptions {
  /** Whether the process has loops as well, which a burst of requests must not make late. */
  readonly besideLoops: boolean
}

type EditError = GameNotFound | VersionMismatch | IllegalTransition | GameNotEditable | SqlError.SqlError

export class Games extends Context.Service<
  Games,
  {
    /** Creates a game. The same key with the same content answers the game that it created first. */
    readonly create: (
      game: NewGame,
      idempotencyKey?: string
    ) => Effect.Effect<Game, GuildForbidden | EndTooLate | IdempotencyConflict | SqlError.SqlError, Caller>
    readonly get: (id: GameId) => Effect.Effect<Game, GameNotFound | SqlError.SqlError, Caller>
    /** Games in the order of their start. */
    readonly list: (filter: GameFilter) => Effect.Effect<GamePage, SqlError.SqlError, Caller>
    /** The planned transitions and reminders of a game, done ones included. */
    readonly schedule: (id: GameId) => Effect.Effect<GameSchedule, GameNotFound | SqlError.SqlError, Caller>
    /** Changes fields; the status by the state machine. What changes nothing is no change: no event, same version. */
    readonly edit: (
      id: GameId,
      patch: GamePatch,
      expected?: ExpectedVersions
    ) => Effect.Effect<Game, EditError | GuildForbidden | EndTooLate, Caller>
    /** Cancels a game; one that is cancelled already stays as it is. */
    readonly cancel: (id: GameId, expected?: ExpectedVersions) => Effect.Effect<Game, EditError, Caller>
    readonly remove: (
      id: GameId,
      expected?: ExpectedVersions
    ) => Effect.Effect<void, GameNotFound | VersionMismatch | SqlError.SqlError, Caller>
  }
>()("kickoff/games/Games") {
  static readonly layerWith = (options: GamesOptions) =>
    Layer.effect(
      Games,
      Effect.suspend(() => make(options))
    ).pipe(Layer.provide(GameRepository.layer))

  /** The same in a process that plays all roles. */
  static readonly layer = Games.layerWith({ besideLoops: true })
}

const make = Effect.fnUntraced(function* ({ besideLoops }: GamesOptions) {
  const sql = yield* SqlClient.SqlClient
  const database = yield* Database
  const repository = yield* GameRepository
  const signal = yield* OutboxSignal

  const write = <A, E, R>(change: Effect.Effect<Change<A>, E | SqlError.SqlError, R>) =>
    database.transaction(Effect.andThen(repository.boundLockWaits, change)).pipe(
      Effect.onExit((exit) => (mayHaveTold(exit) ? signal.committed : Effect.void)),
      Effect.retry({ times: 2, while: isLockConflict }),
      Effect.map((change) => change.result)
    )

  const find = Effect.fnUntraced(function* (id: GameId) {
    return yield* required(id)(read(repository.find(id, (yield* Caller).guilds)))
  })

  const locked = Effect.fnUntraced(function* (id: GameId, reason: "change" | "deletion", expected: ExpectedVersions) {
    const game = yield* required(id)(repository.lock(id, reason, (yield* Caller).guilds))
    if (expected !== undefined && !expected.includes(game.version)) {
      return yield* new VersionMismatch({ version: game.version })
    }
    return game
  })

  const followStatus = Effect.fnUntraced(function* (game: Game) {
    yield* repository.supersedeDeadLetters(game.id, scheduleKinds, (yield* Caller).name)
    yield* repository.dropPendingReminders(game.id)
    if (game.status === "IN_PROGRESS") yield* repository.recordStart(game.id)
    else yield* repository.dropPendingTransitions(game.id)
  })

  const followFields = Effect.fnUntraced(function* (before: Game, after: Game, changed: ReadonlySet<string>) {
    const by = (yield* Caller).name
    const moved = changed.has("scheduled_at")
    const stretched = changed.has("expected_duration_minutes")
    if (after.status === "SCHEDULED") {
      if (moved || stretched) {
        yield* repository.supersedeDeadLetters(after.id, moved ? scheduleKinds : ["status-transition"], by)
        yield* repository.planTransitions(after.id)
      }
      if (moved || stretched || changed.has("reminder_minutes")) yield* repository.planReminders(after.id, by)
    } else if (after.status === "IN_PROGRESS" && stretched) {
      yield* repository.supersedeDeadLetters(after.id, ["status-transition"], by)
      yield* repository.moveCompletion(after.id, after.expected_duration_minutes - before.expected_duration_minutes)
    }
  })

  // A burst of new games is worked off a few at a time where it must leave the clock its share of the process.
  const creating = yield* Semaphore.make(besideLoops ? 3 : Infinity)

  const createOnce = Effect.fnUntraced(function* (game: NewGame, key: string) {
    const hash = requestHash(game)
    const reserved = yield* repository.takeKey(key, hash)
    if (Option.isSome(reserved)) {
      yield* repository.pruneKeys
      return { result: yield* repository.create(toColumns(game), reserved), told: true }
    }
    const used = yield* Effect.orDie(Effect.fromOption(yield* repository.findKey(key)))
    if (used.request_hash !== hash) return yield* new IdempotencyConflict({ reason: "other-request" })
    const existing = yield* repository.find(used.game_id, (yield* Caller).guilds)
    if (Option.isNone(existing)) return yield* new IdempotencyConflict({ reason: "game-deleted" })
    return { result: existing.value, told: false }
  })

  const edit = Effect.fnUntraced(function* (id: GameId, patch: GamePatch, expected: ExpectedVersions) {
    const before = yield* locked(id, "change", expected)
    const columns = changes(before, toColumns(patch))
    if (columns.guild_id !== undefined) yield* requireGuild(columns.guild_id)
    const changed = new Set(Object.keys(columns))
    if (changed.size === 0) return { result: before, told: false }
    const status = columns.status ?? before.status
    if (columns.status !== undefined && !canBecome(before.status, columns.status)) {
      return yield* new IllegalTransition({ from: before.status, to: columns.status })
    }
    if (status === "SCHEDULED" && (changed.has("scheduled_at") || changed.has("expected_duration_minutes"))) {
      yield* requireEnd(
        columns.scheduled_at?.getTime() ?? before.scheduled_at.epochMilliseconds,
        columns.expected_duration_minutes ?? before.expected_duration_minutes
      )
    }
    const forbidden = frozenFields(status).find((field) => changed.has(field))
    if (forbidden !== undefined) return yield* new GameNotEditable({ field: forbidden, status })

    const after = yield* repository.update(id, columns)
    if (columns.status === undefined) yield* followFields(before, after, changed)
    else {
      yield* followStatus(after)
      yield* appendGameEvent(sql, id, statusEventType(columns.status), byHand)
    }
    const fields = [...changed].filter((field) => field !== "status")
    if (fields.length > 0) yield* appendGameEvent(sql, id, "game.updated", { changed: fields })
    return { result: after, told: true }
  })

  const remove = Effect.fnUntraced(function* (id: GameId, expected: ExpectedVersions) {
    const game = yield* locked(id, "deletion", expected)
    yield* repository.supersedeDeadLetters(id, scheduleKinds, (yield* Caller).name)
    yield* appendGameEvent(sql, id, "game.deleted", { version: game.version + 1 })
    yield* repository.remove(id)
    return { result: undefined, told: true }
  })

  return Games.of({
    create: Effect.fn("Games.create")(function* (game: NewGame, key?: string) {
      yield* requireGuild(game.guild_id)
      yield* requireEnd(game.scheduled_at.epochMilliseconds, game.expected_duration_minutes ?? defaultDurationMinutes)
      const created = yield* creating.withPermit(
        key === undefined
          ? Effect.onExit(repository.create(toColumns(game), Option.none()), () => signal.committed)
          : write(createOnce(game, key))
      )
      yield* spanIsOf(created.id)
      return created
    }),
    get: Effect.fn("Games.get")(find),
    list: Effect.fn("Games.list")(function* (filter: GameFilter) {
      return yield* read(repository.list(filter, (yield* Caller).guilds))
    }),
    schedule: Effect.fn("Games.schedule")(function* (id: GameId) {
      yield* find(id)
      return yield* read(repository.schedule(id))
    }),
    edit: Effect.fn("Games.edit")((id: GameId, patch: GamePatch, expected?: ExpectedVersions) =>
      Effect.andThen(spanIsOf(id), write(edit(id, patch, expected)))
    ),
    cancel: Effect.fn("Games.cancel")((id: GameId, expected?: ExpectedVersions) =>
      // It is no change of the guild, nor of the end.
      Effect.andThen(
        spanIsOf(id),
        Effect.catchTag(
          write(edit(id, { status: "CANCELLED" }, expected)),
          ["GuildForbidden", "EndTooLate"],
          Effect.die
        )
      )
    ),
    remove: Effect.fn("Games.remove")((id: GameId, expected?: ExpectedVersions) =>
      Effect.andThen(spanIsOf(id), write(remove(id, expected)))
    )
  })
})

/** Says of the current span which game it is about. */
const spanIsOf = (id: GameId) => Effect.annotateCurrentSpan("kickoff.game_id", id)

/** What a transaction answers, and whether it wrote events. */
interface Change<A> {
  readonly result: A
  readonly told: boolean
}

const scheduleKinds: ReadonlyArray<DeadLetterKind> = ["status-transition", "notification"]

/** Also after an interruption or a lost connection, when nobody knows whether COMMIT arrived. */
const mayHaveTold = <A, E>(exit: Exit.Exit<Change<A>, E>): boolean =>
  Exit.isSuccess(exit)
    ? exit.value.told
    : !exit.cause.reasons.every((reason) => Cause.isFailReason(reason) && !SqlError.isSqlError(reason.error))

/** The transaction was sacrificed to another one and is as good as new. */
const isLockConflict = (error: unknown): boolean =>
  SqlError.isSqlError(error) && (error.reason._tag === "DeadlockError" || error.reason._tag === "SerializationError")

/** The first query after the server came back fails on a stale connection, the second does not. */
const read = <A>(query: Effect.Effect<A, SqlError.SqlError>) =>
  Effect.retry(query, { times: 1, while: (error) => error.reason._tag === "ConnectionError" })

const requireGuild = Effect.fnUntraced(function* (guild_id: string) {
  if (!includesGuild((yield* Caller).guilds, guild_id)) yield* new GuildForbidden({ guild_id })
})

/** Start in ms since 1970. */
const requireEnd = (start: number, minutes: number): Effect.Effect<void, EndTooLate> =>
  start + minutes * 60_000 > lastInstant ? Effect.fail(new EndTooLate()) : Effect.void

const required =
  (id: GameId) =>
  <E>(found: Effect.Effect<Option.Option<Game>, E>): Effect.Effect<Game, E | GameNotFound> =>
    Effect.flatMap(found, Option.match({ onNone: () => Effect.fail(new GameNotFound({ id })), onSome: Effect.succeed }))

/** The fields that cannot change in a change that leaves the game in this status. */
const frozenFields = (status: GameStatus): ReadonlyArray<string> =>
  isFinal(status)
    ? ["scheduled_at", "expected_duration_minutes", "reminder_minutes"]
    : status === "SCHEDULED"
      ? []
      : ["scheduled_at"]

/** What the events of a status that was set by hand say, where those of the clock have figures. */
const byHand = { transition_time: null, lateness_ms: null }

const statusEventType = (status: GameStatus): GameEventType =>
  status === "IN_PROGRESS" ? "game.started" : status === "COMPLETED" ? "game.completed" : "game.cancelled"

const toColumns = ({ reminder_minutes, scheduled_at, ...fields }: GamePatch): GameColumns => ({
  ...fields,
  ...(scheduled_at === undefined ? {} : { scheduled_at: DateTime.toDateUtc(scheduled_at) }),
  ...(reminder_minutes === undefined ? {} : { reminder_minutes: [...new Set(reminder_minutes)] })
})

/** The columns whose values differ from the game's. Instants count in milliseconds, as clients see them. */
const changes = (game: Game, columns: GameColumns): GameColumns =>
  Object.fromEntries(
    Object.entries(columns).filter(([name, value]) => {
      if (name === "scheduled_at") return value.getTime() !== DateTime.toEpochMillis(game.scheduled_at)
      if (name === "reminder_minutes") return !sameSet(value, game.reminder_minutes)
      return value !== game[name as keyof Game]
    })
  )

const sameSet = (left: ReadonlyArray<number>, right: ReadonlyArray<number>): boolean => {
  const values = new Set(right)
  return new Set(left).size === values.size && left.every((value) => values.has(value))
}

const encodeNewGame = Schema.encodeSync(NewGame)

/** The same for every spelling of the same content: order of members, white space, offset of the instant. */
const requestHash = (game: NewGame): string => {
  const members = Object.entries(encodeNewGame(game)).toSorted(([left], [right]) => (left < right ? -1 : 1))
  return createHash("sha256").update(JSON.stringify(members)).digest("hex")
}

/**
 * What can be done about work that was given up: look at it, replay it, discard it. One transaction per letter.
 *
 * A replay does no work itself. It looks whether the work is still wanted, and if so makes the schedule row a fresh one
 * or puts the event back, so that the replay goes the way of everything else; failing again, it is a new letter. A letter
 * of a guild that the caller does not deal with is not there for him.
 */
import { Context, Effect, Layer, Option, Schema, Stream } from "effect"
import { SqlError } from "effect/sql"
import { Caller } from "../domain/Caller.ts"
import type { DeadLetter, DeadLetterId } from "../domain/DeadLetter.ts"
import { canBecome } from "../domain/GameStatus.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import { Database, describeSqlError } from "../postgres/Database.ts"
import { classify } from "../postgres/failures.ts"
import {
  type DeadLetterFilter,
  type DeadLetterPage,
  type DeadLetterPosition,
  type DeadLetterQuery,
  DeadLetterRepository,
  type GameCondition,
  type RowCondition
} from "./DeadLetterRepository.ts"

/** There is no dead letter with this id. */
export class DeadLetterNotFound extends Schema.TaggedError<DeadLetterNotFound>()("DeadLetterNotFound", {
  id: Schema.String
}) {
  override get message() {
    return `There is no dead letter ${this.id}`
  }
}

/** Somebody, or a change of the game, has settled the letter already. */
export class DeadLetterResolved extends Schema.TaggedError<DeadLetterResolved>()("DeadLetterResolved", {
  id: Schema.String,
  resolution: Schema.String,
  by: Schema.String
}) {
  override get message() {
    return `The dead letter ${this.id} was ${this.resolution} already, by ${this.by}`
  }
}

/** What became of a letter. */
export interface Settled {
  readonly letter: DeadLetter
  /** Why a replay found nothing to do, for people; none unless the letter was superseded. */
  readonly superseded_because: Option.Option<string>
}

/** What became of one of many letters. */
export interface Attempt {
  readonly id: DeadLetterId
  readonly outcome: "replayed" | "discarded" | "superseded" | "refused"
  /** Why it was superseded or refused. */
  readonly reason: Option.Option<string>
}

/** What a letter of an event holds cannot be put back into the outbox; `detail` is what the database says of it. */
export class DeadLetterUnusable extends Schema.TaggedError<DeadLetterUnusable>()("DeadLetterUnusable", {
  id: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `The database refuses to put the event of dead letter ${this.id} back into the outbox: ${this.detail}`
  }
}

/** What a person does to a letter. */
export type Verb = "replay" | "discard"

type Settling = Effect.Effect<Settled, DeadLetterNotFound | DeadLetterResolved | SqlError.SqlError, Caller>
type Replaying = Effect.Effect<
  Settled,
  DeadLetterNotFound | DeadLetterResolved | DeadLetterUnusable | SqlError.SqlError,
  Caller
>

export class DeadLetters extends Context.Service<
  DeadLetters,
  {
    /** Letters in the order in which they were written. */
    readonly list: (query: DeadLetterQuery) => Effect.Effect<DeadLetterPage, SqlError.SqlError, Caller>
    readonly get: (id: DeadLetterId) => Effect.Effect<DeadLetter, DeadLetterNotFound | SqlError.SqlError, Caller>
    /** Tries again what was given up, unless it is pointless by now: then the letter is superseded. */
    readonly replay: (id: DeadLetterId) => Replaying
    /** Closes a letter for good. A schedule row stays parked, an event stays unpublished. */
    readonly discard: (id: DeadLetterId) => Settling
    /**
     * Settles the open letters of a filter, oldest first, one transaction each. Those written after the beginning are
     * left alone, so that one that fails again is not replayed for ever. Ends early only when the database goes away.
     */
    readonly settleAll: (verb: Verb, filter: DeadLetterFilter) => Stream.Stream<Attempt, SqlError.SqlError, Caller>
    /** Settles these letters, in this order, likewise. */
    readonly settleThese: (
      verb: Verb,
      ids: ReadonlyArray<DeadLetterId>
    ) => Stream.Stream<Attempt, SqlError.SqlError, Caller>
  }
>()("kickoff/deadLetters/DeadLetters") {
  static readonly layer = Layer.effect(
    DeadLetters,
    Effect.gen(function* () {
      const database = yield* Database
      const repository = yield* DeadLetterRepository
      const signal = yield* OutboxSignal

      const get = Effect.fn("DeadLetters.get")(function* (id: DeadLetterId) {
        const found = yield* read(repository.find(id, (yield* Caller).guilds))
        return Option.isSome(found) ? found.value : yield* new DeadLetterNotFound({ id })
      })

      const list = Effect.fnUntraced(function* (query: DeadLetterQuery) {
        return yield* read(repository.list(query, (yield* Caller).guilds))
      })

      const transaction = <A, E, R>(effect: Effect.Effect<A, E | SqlError.SqlError, R>) =>
        database
          .transaction(Effect.andThen(repository.boundLockWaits, effect))
          .pipe(Effect.retry({ times: 2, while: isLockConflict }))

      /** Why there is nothing to replay by now; none if there is, and it has been started anew. */
      const revive = Effect.fnUntraced(function* (letter: DeadLetter) {
        const { guilds } = yield* Caller
        const game = letter.game_id === null ? Option.none() : yield* repository.lockGame(letter.game_id)
        if (letter.kind === "event") {
          yield* requireOpen(letter.id, yield* repository.lock(letter.id, guilds))
          yield* Effect.catchTag(repository.restoreEvent(letter.id), "SqlError", (error) =>
            Effect.fail(
              classify(error) === "row"
                ? new DeadLetterUnusable({ id: letter.id, detail: describeSqlError(error) })
                : error
            )
          )
          return Option.none<string>()
        }
        const row = yield* repository.lockRow(letter.id, letter.kind)
        yield* requireOpen(letter.id, yield* repository.lock(letter.id, guilds))
        const objection = judge(game, row)
        if (Option.isNone(objection)) yield* repository.refresh(letter.id, letter.kind)
        return objection
      })

      const replay = Effect.fn("DeadLetters.replay")(function* (id: DeadLetterId) {
        const { guilds, name } = yield* Caller
        // Kind, game and source of a letter never change, so they may be read before the locks are taken.
        const letter = yield* get(id)
        const replayed = transaction(
          Effect.gen(function* () {
            const objection = yield* revive(letter)
            const resolution = Option.isNone(objection) ? "replayed" : "superseded"
            const resolved = yield* repository.resolve(id, { resolution, by: name }, guilds)
            return { letter: yield* Effect.orDie(Effect.fromOption(resolved)), superseded_because: objection }
          })
        )
        // Also after a lost connection, when nobody knows whether COMMIT arrived.
        return yield* letter.kind === "event" ? Effect.onExit(replayed, () => signal.committed) : replayed
      })

      const discard = Effect.fn("DeadLetters.discard")(function* (id: DeadLetterId) {
        const { guilds, name } = yield* Caller
        const resolved = yield* transaction(repository.resolve(id, { resolution: "discarded", by: name }, guilds))
        if (Option.isSome(resolved)) return { letter: resolved.value, superseded_because: Option.none<string>() }
        return yield* Effect.flatMap(get(id), refuseResolved)
      })

      const settle = (verb: Verb, id: DeadLetterId) => attempt(id, verb === "replay" ? replay(id) : discard(id))

      /** The open letters of a filter that are written by now. */
      const listOpen = (filter: DeadLetterFilter) =>
        Stream.unwrap(
          Effect.map(read(repository.now), (beginning) =>
            Stream.paginate<DeadLetterPosition | undefined, DeadLetter, SqlError.SqlError, Caller>(undefined, (after) =>
              Effect.map(
                list({ ...filter, state: "open", after, writtenUntil: beginning, limit: lettersPerPage }),
                (page) => [page.dead_letters, page.next] as const
              )
            )
          )
        )

      return DeadLetters.of({
        list: Effect.fn("DeadLetters.list")(list),
        get,
        replay,
        discard,
        settleAll: (verb, filter) => Stream.mapEffect(listOpen(filter), ({ id }) => settle(verb, id)),
        settleThese: (verb, ids) => Stream.mapEffect(Stream.fromIterable(ids), (id) => settle(verb, id))
      })
    })
  ).pipe(Layer.provide(DeadLetterRepository.layer))
}

/** Letters that are read at once when many are settled; each is settled in a transaction of its own. */
const lettersPerPage = 100

/** What speaks against processing a schedule row again. The rules are those by which the engine judges a live row. */
const judge = (game: Option.Option<GameCondition>, row: Option.Option<RowCondition>): Option.Option<string> => {
  if (Option.isNone(game)) return Option.some("the game is gone")
  if (Option.isNone(row)) return Option.some("the schedule row is gone")
  const { start_passed, status } = game.value
  const { done, moved, target } = row.value
  if (done) return Option.some("the schedule row is done")
  if (moved) return Option.some("the schedule row was moved")
  if (target === null) {
    if (status !== "SCHEDULED") return Option.some(`the game is ${status}`)
    return start_passed ? Option.some("the game's start has passed") : Option.none()
  }
  // A completion waits for the start of its game, like a live one.
  const awaitsStart = target === "COMPLETED" && status === "SCHEDULED"
  return awaitsStart || canBecome(status, target) ? Option.none() : Option.some(`the game is ${status}`)
}

const refuseResolved = ({ id, resolution, resolved_by }: DeadLetter) =>
  Effect.fail(new DeadLetterResolved({ id, resolution: resolution ?? "resolved", by: resolved_by ?? "somebody" }))

const requireOpen = (
  id: DeadLetterId,
  locked: Option.Option<DeadLetter>
): Effect.Effect<void, DeadLetterNotFound | DeadLetterResolved> =>
  Option.match(locked, {
    onNone: () => Effect.fail(new DeadLetterNotFound({ id })),
    onSome: (letter) => (letter.resolved_at === null ? Effect.void : refuseResolved(letter))
  })

/** One of many: what is wrong with it does not concern the others, unless the database is away. */
const attempt = (id: DeadLetterId, settling: Replaying): Effect.Effect<Attempt, SqlError.SqlError, Caller> => {
  const refused = (error: { readonly message: string }) =>
    Effect.succeed<Attempt>({ id, outcome: "refused", reason: Option.some(error.message) })
  return settling.pipe(
    Effect.map((settled): Attempt => ({
      id,
      outcome: settled.letter.resolution ?? "refused",
      reason: settled.superseded_because
    })),
    Effect.catchTags({
      DeadLetterNotFound: refused,
      DeadLetterResolved: refused,
      DeadLetterUnusable: refused,
      SqlError: (error) =>
        classify(error) === "infrastructure" ? Effect.fail(error) : refused({ message: describeSqlError(error) })
    })
  )
}

/** The transaction was sacrificed to another one and is as good as new. */
const isLockConflict = (error: unknown): boolean =>
  SqlError.isSqlError(error) && (error.reason._tag === "DeadlockError" || error.reason._tag === "SerializationError")

/** The first query after the server came back fails on a stale connection, the second does not. */
const read = <A>(query: Effect.Effect<A, SqlError.SqlError>) =>
  Effect.retry(query, { times: 1, while: (error) => error.reason._tag === "ConnectionError" })

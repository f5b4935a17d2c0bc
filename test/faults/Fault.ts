/** What a fault is, and how two of them can be injected at once. */
import { Effect, type Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { Dice } from "./Dice.ts"
import { FaultError } from "./FaultError.ts"
import { type Replica, Site } from "./Site.ts"

/** How long it took until something happened that has a deadline, ms. */
export interface Timed {
  readonly what: string
  readonly took: number
  readonly deadline: number
}

/** What became of an injected fault. Instants are milliseconds since 1970. */
export interface Injected {
  /** When it began, if there was something to prepare; else it began at once. */
  readonly began?: number
  /** When it was over: for what was killed the moment of the kill, because from then on the others are to do its work. */
  readonly over: number
  /** Puts back what the fault has broken; it is no part of the recovery. */
  readonly repair?: Effect.Effect<void, FaultError | SqlError.SqlError, SqlClient.SqlClient | Scope.Scope>
  /** Games that this fault made late for longer than itself. */
  readonly excused?: ReadonlySet<string>
  readonly timed?: ReadonlyArray<Timed>
}

/**
 * What a fault is done to: the replica that relays, another one, either of them, a server, or the database's rows, by a
 * session that the fault needs until it is over.
 */
export type Subject = "leader" | "other" | "any" | "postgres" | "broker" | "rows"

export interface Fault {
  readonly name: string
  readonly summary: string
  readonly subject: Subject
  /** What this machine must have for it, looked for before anything is started. */
  readonly needs?: Effect.Effect<unknown, FaultError>
  /** `replica` is the one that it is done to; a fault of a server or of rows may use it, as nothing is done to it. */
  readonly inject: (
    replica: Replica,
    dice: Dice
  ) => Effect.Effect<Injected, FaultError | SqlError.SqlError, Site | SqlClient.SqlClient | Scope.Scope>
}

/** One fault, or two at once. */
export type Injection = readonly [Fault] | readonly [Fault, Fault]

export const nameOf = (injection: Injection): string => injection.map(({ name }) => name).join("+")

const onReplica = ({ subject }: Fault): boolean => subject === "leader" || subject === "other" || subject === "any"

/** Whether neither of the two spoils the other: they have different subjects, and no fault of rows loses its session. */
export const goTogether = (one: Fault, other: Fault): boolean => {
  const subjects = new Set([one.subject, other.subject])
  if (onReplica(one) && onReplica(other)) return subjects.has("leader") && subjects.has("other")
  return subjects.size === 2 && !(subjects.has("postgres") && subjects.has("rows"))
}

/** All of them, two at once as far as they go together; what is left over comes alone. */
export const inPairs = (faults: ReadonlyArray<Fault>, dice: Dice): ReadonlyArray<Injection> => {
  const injections: Array<Injection> = []
  // Replicas first, since their faults go with all of the others; which goes with which is up to the dice.
  const left = dice.shuffled(faults).toSorted((a, b) => Number(onReplica(b)) - Number(onReplica(a)))
  while (left.length > 0) {
    const [one] = left.splice(0, 1)
    if (one === undefined) break
    const partner = left.findLastIndex((other) => goTogether(one, other))
    const [other] = partner === -1 ? [] : left.splice(partner, 1)
    injections.push(other === undefined ? [one] : [one, other])
  }
  return dice.shuffled(injections)
}

/** Injects them, the second while the first is under way, and answers when both are over. */
export const inject = Effect.fnUntraced(function* (injection: Injection, dice: Dice) {
  const { leader, replicas } = yield* Site
  const leading = yield* leader
  const others = dice.shuffled(replicas.filter((replica) => replica !== leading))
  const parts = injection.map((fault, index) => {
    const aimed = fault.subject === "leader" || (fault.subject === "any" && dice.chance(0.5)) ? leading : others[0]
    return {
      fault,
      aimed: onReplica(fault) ? aimed : others[1],
      rest: index * dice.between(300, 1500),
      // Its own, since which of two draws first would be up to chance.
      dice: new Dice(Math.floor(dice.next() * 2 ** 31), fault.name)
    }
  })
  const injected = yield* Effect.forEach(
    parts,
    ({ aimed, dice, fault, rest }) =>
      aimed === undefined
        ? Effect.fail(new FaultError({ detail: "There are fewer than three replicas" }))
        : Effect.andThen(Effect.sleep(rest), fault.inject(aimed, dice)),
    { concurrency: "unbounded" }
  )
  return {
    ...(injected.every(({ began }) => began === undefined)
      ? {}
      : { began: Math.min(...injected.map(({ began }) => began ?? Number.POSITIVE_INFINITY)) }),
    over: Math.max(...injected.map(({ over }) => over)),
    repair: Effect.forEach(injected, ({ repair }) => repair ?? Effect.void, { discard: true }),
    excused: new Set(injected.flatMap(({ excused }) => [...(excused ?? [])])),
    timed: injected.flatMap(({ timed }) => timed ?? [])
  }
})

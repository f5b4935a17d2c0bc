/** Watches what must happen within a deadline, as the replicas' own metrics tell of it. */
import { Clock, Effect, Schedule } from "effect"
import type { Timed } from "./Fault.ts"
import { type Replica, Site } from "./Site.ts"

/** How long is waited for it, ms; it counts as that long then. */
const patience = 15_000

const time = Effect.fnUntraced(function* (
  what: string,
  deadline: number,
  hasHappened: Effect.Effect<boolean, never, Site>
) {
  const began = yield* Clock.currentTimeMillis
  yield* hasHappened.pipe(
    Effect.repeat({ until: (happened) => happened, schedule: Schedule.spaced("25 millis") }),
    Effect.timeoutOption(patience)
  )
  return { what, took: (yield* Clock.currentTimeMillis) - began, deadline } satisfies Timed
})

/** Whether one of the others relays. */
const isReplaced = Effect.fnUntraced(function* (replica: Replica) {
  const { replicas } = yield* Site
  const leads = yield* Effect.forEach(
    replicas.filter((other) => other !== replica),
    (other) => other.gauge("kickoff_relay_leader"),
    { concurrency: "unbounded" }
  )
  return leads.includes(1)
})

/** Each takes the replica to which it is about to happen, or has just happened. */
export const until = {
  killedLeaderReplaced: (replica: Replica) =>
    time("another replica relays after `kill -9` of the one that did", 1000, isReplaced(replica)),
  silentLeaderReplaced: (replica: Replica) =>
    time("another replica relays after the one that did fell silent", 10_000, isReplaced(replica)),
  silentListenerNoticed: (replica: Replica) =>
    time(
      "a LISTEN session that fell silent is noticed",
      5000,
      Effect.map(replica.gauge("kickoff_listener_up"), (up) => up === 0)
    )
}

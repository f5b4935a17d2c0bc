/**
 * Tells the relay, wherever it runs, that events were committed.
 *
 * In the process that relays, that is a queue. Elsewhere it is a NOTIFY of its own, after the commit and at most once
 * per 5 ms: inside the event's transaction it would take a cluster-wide lock at commit.
 */
import { Context, type Effect, type Queue } from "effect"

export class OutboxSignal extends Context.Service<
  OutboxSignal,
  {
    /** Call after every commit that may have added events. Never fails and never waits for the database. */
    readonly committed: Effect.Effect<void>
    /** Signals of this process while it relays; holds one at most. */
    readonly wakeUps: Queue.Dequeue<void>
    /** Said by the relay: whether this process is the one that relays. */
    readonly setRelaying: (relaying: boolean) => Effect.Effect<void>
    /** Sends the NOTIFYs; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/outbox/OutboxSignal") {}

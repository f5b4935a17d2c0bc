/**
 * Hints from PostgreSQL's NOTIFY, as one queue per subscriber.
 *
 * A hint is never the work: it only says that looking at a table now may be worth it. Hints are coalesced, and after
 * every (re)connect each subscriber gets one, because whatever was notified meanwhile is lost.
 */
import { Context, type Effect, type Queue, type Scope } from "effect"
import type { Channel } from "./channels.ts"

/** What a hint stems from: a notification, or a session that was opened anew. */
export type Hint = "notify" | "reconnect"

export class Listener extends Context.Service<
  Listener,
  {
    /** Subscribes until the scope closes. The queue holds one hint at most; it never ends and never fails. */
    readonly subscribe: (channel: Channel) => Effect.Effect<Queue.Dequeue<Hint>, never, Scope.Scope>
    /** Whether a session is up and listening. */
    readonly isUp: Effect.Effect<boolean>
    /** Keeps the session, with backoff, for as long as the process lives; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/postgres/Listener") {}

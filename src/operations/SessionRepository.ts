/**
 * The sessions of Kickoff with this database, by the names that they give themselves: `kickoff:<part>@<replica>`.
 *
 * Everybody may see those names. Behind a pooler that does not pass them on, what a process does is not seen.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { relayLock } from "../outbox/relayLock.ts"

export interface SessionFacts {
  /** Like `relay` or `status-transitions`; null for a stranger that has the relay's lock. */
  readonly part: string | null
  /** Which process it belongs to, as far as the name says it. */
  readonly replica: string | null
  /** Whether it has the relay's lock. */
  readonly relays: boolean
}

export class SessionRepository extends Context.Service<
  SessionRepository,
  {
    /** All but the one that asks. */
    readonly list: Effect.Effect<ReadonlyArray<SessionFacts>, SqlError.SqlError>
  }
>()("kickoff/operations/SessionRepository") {
  static readonly layer = Layer.effect(
    SessionRepository,
    Effect.map(SqlClient.SqlClient, (sql) =>
      SessionRepository.of({
        list: sql<SessionFacts>`
          SELECT substring(session.application_name FROM '^kickoff:([^@]+)') AS part,
            substring(session.application_name FROM '^kickoff:[^@]+@(.+)$') AS replica, lock.pid IS NOT NULL AS relays
          FROM pg_stat_activity AS session
          LEFT JOIN pg_locks AS lock
            ON lock.pid = session.pid AND lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
              AND lock.database = session.datid
              AND (lock.classid::bigint << 32) | lock.objid::bigint = ${relayLock}::bigint
          WHERE session.datname = current_database() AND session.pid <> pg_backend_pid()
            AND (session.application_name LIKE 'kickoff:%' OR lock.pid IS NOT NULL)`
      })
    )
  )
}

/**
 * A synchronous standby of the site's PostgreSQL: from then on a commit is confirmed only when both servers have it.
 *
 * It is built for one failover, because every commit pays for it. There is no `pg_basebackup` beside the embedded server, so
 * the data are copied by the backup functions that it is made of.
 */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, Schedule } from "effect"
import { attempt, FaultError } from "./FaultError.ts"
import { Site } from "./Site.ts"

const name = "standby"

/** As `primary_conninfo` wants it. */
const connectionOf = (url: string): string => {
  const { hostname, password, port, username } = new URL(url)
  return `host=${hostname} port=${port} user=${username} password=${password} application_name=${name}`
}

const build = Effect.gen(function* () {
  const site = yield* Site
  const primary = yield* site.postgres
  const session = yield* site.connect
  // As text: the driver knows no `pg_lsn`, and takes its bytes for characters.
  yield* session.query("SELECT pg_backup_start('faults', TRUE)::text")
  const copy = yield* attempt("PostgreSQL was not copied", primary.copyData)
  const [stopped] = yield* session.queryValues("SELECT labelfile FROM pg_backup_stop(FALSE)")
  return yield* attempt("The standby did not start", () =>
    copy.start(
      { backup_label: String(stopped?.[0]), "standby.signal": "" },
      { primary_conninfo: connectionOf(primary.url) }
    )
  )
}).pipe(Effect.scoped)

/** Builds one, makes it synchronous, and waits until it is. The scope's end stops it, unless it took the site's place. */
export const makeStandby = Effect.gen(function* () {
  const site = yield* Site
  const standby = yield* Effect.acquireRelease(build, (standby) =>
    Effect.flatMap(site.postgres, (current) =>
      current === standby ? Effect.void : Effect.promise(() => standby.stop())
    )
  )
  const session = yield* site.connect
  yield* session.query(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`)
  yield* session.query("SELECT pg_reload_conf()")
  yield* session.queryValues("SELECT sync_state FROM pg_stat_replication").pipe(
    Effect.repeat({ until: ([row]) => row?.[0] === "sync", schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.fail(new FaultError({ detail: "The standby did not catch up within 30 s" }))
    })
  )
  const promote = Effect.gen(function* () {
    const session = yield* PgConnection.make({ url: Redacted.make(standby.url), applicationName: "faults" })
    const [row] = yield* session.queryValues("SELECT pg_promote(TRUE, 20)")
    if (row?.[0] !== true) yield* new FaultError({ detail: "The standby was not promoted within 20 s" })
    yield* site.replacePostgres(standby)
  }).pipe(Effect.scoped)
  return { promote }
})

/**
 * Connections to PostgreSQL: a pool, or a session of a loop's own, with deadlines that also hold on a half-open one.
 *
 * A loop has its own session so that a burst of requests on the pool cannot make a game late.
 */
import { PgClient } from "@effect/sql-pg"
import { Cause, Context, Duration, Effect, Layer, type Redacted, Schedule, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { type CertificateUnusable, describeRefusal, type TlsOptions } from "../tls/certificates.ts"
import { Replica } from "../observability/Replica.ts"
import { sessionName } from "./sessionName.ts"
import { describeAddress, makeSockets, readTls, serverKeepalives } from "./sockets.ts"

/** PostgreSQL did not accept a connection during the start of the process. */
export class DatabaseUnreachable extends Schema.TaggedError<DatabaseUnreachable>()("DatabaseUnreachable", {
  detail: Schema.String
}) {
  override get message() {
    return `DATABASE_URL: the database could not be reached: ${this.detail}`
  }
}

export interface DatabaseOptions {
  readonly url: Redacted.Redacted
  /** Most connections that are open at once. */
  readonly connections: number
  /** What it is for, as `pg_stat_activity` shows it: see {@link sessionName}. */
  readonly name: string
  /** Whether a transaction pooler stands between: then no timeouts are sent, which it would refuse. */
  readonly pooler?: boolean
  /** Whether it is a loop's: the same few statements for ever, each of which finds its rows by an index. */
  readonly steady?: boolean
  /** Whether statements may take as long as they need, as migrations may. */
  readonly patient?: boolean
  /** Whether all that it commits is done once more should a crash of the server undo it: then no commit waits for the disk. */
  readonly repeated?: boolean
}

/** Instants are read and written as text here and there, whatever the role or database has as its defaults. */
const notation = { DateStyle: "ISO", TimeZone: "UTC" }

/** Compiling a statement takes longer than ours take: where the estimates of a large table ask for it, it makes games late. */
const uncompiled = { jit: "off" }

/**
 * A loop's statements are planned once and not for each time, which takes longer than what they do. Such a plan may stem
 * from when the tables were empty, so it may use nothing that is good for small tables only. What is looked up is looked up
 * once, so the server need not lay out a memory for it, which takes the longer the larger it takes the table to be.
 */
const steadyPlans = {
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_bitmapscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  enable_memoize: "off"
}

/** A commit counts as soon as it is in the server's memory; a crash undoes the last second of them, each as a whole. */
const withoutFlush = { synchronous_commit: "off" }

/** Longest time that one statement may take on the server, also when it waits for a lock. */
export const statementTimeout = Duration.seconds(10)

/**
 * Longest time that a loop waits for an answer to one statement; then the server counts as gone. A statement that the
 * server finishes after that has taken effect, which the next look at the table shows.
 */
export const answerDeadline = Duration.seconds(5)

const startupParameters = ({ patient, pooler, repeated, steady }: DatabaseOptions): Record<string, string> => {
  // Poolers know these two and pass them on; others they refuse.
  if (pooler === true) return notation
  if (patient === true) return { ...notation, ...serverKeepalives }
  return {
    ...notation,
    ...serverKeepalives,
    ...uncompiled,
    ...(steady === true ? steadyPlans : {}),
    ...(repeated === true ? withoutFlush : {}),
    statement_timeout: String(Duration.toMillis(statementTimeout)),
    // Whoever is silent for so long within a transaction has given it up, and should hold no game any longer.
    idle_in_transaction_session_timeout: String(Duration.toMillis(answerDeadline))
  }
}

/** Whether a pooler stands there without being expected: it takes no settings of a session that it will give to others. */
const isRefusedByPooler = ({ reason: { cause } }: SqlError.SqlError): boolean =>
  cause instanceof Error && cause.message.startsWith("unsupported startup parameter")

/** What the driver says of an error, on one line: `reason.cause` is the server's own message. */
export const describeSqlError = (error: SqlError.SqlError): string => {
  const { cause } = error.reason
  if (isRefusedByPooler(error)) {
    return "a pooler stands there and refuses the settings of a session: DATABASE_LISTEN_URL must lead past it to PostgreSQL"
  }
  const refusal = describeRefusal(cause)
  if (refusal !== undefined) return `${refusal}; the parameter sslrootcert of the URL names the CA's file`
  const said = cause instanceof Error && cause.message !== "" ? cause.message : (error.reason.message ?? error.message)
  return isLoginRefused(error) ? `${said}; ${loginCure(sqlState(error))}` : said
}

/** Whether the server does not let the role in: what it needs is a person. Its message names the role. */
export const isLoginRefused = (error: SqlError.SqlError): boolean => sqlState(error)?.startsWith("28") === true

const loginCure = (state: string | undefined): string =>
  state === "28P01"
    ? "the role has another password than the URL: ALTER ROLE … PASSWORD '…', or change the URL"
    : "the role must be there, may need ALTER ROLE … LOGIN, and a line of pg_hba.conf that fits"

/** Whether the connection or the server is at fault, rather than the statement. */
export const isConnectionFailure = (error: SqlError.SqlError): boolean =>
  error.reason._tag === "ConnectionError" ||
  // A server that is stopping, starting or failing over says so in class 57P, which the driver does not classify.
  (error.reason._tag === "UnknownError" && /^(57P|53300)/.test(sqlState(error) ?? ""))

/** Five digits or capitals. None begins with E, as the codes of Node.js do. */
const isSqlState = (code: unknown): code is string =>
  typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !code.startsWith("E")

/** The SQLSTATE of an error that came from the server. */
export const sqlState = (error: SqlError.SqlError): string | undefined => {
  const { cause } = error.reason
  return typeof cause === "object" && cause !== null && "code" in cause && isSqlState(cause.code)
    ? cause.code
    : undefined
}

/** Whether an error is what the server had to say of a statement, on a session that goes on. */
export const isAnswer = (error: SqlError.SqlError): boolean =>
  sqlState(error) !== undefined && !isConnectionFailure(error)

export class Database extends Context.Service<
  Database,
  {
    /**
     * Runs an effect in one transaction; nested ones become savepoints. A connection that is lost inside arrives as a
     * typed failure, never as a defect. Lost at COMMIT, the outcome is unknown.
     */
    readonly transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError.SqlError, R>
    /** Makes an effect fail with a connection error when a server that has gone away holds it up for longer. */
    readonly within: (limit: Duration.Duration) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  }
>()("kickoff/postgres/Database") {
  /** Provides a client and its deadlines. Connects lazily. */
  static readonly layer = (
    options: DatabaseOptions
  ): Layer.Layer<Database | PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> => {
    const sockets = makeSockets(options.url)
    const client = (ssl: false | TlsOptions, replica: string) =>
      PgClient.layer({
        url: options.url,
        stream: sockets.open,
        ssl,
        maxConnections: options.connections,
        minConnections: options.connections === 1 ? 1 : 0,
        idleTimeout: Duration.minutes(5),
        applicationName: sessionName(options.name, replica),
        transformJson: false,
        ...(options.pooler === true ? { prepare: false } : {}),
        startupParameters: startupParameters(options)
      })
    const database = Layer.effect(
      Database,
      Effect.map(SqlClient.SqlClient, (sql) =>
        Database.of({
          transaction: (effect) => sql.withTransaction(effect).pipe(Effect.catchCause(failLostConnection)),
          within: (limit) => (effect) =>
            Effect.acquireUseRelease(
              Effect.sync(() => setTimeout(sockets.destroySilent, Duration.toMillis(limit))),
              () => effect,
              (timer) => Effect.sync(() => clearTimeout(timer))
            )
        })
      )
    )
    return Layer.provideMerge(
      database,
      Layer.unwrap(Effect.zipWith(Effect.mapError(readTls(options.url), toConnectionError), Replica, client))
    )
  }

  /** Waits for the database with backoff, saying so, for at most 30 s. For the start of a process. */
  static readonly awaitReachable = (url: Redacted.Redacted) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const patience = Schedule.max([
        Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered),
        Schedule.during("30 seconds")
      ])
      yield* sql`SELECT 1`.pipe(
        Effect.tapError((error) =>
          Effect.logWarning(`The database at ${describeAddress(url)} is not reachable yet: ${describeSqlError(error)}`)
        ),
        Effect.retry({
          schedule: patience,
          // A certificate that is not trusted now will not be in a second, and a pooler stays one.
          while: (error) =>
            isConnectionFailure(error) && describeRefusal(error.reason.cause) === undefined && !isRefusedByPooler(error)
        }),
        Effect.mapError(
          (error) => new DatabaseUnreachable({ detail: `${describeAddress(url)}: ${describeSqlError(error)}` })
        )
      )
    })
}

const toConnectionError = (cause: CertificateUnusable) =>
  new SqlError.SqlError({
    reason: new SqlError.ConnectionError({ cause, message: cause.message, operation: "connect" })
  })

/** `withTransaction` turns a connection that is lost while it begins, commits or rolls back into a defect. */
const failLostConnection = <E>(cause: Cause.Cause<E>): Effect.Effect<never, E | SqlError.SqlError> => {
  const lost = cause.reasons.find((reason) => Cause.isDieReason(reason) && SqlError.isSqlError(reason.defect))
  return lost !== undefined && Cause.isDieReason(lost) && SqlError.isSqlError(lost.defect)
    ? Effect.fail(lost.defect)
    : Effect.failCause(cause)
}

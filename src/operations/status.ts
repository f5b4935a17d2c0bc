/**
 * How the service stands, at a glance: who is there, what is next, what waits. It judges nothing; `doctor` does.
 *
 * Who is there is told by the sessions with the database, so a process that cannot reach it is not seen.
 */
import { Effect, Schema } from "effect"
import type { DeadLetterKind } from "../domain/DeadLetter.ts"
import type { Pause } from "../domain/Pause.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { MigrationRepository } from "../postgres/MigrationRepository.ts"
import { latestMigration } from "../postgres/migrations.ts"
import { shadowParts } from "../postgres/sessionName.ts"
import { type Role, roles } from "../Settings.ts"
import {
  type Backlog,
  DatabaseMetricsRepository,
  fromTheBeginning,
  type OutboxDepth
} from "./DatabaseMetricsRepository.ts"
import { PauseRepository } from "./PauseRepository.ts"
import { type SessionFacts, SessionRepository } from "./SessionRepository.ts"

/** The database lacks migrations, so most of what could be told is not there. */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", { applied: Schema.Int }) {
  override get message() {
    return `the database is at migration ${this.applied}, this program needs ${latestMigration}: run kickoff migrate`
  }
}

export interface ReplicaStatus {
  /** Its host and process id, as far as its sessions tell them; null for those that do not. */
  readonly replica: string | null
  readonly roles: ReadonlyArray<Role>
  /** Whether it is the one that relays the events. */
  readonly relays: boolean
  /** Whether it only records what it would do in its roles. */
  readonly shadow: boolean
}

export interface ScheduleStatus extends Omit<Backlog, "paused"> {
  readonly pause: Pause | null
}

export interface Status {
  /** The id of the newest migration. */
  readonly schema: number
  /** The database's time, ms since 1970. */
  readonly now: number
  readonly replicas: ReadonlyArray<ReplicaStatus>
  /** Roles that nobody plays. */
  readonly unplayed: ReadonlyArray<Role>
  readonly schedules: ReadonlyArray<ScheduleStatus>
  readonly outbox: OutboxDepth
  /** Those that are open. */
  readonly deadLetters: Readonly<Record<DeadLetterKind, number>>
}

/** The parts that a process which serves has sessions for, besides those with the name of a role. */
const otherParts = new Set<string | null>(["listener", "relay", "pool", "metrics", "readiness"])

/** What the sessions of a role call themselves in shadow; there nobody relays. */
const inShadow: Readonly<Record<Role, string | undefined>> = { ...shadowParts, outbox: undefined }

const isRole = (part: string | null): part is Role => roles.some((role) => role === part)

/** The processes that serve, in the order of their names; who runs a command is none. */
export const toReplicas = (sessions: ReadonlyArray<SessionFacts>): ReadonlyArray<ReplicaStatus> =>
  [...Map.groupBy(sessions, ({ replica }) => replica)]
    .filter(([, theirs]) => theirs.some(({ part }) => isRole(part) || otherParts.has(part)))
    .map(([replica, theirs]) => ({
      replica,
      roles: roles.filter((role) => theirs.some(({ part }) => part === role || part === inShadow[role])),
      relays: theirs.some(({ relays }) => relays),
      shadow: theirs.some(({ part }) => Object.values<string | null>(shadowParts).includes(part))
    }))
    .toSorted((a, b) => (a.replica ?? "").localeCompare(b.replica ?? ""))

export const readStatus = Effect.fn("status.readStatus")(function* () {
  const schema = yield* (yield* MigrationRepository).newest
  if (schema < latestMigration) return yield* new NotMigrated({ applied: schema })
  const state = yield* DatabaseMetricsRepository
  const pauses = yield* (yield* PauseRepository).listOpen
  const replicas = toReplicas(yield* (yield* SessionRepository).list)
  const now = yield* state.now
  const pauseOf = (kind: ScheduleKind) => pauses.find((pause) => pause.kind === kind) ?? null
  const backlogs = yield* state.listBacklogs(fromTheBeginning)
  const letters = yield* state.countOpenLetters
  return {
    schema,
    now,
    replicas,
    unplayed: roles.filter((role) => !replicas.some((replica) => replica.roles.includes(role))),
    schedules: backlogs.map(({ paused: _, ...backlog }) => ({ ...backlog, pause: pauseOf(backlog.kind) })),
    outbox: yield* state.outbox,
    deadLetters: {
      "status-transition": letters.get("status-transition") ?? 0,
      notification: letters.get("notification") ?? 0,
      event: letters.get("event") ?? 0
    }
  } satisfies Status
})

/** `kickoff status`: who is there, what is next, what waits, and what is paused. Whether that is well, `doctor` says. */
import { DateTime, Duration, Effect } from "effect"
import { Command } from "effect/cli"
import packageJson from "../../package.json" with { type: "json" }
import { counted } from "../domain/counted.ts"
import { formatMillis as time } from "../domain/Instant.ts"
import type { ScheduleStatus, Status } from "../operations/status.ts"
import { json, printJson } from "./json.ts"
import { toClause } from "./pauseClause.ts"
import type { BrokerStatus } from "./statusDesk.ts"
import { paint, plain, print, toTable } from "./terminal.ts"

/** Whole seconds, in words. */
const lasting = (millis: number): string => Duration.format(Duration.seconds(Math.max(0, Math.round(millis / 1000))))

const toJson = ({ deadLetters, now, outbox, replicas, schedules, schema, unplayed }: Status, broker: BrokerStatus) => ({
  version: packageJson.version,
  schema,
  at: time(now),
  replicas,
  unplayed_roles: unplayed,
  schedules: schedules.map(({ kind, next_at, overdue, pause, pending, retrying, waiting }) => ({
    kind,
    planned: pending,
    due: overdue,
    next_due: next_at === null ? null : time(next_at),
    retrying,
    waiting,
    paused:
      pause === null ? null : { since: DateTime.formatIso(pause.paused_at), by: pause.paused_by, reason: pause.reason }
  })),
  outbox: { events: outbox.events, refused: outbox.refused, oldest_seconds: outbox.oldest },
  dead_letters: deadLetters,
  broker
})

const nextDue = (next: number | null, now: number): string => {
  if (next === null) return "nothing"
  return next <= now ? `${time(next)}, ${lasting(now - next)} ago` : `${time(next)}, in ${lasting(next - now)}`
}

const toRow =
  (now: number) =>
  ({ kind, next_at, overdue, pending, retrying, waiting }: ScheduleStatus): ReadonlyArray<string> => [
    kind,
    ...[pending, overdue, retrying, waiting].map(String),
    nextDue(next_at, now)
  ]

const describeOutbox = ({ events, oldest, refused }: Status["outbox"]): string =>
  events === 0
    ? "empty"
    : `${counted(events, "event")}, the first for ${lasting(oldest * 1000)}${refused === 0 ? "" : `; ${counted(refused, "was refused and is", "were refused and are")} tried again`}`

const describeLetters = (letters: Status["deadLetters"]): string => {
  const open = Object.entries(letters).filter(([, count]) => count > 0)
  return open.length === 0 ? "none are open" : open.map(([kind, count]) => `${count} ${kind}`).join(", ")
}

const describeBroker = ({ detail, state }: BrokerStatus): string =>
  state === "not set" ? "RABBITMQ_URL is not set" : `${state === "away" ? "away: " : ""}${plain(detail ?? "")}`

const report = Effect.fnUntraced(function* (status: Status, broker: BrokerStatus) {
  const painted = yield* paint
  yield* print(`Kickoff ${packageJson.version}, schema at ${status.schema}, ${time(status.now)}\n`)
  const replicas = status.replicas.map(({ relays, replica, roles, shadow }) => [
    plain(replica ?? "without a name"),
    roles.join(", "),
    [...(relays ? ["relays"] : []), ...(shadow ? ["in shadow, does nothing"] : [])].join(", ")
  ])
  if (replicas.length > 0) yield* print(toTable([["PROCESS", "ROLES", ""], ...replicas]))
  for (const role of status.unplayed) yield* print(painted("red", `no process plays ${role}`))
  const headings = ["KIND", "PLANNED", "DUE", "RETRYING", "WAITING", "NEXT"]
  yield* print(`\n${toTable([headings, ...status.schedules.map(toRow(status.now))])}`)
  for (const { kind, pause } of status.schedules) {
    if (pause === null) continue
    yield* print(painted("yellow", `${kind} is paused ${toClause(pause)}`))
  }
  yield* print(`\nOutbox        ${describeOutbox(status.outbox)}`)
  yield* print(`Dead letters  ${describeLetters(status.deadLetters)}`)
  yield* print(`Broker        ${describeBroker(broker)}`)
})

export const status = Command.make(
  "status",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { read } = yield* Effect.promise(() => import("./statusDesk.ts"))
    const { broker, service } = yield* read
    yield* json ? printJson(toJson(service, broker)) : report(service, broker)
  })
).pipe(Command.withDescription("Show who is there, what is next and what waits"))

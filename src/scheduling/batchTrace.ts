/**
 * What a batch has done to games, in the traces that they carry.
 *
 * A batch is one statement for up to a thousand games, so its span can stand in none of their traces: it begins one of its own.
 * Each game that carries a trace has one span there, from its due time to the commit, with a link to the batch. So a trace
 * holds what happened to its game and nothing else, whoever was due with it, and rows without a trace cost nothing.
 */
import { Exit, Option, type Tracer } from "effect"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { startSpan } from "../observability/spans.ts"
import { fromTraceparent, recordedSpan } from "../observability/traceContext.ts"
import type { FailedRow, Processed } from "./DueRepository.ts"

const nanoseconds = (millis: number) => BigInt(Math.round(millis * 1e6))

/** Records a batch whose statement was sent and answered at these times, nanoseconds since 1970. */
export const traceBatch = (
  tracer: Tracer.Tracer,
  kind: ScheduleKind,
  rows: ReadonlyArray<Processed>,
  { began, ended }: { readonly began: bigint; readonly ended: bigint }
): void => {
  let batch: Tracer.Span | undefined
  for (const row of rows) {
    const planned = recordedSpan(row.planned_in)
    if (Option.isNone(planned)) continue
    batch ??= startSpan(tracer, {
      name: `${kind} batch`,
      kind: "internal",
      parent: Option.none(),
      startTime: began,
      attributes: { "kickoff.batch.rows": rows.length }
    })
    const own = Option.flatMap(Option.fromNullOr(row.traceparent), fromTraceparent)
    startSpan(tracer, {
      name: kind,
      kind: "internal",
      parent: planned,
      ...Option.match(own, { onNone: () => ({}), onSome: ({ spanId }) => ({ spanId }) }),
      links: [batch],
      startTime: ended - nanoseconds(row.lateness_ms),
      attributes: { ...attributesOf(kind, row), "kickoff.outcome": row.outcome, "kickoff.lateness_ms": row.lateness_ms }
    }).end(ended, Exit.void)
  }
  batch?.end(ended, Exit.void)
}

/** Records that a row has failed. */
export const traceFailure = (
  tracer: Tracer.Tracer,
  kind: ScheduleKind,
  row: FailedRow,
  at: bigint,
  message: string
): void => {
  const planned = recordedSpan(row.planned_in)
  if (Option.isNone(planned)) return
  startSpan(tracer, {
    name: kind,
    kind: "internal",
    parent: planned,
    startTime: at,
    attributes: {
      ...attributesOf(kind, row),
      "kickoff.outcome": row.parked ? "parked" : "failed",
      "kickoff.attempt": row.attempts
    }
  }).end(at, Exit.fail(message))
}

const attributesOf = (
  kind: ScheduleKind,
  row: { readonly game_id: string; readonly target: string; readonly due_at: string }
) => ({
  "kickoff.game_id": row.game_id,
  "kickoff.due_at": row.due_at,
  ...(kind === "status-transition"
    ? { "kickoff.target_status": row.target }
    : { "kickoff.reminder_minutes": Number(row.target) })
})

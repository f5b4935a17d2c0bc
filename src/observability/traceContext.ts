/**
 * W3C trace contexts, which tie what becomes of a game to the request that planned it: `traceparent`, as in the columns and
 * headers of that name.
 *
 * A trace goes on through a process that exports no spans. What comes next then follows the last span of somebody else, since
 * nobody would find one of ours.
 */
import { Context, Effect, Option, Tracer } from "effect"
import { Headers, HttpTraceContext } from "effect/http"

/** Where spans go. */
export interface SpanExporter {
  /** Makes the spans of requests, and of what is done for them, as far as the sampler wants them. */
  readonly requests: Tracer.Tracer
  /** Makes spans in traces of which it was decided before that they are recorded. */
  readonly recorded: Tracer.Tracer
}

/** The exporter of this process; undefined where spans go nowhere. */
export const SpanExport = Context.Reference<SpanExporter | undefined>("kickoff/observability/SpanExport", {
  defaultValue: () => undefined
})

/** A span's `traceparent`. */
export const toTraceparent = ({ sampled, spanId, traceId }: Tracer.AnySpan): string =>
  `00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}`

/** The span that a `traceparent` speaks of; none if it is not well-formed. */
export const fromTraceparent = (traceparent: string): Option.Option<Tracer.ExternalSpan> =>
  HttpTraceContext.w3c(Headers.fromRecordUnsafe({ traceparent }))

/** The span that a `traceparent` speaks of, if its trace is recorded. */
export const recordedSpan = (traceparent: string | null): Option.Option<Tracer.ExternalSpan> =>
  traceparent === null ? Option.none() : Option.filter(fromTraceparent(traceparent), ({ sampled }) => sampled)

/** The nearest span in a context that somebody can find: one of ours that is exported, or somebody else's. */
export const knownSpan = (context: Context.Context<never>): Tracer.AnySpan | undefined => {
  const exported = Context.get(context, SpanExport) !== undefined
  const nearest = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined =>
    span?._tag === "Span" && (!exported || Context.get(span.annotations, Tracer.DisablePropagation))
      ? nearest(Option.getOrUndefined(span.parent))
      : span
  return nearest(Context.getOrUndefined(context, Tracer.ParentSpan))
}

/** Runs an effect in the trace of a `traceparent`, if that is one. */
export const inTrace =
  (traceparent: string | null) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Option.match(Option.flatMap(Option.fromNullOr(traceparent), fromTraceparent), {
      onNone: () => effect,
      onSome: (span) => Effect.provideService(effect, Tracer.ParentSpan, span)
    })

/** The `traceparent` of what is going on; null outside any trace. */
export const currentTraceparent: Effect.Effect<string | null> = Effect.contextWith(
  (context: Context.Context<never>) => {
    const span = knownSpan(context)
    return Effect.succeed(span === undefined ? null : toTraceparent(span))
  }
)

/**
 * Spans that are made by hand, of what is done to many games at once: no effect runs for each of them that could carry one.
 *
 * They are recorded in any case: whoever makes one has seen in the game's `traceparent` that its trace is.
 */
import { Context, Option, type Tracer } from "effect"

export interface SpanStart {
  readonly name: string
  readonly kind: Tracer.SpanKind
  /** The span that it follows; none begins a trace. */
  readonly parent: Option.Option<Tracer.AnySpan>
  /** Its id, where that was given away before there was a span. */
  readonly spanId?: string
  readonly links?: ReadonlyArray<Tracer.AnySpan>
  /** Nanoseconds since 1970. */
  readonly startTime: bigint
  readonly attributes: Readonly<Record<string, unknown>>
}

/** Begins a span; its `end` exports it. */
export const startSpan = (tracer: Tracer.Tracer, start: SpanStart): Tracer.Span => {
  const span = tracer.span({
    name: start.name,
    kind: start.kind,
    parent: start.parent,
    root: Option.isNone(start.parent),
    annotations: Context.empty(),
    links: (start.links ?? []).map((linked) => ({ span: linked, attributes: {} })),
    startTime: start.startTime,
    sampled: true
  })
  for (const [name, value] of Object.entries(start.attributes)) span.attribute(name, value)
  return start.spanId === undefined ? span : withIds(span, { spanId: start.spanId })
}

/** The span under ids of its own; Effect's tracers choose random ones the first time that somebody asks. */
export const withIds = (
  span: Tracer.Span,
  ids: { readonly traceId?: string; readonly spanId?: string }
): Tracer.Span => {
  for (const [name, value] of Object.entries(ids)) Object.defineProperty(span, name, { value })
  return span
}

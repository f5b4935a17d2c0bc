/**
 * Exports spans by OTLP, as OpenTelemetry's variables say; where they name no collector, no span is made at all.
 *
 * Only requests make spans as they run. The loops run for ever and look at their tables all the time, which is nothing to
 * read; what they do to a game is recorded when it is done, in the trace that the game carries.
 */
import { ConfigProvider, Effect, Layer, Option, Redacted, References, Tracer } from "effect"
import { Hex } from "effect/encoding"
import { OtlpExporter, OtlpSerialization, OtlpTracer } from "effect/observability"
import packageJson from "../../package.json" with { type: "json" }
import { type samplers, Settings, toPairs } from "../Settings.ts"
import { Replica } from "./Replica.ts"
import * as SpanDelivery from "./spanDelivery.ts"
import { withIds } from "./spans.ts"
import { SpanExport } from "./traceContext.ts"

type Values = Settings["Service"]

/** Where spans go; none if the settings say that they go nowhere. */
const endpointOf = (settings: Values): Option.Option<URL> =>
  settings.otelDisabled || settings.traceExporter === "none" || settings.traceSampler === "always_off"
    ? Option.none()
    : Option.orElse(
        Option.map(settings.otlpTracesEndpoint, (url) => new URL(Redacted.value(url))),
        () =>
          Option.map(settings.otlpEndpoint, (base) => {
            const url = new URL(Redacted.value(base))
            url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/traces`
            return url
          })
      )

/** Whether spans of a trace are exported, asked for each span with the one that it follows. */
export type Sampler = (traceId: string, parent: Option.Option<Tracer.AnySpan>) => boolean

const parentBased =
  (root: Sampler): Sampler =>
  (traceId, parent) =>
    Option.match(parent, { onNone: () => root(traceId, parent), onSome: ({ sampled }) => sampled })

/** The sampler of a name, with the share of all traces that some of them want. */
export const samplerOf = (name: (typeof samplers)[number], share: number): Sampler => {
  // A trace's id ends with random bits, as the W3C recommends, so all who are asked decide alike. A number holds 52 of them.
  const some: Sampler = (traceId) => Number.parseInt(traceId.slice(-13), 16) >= (1 - share) * 2 ** 52
  const byName: Readonly<Record<typeof name, Sampler>> = {
    always_on: () => true,
    always_off: () => false,
    traceidratio: some,
    parentbased_always_on: parentBased(() => true),
    parentbased_always_off: parentBased(() => false),
    parentbased_traceidratio: parentBased(some)
  }
  return byName[name]
}

/** The tracer with a sampler before it; Effect's has none. */
export const withSampler = (tracer: Tracer.Tracer, sampler: Sampler): Tracer.Tracer =>
  Tracer.make({
    span: (options) => {
      if (Option.isSome(options.parent)) {
        return tracer.span({ ...options, sampled: sampler(options.parent.value.traceId, options.parent) })
      }
      const traceId = Hex.random(32)
      return withIds(tracer.span({ ...options, sampled: sampler(traceId, options.parent) }), { traceId })
    }
  })

const exportTo = (url: URL, settings: Values) => {
  const attributes = Option.getOrThrow(toPairs(settings.otelResourceAttributes))
  const headers = Option.orElse(settings.otlpTracesHeaders, () => settings.otlpHeaders)
  const protocol = Option.getOrElse(settings.otlpTracesProtocol, () => settings.otlpProtocol)
  return Layer.effect(
    SpanExport,
    Effect.gen(function* () {
      const recorded = yield* OtlpTracer.make({
        url: url.href,
        compression: Option.getOrElse(settings.otlpTracesCompression, () => settings.otlpCompression),
        exportInterval: settings.spanDelay,
        maxBatchSize: settings.spanBatchSize,
        resource: {
          serviceName: Option.getOrElse(settings.otelServiceName, () => attributes["service.name"] ?? "kickoff"),
          serviceVersion: attributes["service.version"] ?? packageJson.version,
          attributes: { "service.instance.id": yield* Replica, ...attributes }
        }
      })
      yield* Effect.logInfo(`Traces go to ${url.host}`)
      return { recorded, requests: withSampler(recorded, samplerOf(settings.traceSampler, settings.traceSamplerShare)) }
    })
  ).pipe(
    Layer.provide([
      SpanDelivery.layer({
        collector: url.host,
        headers: Redacted.make(
          Option.getOrElse(
            Option.flatMap(headers, (text) => toPairs(Redacted.value(text))),
            () => ({})
          )
        ),
        timeout: Option.getOrElse(settings.otlpTracesTimeout, () => settings.otlpTimeout),
        capacity: Math.max(1, Math.floor(settings.spanQueueSize / settings.spanBatchSize))
      }),
      OtlpExporter.layerFlusher,
      protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf,
      // The exporter would read variables of its own accord; all of them have come through the settings.
      ConfigProvider.layer(ConfigProvider.fromUnknown({}))
    ])
  )
}

/** Exports spans where the settings say so. Nothing makes spans of its own accord but what stands in {@link requests}. */
export const layer: Layer.Layer<never, never, Settings> = Layer.unwrap(
  Effect.map(Settings, (settings) =>
    Option.match(endpointOf(settings), { onNone: () => Layer.empty, onSome: (url) => exportTo(url, settings) })
  )
).pipe(Layer.merge(Layer.succeed(References.TracerEnabled, false)))

/** Makes spans of what is done for requests, where spans are exported. */
export const requests: Layer.Layer<never> = Layer.unwrap(
  Effect.map(SpanExport, (exporter) =>
    exporter === undefined
      ? Layer.empty
      : Layer.merge(Layer.succeed(Tracer.Tracer, exporter.requests), Layer.succeed(References.TracerEnabled, true))
  )
)

/**
 * Log lines on standard output: one JSON object each, or one readable line each, without secrets.
 *
 * Fields of a JSON line are stable: `timestamp`, `level`, `message`, then annotations such as `game_id`, then `error`; within
 * a trace also `trace_id` and `span_id`.
 * Only the last word of a process that fails goes to standard error, see {@link logFailure}.
 */
import { Cause, Effect, Layer, Logger, type LogLevel, Option, References } from "effect"
import { hideKeys } from "./secrets.ts"
import { knownSpan } from "./traceContext.ts"
import { type logFormats, type logLevels, Settings } from "../Settings.ts"

type Level = (typeof logLevels)[number]
export type LogFormat = (typeof logFormats)[number]

const minimumLevels: Record<Level, LogLevel.LogLevel> = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  fatal: "Fatal",
  none: "None"
}

interface Entry {
  readonly timestamp: string
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** Values that JSON cannot say as they are; a `Redacted` says of itself that it is one. */
const sayable = (_key: string, value: unknown): unknown =>
  typeof value === "bigint" ? String(value) : value instanceof Error ? value.message : value

const toJson = (value: unknown): Option.Option<string> =>
  Option.flatMap(
    Option.liftThrowable((): string | undefined => JSON.stringify(value, sayable))(),
    Option.fromUndefinedOr
  )

const toText = (value: unknown): string =>
  typeof value === "string" ? value : Option.getOrElse(toJson(value), () => "(a value that JSON cannot say)")

/** Plain objects among the logged values become fields, all else the message. */
const toEntry = ({ cause, date, fiber, logLevel, message }: Logger.Options<unknown>): Entry => {
  const parts = Array.isArray(message) ? message : [message]
  const failures = cause.reasons.length === 0 ? {} : { error: Cause.pretty(cause) }
  return {
    timestamp: date.toISOString(),
    level: logLevel.toLowerCase(),
    message: parts
      .filter((part) => !isRecord(part))
      .map((part) => (part instanceof Error ? part.message : toText(part)))
      .join(" "),
    fields: Object.assign(
      {},
      fiber.getRef(References.CurrentLogAnnotations),
      ...parts.filter((part) => isRecord(part)),
      failures
    )
  }
}

/** Where in which trace something is said. */
const traceOf = ({ fiber }: Logger.Options<unknown>) => {
  const span = knownSpan(fiber.context)
  return span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId }
}

/** One JSON object; a field never takes the place of one of the three that always come. */
export const formatJson = (options: Logger.Options<unknown>): string => {
  const { fields, level, message, timestamp } = toEntry(options)
  const others = { ...without(fields, ["timestamp", "level", "message"]), ...traceOf(options) }
  return Option.getOrElse(toJson({ timestamp, level, message, ...others }), () =>
    toText({ timestamp, level, message, fields: toText(others) })
  )
}

const without = (fields: Entry["fields"], names: ReadonlyArray<string>) =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))

const colours: Readonly<Record<string, number>> = { trace: 90, debug: 90, info: 32, warn: 33, error: 31, fatal: 31 }

/** One line: the time in UTC, the level, the message, then the fields; a stack of a defect follows below. */
export const formatPretty =
  (options: { readonly colours: boolean }) =>
  (entry: Logger.Options<unknown>): string => {
    const { fields, level, message, timestamp } = toEntry(entry)
    const paint = (colour: number, text: string) => (options.colours ? `\u001B[${colour}m${text}\u001B[0m` : text)
    const { error, ...others } = fields
    const rest = Object.entries(others)
      .map(([name, value]) => paint(90, ` ${name}=${toText(value)}`))
      .join("")
    const below = error === undefined ? "" : `\n${toText(error).replaceAll(/^/gm, "  ")}`
    return `${paint(90, timestamp.slice(11, 23))} ${paint(colours[level] ?? 0, level.padEnd(5))} ${message}${rest}${below}`
  }

/** The logger of a format; it writes to the streams themselves, so that nothing adds to a line. */
const makeLogger = (format: LogFormat) => {
  const toLine =
    format === "json" ? formatJson : formatPretty({ colours: process.stdout.isTTY && process.stdout.hasColors() })
  return Logger.make<unknown, void>((options) => {
    const stream = options.fiber.getRef(References.LogToStderr) ? process.stderr : process.stdout
    stream.write(`${hideKeys(toLine(options))}\n`)
  })
}

/** Logs as `LOG_LEVEL` and `LOG_FORMAT` say. */
export const layer: Layer.Layer<never, never, Settings> = Layer.unwrap(
  Effect.map(Settings, (settings) => {
    const format = Option.getOrElse(settings.logFormat, () => (process.stdout.isTTY ? "pretty" : "json"))
    return Layer.merge(
      Logger.layer([makeLogger(format)]),
      Layer.succeed(References.MinimumLogLevel, minimumLevels[settings.logLevel])
    )
  })
)

/** Logs why the process ends, to standard error; whatever `LOG_LEVEL` says, because it is the answer to "why?". */
export const logFailure = (message: string, cause: Cause.Cause<unknown> = Cause.empty): Effect.Effect<void> =>
  Effect.logFatal(message, cause).pipe(
    Effect.provideService(References.LogToStderr, true),
    Effect.provideService(References.MinimumLogLevel, "Fatal")
  )

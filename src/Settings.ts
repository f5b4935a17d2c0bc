/**
 * Every environment variable of Kickoff, with its default and meaning; nothing else reads the environment, and
 * `docs/RUNTIME_CONFIG.md` is written from here by `npm run docs`.
 *
 * An empty variable counts as unset. A bad one fails with a `ConfigError` that names it and never shows a secret.
 */
import {
  Config,
  ConfigProvider,
  Context,
  Duration,
  Effect,
  Layer,
  Option,
  Redacted,
  Result,
  Schema,
  SchemaAST,
  SchemaTransformation,
  Struct
} from "effect"
import { type Objection, ofBrokerUrl, ofDatabaseUrl } from "./tls/encryption.ts"

export const roles = ["api", "status-transitions", "notifications", "outbox"] as const
/** A part of the service that a process may play; see {@link roles} for all of them. */
export type Role = (typeof roles)[number]

export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "none"] as const
export const logFormats = ["pretty", "json"] as const

/** How it is decided of which traces spans are exported, by OpenTelemetry's names. */
export const samplers = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio"
] as const
export const traceExporters = ["otlp", "none"] as const
export const otlpProtocols = ["http/protobuf", "http/json"] as const
export const otlpCompressions = ["none", "gzip"] as const

/** One variable: what the documentation says of it, in Markdown, and how it is read. */
export interface Setting<A> {
  readonly name: string
  /** What its text may be, to be read after "Expected". */
  readonly accepts: string
  /** The default's text, or what takes its place, in words. */
  readonly fallback: string
  readonly meaning: string
  /** The roles that it makes a difference to. */
  readonly roles: ReadonlyArray<Role>
  /** Whether the value is never to be shown. */
  readonly secret: boolean
  readonly config: Config.Config<A>
}

const expecting = (test: (text: string) => boolean, expected: string) =>
  Schema.makeFilter((text: string) => (test(text) ? undefined : `Expected ${expected}`), { expected })

/** What the first check of a variable's text expects. */
const expectation = ({ ast }: Schema.Constraint): string =>
  SchemaAST.toEncoded(ast).checks?.map(({ annotations }) => annotations?.expected)[0] ?? "any text"

const setting = <A>(options: {
  readonly name: string
  readonly schema: Schema.ConstraintCodec<A, unknown>
  readonly fallback: { readonly text: string; readonly value: A }
  readonly meaning: string
  /** Every role unless given. */
  readonly roles?: ReadonlyArray<Role>
  readonly secret?: true
}): Setting<A> => ({
  name: options.name,
  accepts: expectation(options.schema),
  roles: options.roles ?? roles,
  secret: options.secret === true,
  fallback: options.fallback.text,
  meaning: options.meaning,
  config: Config.schema(Schema.String, options.name).pipe(
    Config.option,
    Config.flatMap((text) =>
      Option.isNone(text) || text.value.trim() === ""
        ? Config.succeed(options.fallback.value)
        : Config.schema(options.schema, options.name)
    )
  )
})

/** Lower case first, so that `INFO` and `info` are the same. */
const oneOf = <const L extends ReadonlyArray<string>>(values: L) =>
  Schema.String.pipe(
    Schema.check(expecting((text) => values.includes(text.trim().toLowerCase()), `one of ${values.join(", ")}`)),
    Schema.decodeTo(
      Schema.Literals(values),
      SchemaTransformation.transform({
        decode: (text) => text.trim().toLowerCase() as L[number],
        encode: (value): string => value
      })
    )
  )

const integer = (minimum: number, maximum: number) =>
  Schema.String.pipe(
    Schema.check(
      expecting(
        (text) => /^\d{1,9}$/.test(text.trim()) && Number(text) >= minimum && Number(text) <= maximum,
        `a whole number from ${minimum} to ${maximum}`
      )
    ),
    Schema.decodeTo(
      Schema.Int,
      SchemaTransformation.transform({
        decode: (text) => Number(text),
        encode: (value) => String(value)
      })
    )
  )

const toDuration = (text: string): Option.Option<Duration.Duration> =>
  /^\d+(\.\d+)? (milli|second|minute|hour|day)s?$/.test(text.trim())
    ? Duration.fromInput(text.trim() as Duration.Input)
    : Option.none()

const duration = (minimum: `${number} ${Duration.Unit}`, maximum: `${number} ${Duration.Unit}`) =>
  Schema.String.pipe(
    Schema.check(
      expecting(
        (text) =>
          Option.exists(
            toDuration(text),
            Duration.between({
              minimum: Duration.fromInputUnsafe(minimum),
              maximum: Duration.fromInputUnsafe(maximum)
            })
          ),
        `a duration from "${minimum}" to "${maximum}", in millis, seconds, minutes, hours or days`
      )
    ),
    Schema.decodeTo(
      Schema.Duration,
      SchemaTransformation.transform({
        decode: (text) => Option.getOrThrow(toDuration(text)),
        encode: (value) => `${Duration.toMillis(value)} millis`
      })
    )
  )

/** Members of a database URL whose value the driver would refuse at every attempt to connect, as if it were an outage. */
const isParameter: Readonly<Record<string, (value: string) => boolean>> = {
  port: (value) => /^\d{1,5}$/.test(value) && Number(value) >= 1 && Number(value) <= 65_535,
  connect_timeout: (value) => /^\d{1,9}$/.test(value)
}

/**
 * What is wrong with a URL, to be read after "Expected a URL", or `undefined`. Its parts are percent-encoded; URL itself
 * does not look into them.
 */
const objection = (text: string, encryption: ReadEncryption): Objection | undefined => {
  const url = new URL(text)
  const { hostname, password, pathname, searchParams, username } = url
  const part = Object.entries({ hostname, username, password, path: pathname }).find(([, value]) =>
    Option.isNone(Option.liftThrowable(decodeURIComponent)(value))
  )
  if (part !== undefined) return `with a valid percent-encoding in its ${part[0]}, where % itself is %25`
  const bad = [...searchParams].find(([name, value]) => isParameter[name]?.(value) === false)
  if (bad !== undefined) return `with a valid value of its parameter ${bad[0]}`
  const read = encryption(url)
  return Result.isFailure(read) ? read.failure : undefined
}

const redacted = (schema: Schema.Codec<string>) =>
  schema.pipe(
    Schema.decodeTo(
      Schema.Option(Schema.Redacted(Schema.String)),
      SchemaTransformation.transform({
        decode: (text) => Option.some(Redacted.make(text)),
        encode: (value) => Option.match(value, { onNone: () => "", onSome: Redacted.value })
      })
    )
  )

type ReadEncryption = (url: URL) => Result.Result<unknown, Objection>

const url = (protocols: ReadonlyArray<string>, encryption: ReadEncryption) =>
  Schema.String.pipe(
    Schema.check(
      expecting(
        (text) =>
          URL.canParse(text) && protocols.some((protocol) => text.trim().toLowerCase().startsWith(`${protocol}//`)),
        `a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`
      ).abort(),
      Schema.makeFilter((text: string) => {
        const wrong = objection(text, encryption)
        return wrong === undefined ? undefined : `Expected a URL ${wrong}`
      })
    ),
    redacted
  )

const flag = Schema.String.pipe(
  Schema.check(expecting((text) => /^(true|false)$/i.test(text.trim()), "true or false")),
  Schema.decodeTo(
    Schema.Boolean,
    SchemaTransformation.transform({
      decode: (text) => text.trim().toLowerCase() === "true",
      encode: (value) => String(value)
    })
  )
)

const roleList = Schema.String.pipe(
  Schema.check(
    expecting(
      (text) => text.split(",").every((role) => (roles as ReadonlyArray<string>).includes(role.trim())),
      `a comma-separated list of ${roles.join(", ")}`
    )
  ),
  Schema.decodeTo(
    Schema.Array(Schema.Literals(roles)),
    SchemaTransformation.transform({
      decode: (text): ReadonlyArray<Role> => [...new Set(text.split(",").map((role) => role.trim() as Role))],
      encode: (value: ReadonlyArray<Role>) => value.join(",")
    })
  )
)

const text = (expected: string, test: (text: string) => boolean = () => true) =>
  Schema.String.pipe(Schema.check(expecting(test, expected)))

/** A share of a whole. */
const share = Schema.String.pipe(
  Schema.check(
    expecting(
      (text) => /^(0|1|[01]?\.\d{1,15})$/.test(text.trim()) && Number(text) <= 1,
      "a number from 0 to 1, like 0.25"
    )
  ),
  Schema.decodeTo(
    Schema.Finite,
    SchemaTransformation.transform({ decode: (text) => Number(text), encode: (value) => String(value) })
  )
)

/** OpenTelemetry counts durations in whole milliseconds. */
const milliseconds = (maximum: number) =>
  integer(1, maximum).pipe(
    Schema.decodeTo(
      Schema.Duration,
      SchemaTransformation.transform({ decode: Duration.millis, encode: (value) => Duration.toMillis(value) })
    )
  )

const optional = <A, E>(schema: Schema.Codec<A, E>) =>
  schema.pipe(
    Schema.decodeTo(
      Schema.Option(Schema.toType(schema)),
      SchemaTransformation.transform({
        decode: Option.some<A>,
        encode: (value: Option.Option<A>) => Option.getOrThrow(value)
      })
    )
  )

/** The pairs of a text like `a=1,b=2`, whose values are percent-encoded; none if it is no such text. */
export const toPairs = (text: string): Option.Option<Readonly<Record<string, string>>> =>
  Option.liftThrowable(() =>
    Object.fromEntries(
      text
        .split(",")
        .filter((pair) => pair.trim() !== "")
        .map((pair) => {
          const at = pair.indexOf("=")
          if (at < 1 || pair.slice(0, at).trim() === "") throw new Error("no pair")
          return [decodeURIComponent(pair.slice(0, at).trim()), decodeURIComponent(pair.slice(at + 1).trim())]
        })
    )
  )()

const pairs = (expected: string, test: (name: string, value: string) => boolean) =>
  text(expected, (text) =>
    Option.exists(toPairs(text), (pairs) => Object.entries(pairs).every(([name, value]) => test(name, value)))
  )

const collector = url(["http:", "https:"], ({ password, username }) =>
  username === "" && password === ""
    ? Result.succeed(undefined)
    : Result.fail("without user and password, which belong into OTEL_EXPORTER_OTLP_HEADERS as authorization=Basic%20…")
)

// A name or value that is none in HTTP would be refused by the client, in words that show it.
const headers = redacted(
  pairs(
    "headers like authorization=Bearer%20…,x-tenant=a, percent-encoded",
    (name, value) => /^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\t\x20-\x7e]*$/.test(value)
  )
)

const otlpMeaning = (what: string) => `the same for traces alone; ${what} comes first`

/** All variables, in the order of the documentation. */
export const settings = {
  databaseUrl: setting({
    name: "DATABASE_URL",
    secret: true,
    schema: url(["postgres:", "postgresql:"], ofDatabaseUrl),
    fallback: { text: "none: embedded PostgreSQL", value: Option.none() },
    meaning:
      "PostgreSQL 14 to 18; [encrypted](security.md#encrypted-connections) with `?sslmode=verify-full&sslrootcert=…`"
  }),
  databaseListenUrl: setting({
    name: "DATABASE_LISTEN_URL",
    secret: true,
    schema: url(["postgres:", "postgresql:"], ofDatabaseUrl),
    fallback: { text: "`DATABASE_URL`", value: Option.none() },
    meaning: "direct connection for LISTEN and advisory locks when `DATABASE_URL` goes through a transaction pooler"
  }),
  databasePoolSize: setting({
    name: "DATABASE_POOL_SIZE",
    schema: integer(2, 1000),
    fallback: { text: "10", value: 10 },
    meaning:
      "pooled connections per process; each loop, LISTEN, the relay's lock, the readiness probe and the metrics have one " +
      "of their own besides"
  }),
  rabbitmqUrl: setting({
    name: "RABBITMQ_URL",
    secret: true,
    schema: url(["amqp:", "amqps:"], ofBrokerUrl),
    fallback: { text: "none: in-process publisher", value: Option.none() },
    roles: ["outbox"],
    meaning:
      "the broker; [encrypted](security.md#encrypted-connections) with `amqps://`, and `?cacertfile=…` for a CA of your own"
  }),
  rabbitmqExchange: setting({
    name: "RABBITMQ_EXCHANGE",
    schema: text(
      "an exchange name of 1 to 127 letters, digits, dots, dashes, underscores or colons that does not begin with amq.",
      (name) => /^[\w.:-]{1,127}$/.test(name) && !name.startsWith("amq.")
    ),
    fallback: { text: "kickoff.events", value: "kickoff.events" },
    roles: ["outbox"],
    meaning: "topic exchange for events; unrouted ones go to `kickoff.unrouted` whatever this is"
  }),
  httpHost: setting({
    name: "HTTP_HOST",
    schema: text("an address or host name without spaces", (host) => /^[\w.:%-]+$/.test(host)),
    fallback: { text: "127.0.0.1", value: "127.0.0.1" },
    meaning: "address on which `/health/*`, `/metrics` and, with the role `api`, `/v1` are served"
  }),
  httpPort: setting({
    name: "HTTP_PORT",
    schema: integer(0, 65_535),
    fallback: { text: "3000", value: 3000 },
    meaning: "port of the same; 0 takes a free one"
  }),
  apiKeysFile: setting<Option.Option<string>>({
    name: "KICKOFF_API_KEYS_FILE",
    schema: optional(text("a file", (file) => !file.includes("\0"))),
    fallback: { text: "none: nobody needs a key", value: Option.none() },
    roles: ["api"],
    meaning:
      "file with the [API keys](security.md#api-keys) of `kickoff keys create`; without keys `api` listens on this " +
      "machine alone"
  }),
  apiKeys: setting<Option.Option<Redacted.Redacted>>({
    name: "KICKOFF_API_KEYS",
    secret: true,
    schema: redacted(text("a list of API keys in JSON")),
    fallback: { text: "none", value: Option.none() },
    roles: ["api"],
    meaning: "the content of such a file, instead of one"
  }),
  rateLimit: setting({
    name: "KICKOFF_RATE_LIMIT",
    schema: integer(1, 1_000_000),
    fallback: { text: "2000", value: 2000 },
    roles: ["api"],
    meaning: "requests per second and API key that a process answers, and as many at once; more are 429"
  }),
  roles: setting<ReadonlyArray<Role>>({
    name: "KICKOFF_ROLES",
    schema: roleList,
    fallback: { text: "all", value: roles },
    meaning: "parts of the service that this process plays; `serve --roles` comes first"
  }),
  dataDir: setting({
    name: "KICKOFF_DATA_DIR",
    schema: text("a folder", (folder) => !folder.includes("\0")),
    fallback: { text: ".kickoff", value: ".kickoff" },
    meaning: "folder of the embedded database"
  }),
  container: setting({
    name: "KICKOFF_CONTAINER",
    schema: flag,
    fallback: { text: "false", value: false },
    meaning: "set by the container image, where an embedded database would be lost: then `DATABASE_URL` is required"
  }),
  migrate: setting({
    name: "KICKOFF_MIGRATE",
    schema: flag,
    fallback: { text: "true", value: true },
    meaning: "apply pending migrations when `serve` starts"
  }),
  shadow: setting({
    name: "KICKOFF_SHADOW",
    schema: flag,
    fallback: { text: "false", value: false },
    meaning: "record what would be done beside another system that does it; change and publish nothing"
  }),
  backstop: setting({
    name: "KICKOFF_BACKSTOP",
    schema: duration("100 millis", "2 minutes"),
    fallback: { text: "60 seconds", value: Duration.seconds(60) },
    roles: ["status-transitions", "notifications", "outbox"],
    meaning: "longest time without looking at a table, whatever the notifications say"
  }),
  shutdownGrace: setting({
    name: "KICKOFF_SHUTDOWN_GRACE",
    schema: duration("100 millis", "10 minutes"),
    fallback: { text: "10 seconds", value: Duration.seconds(10) },
    meaning: "longest graceful stop; whoever stops the process should wait a little longer"
  }),
  maxAttempts: setting({
    name: "KICKOFF_MAX_ATTEMPTS",
    schema: integer(1, 1000),
    fallback: { text: "8", value: 8 },
    roles: ["status-transitions", "notifications", "outbox"],
    meaning: "tries of a row or event before it becomes a dead letter; the pause doubles from 0.5 s to at most 30 s"
  }),
  retention: setting({
    name: "KICKOFF_RETENTION",
    schema: duration("1 hour", "3650 days"),
    fallback: { text: "30 days", value: Duration.days(30) },
    roles: ["outbox"],
    meaning: "how long the record of what was done is kept, and how far back `verify` can look"
  }),
  logLevel: setting<(typeof logLevels)[number]>({
    name: "LOG_LEVEL",
    schema: oneOf(logLevels),
    fallback: { text: "info", value: "info" },
    meaning: "least severe level that is logged"
  }),
  logFormat: setting<Option.Option<(typeof logFormats)[number]>>({
    name: "LOG_FORMAT",
    schema: optional(oneOf(logFormats)),
    fallback: { text: "`pretty` on a terminal, else `json`", value: Option.none() },
    meaning: "for people, or one JSON object per line"
  }),
  otelDisabled: setting({
    name: "OTEL_SDK_DISABLED",
    schema: flag,
    fallback: { text: "false", value: false },
    meaning: "export no spans, whatever the variables below say"
  }),
  traceExporter: setting<(typeof traceExporters)[number]>({
    name: "OTEL_TRACES_EXPORTER",
    schema: oneOf(traceExporters),
    fallback: { text: "otlp", value: "otlp" },
    meaning: "`none` exports no spans"
  }),
  otlpEndpoint: setting({
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    secret: true,
    schema: collector,
    fallback: { text: "none: no spans are exported", value: Option.none() },
    meaning: "collector that takes OTLP over HTTP, like `http://localhost:4318`; spans go to `/v1/traces` below it"
  }),
  otlpTracesEndpoint: setting({
    name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    secret: true,
    schema: collector,
    fallback: { text: "`OTEL_EXPORTER_OTLP_ENDPOINT`", value: Option.none() },
    meaning: "whole URL that spans go to"
  }),
  otlpHeaders: setting({
    name: "OTEL_EXPORTER_OTLP_HEADERS",
    secret: true,
    schema: headers,
    fallback: { text: "none", value: Option.none() },
    meaning: "headers for the collector"
  }),
  otlpTracesHeaders: setting({
    name: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    secret: true,
    schema: headers,
    fallback: { text: "`OTEL_EXPORTER_OTLP_HEADERS`", value: Option.none() },
    meaning: otlpMeaning("it")
  }),
  otlpProtocol: setting<(typeof otlpProtocols)[number]>({
    name: "OTEL_EXPORTER_OTLP_PROTOCOL",
    schema: oneOf(otlpProtocols),
    // Writing protobuf takes Effect's exporter twice as long, and this process has games to start.
    fallback: { text: "http/json", value: "http/json" },
    meaning: "how spans are written; JSON is written in half the time"
  }),
  otlpTracesProtocol: setting<Option.Option<(typeof otlpProtocols)[number]>>({
    name: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    schema: optional(oneOf(otlpProtocols)),
    fallback: { text: "`OTEL_EXPORTER_OTLP_PROTOCOL`", value: Option.none() },
    meaning: otlpMeaning("it")
  }),
  otlpCompression: setting<(typeof otlpCompressions)[number]>({
    name: "OTEL_EXPORTER_OTLP_COMPRESSION",
    schema: oneOf(otlpCompressions),
    fallback: { text: "none", value: "none" },
    meaning: "how requests to the collector are compressed"
  }),
  otlpTracesCompression: setting<Option.Option<(typeof otlpCompressions)[number]>>({
    name: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    schema: optional(oneOf(otlpCompressions)),
    fallback: { text: "`OTEL_EXPORTER_OTLP_COMPRESSION`", value: Option.none() },
    meaning: otlpMeaning("it")
  }),
  otlpTimeout: setting({
    name: "OTEL_EXPORTER_OTLP_TIMEOUT",
    schema: milliseconds(600_000),
    fallback: { text: "10000", value: Duration.seconds(10) },
    meaning: "longest wait for the collector's answer, in milliseconds"
  }),
  otlpTracesTimeout: setting<Option.Option<Duration.Duration>>({
    name: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    schema: optional(milliseconds(600_000)),
    fallback: { text: "`OTEL_EXPORTER_OTLP_TIMEOUT`", value: Option.none() },
    meaning: otlpMeaning("it")
  }),
  otelServiceName: setting<Option.Option<string>>({
    name: "OTEL_SERVICE_NAME",
    schema: optional(text("a name", (name) => name.length <= 255)),
    fallback: { text: "`service.name` of `OTEL_RESOURCE_ATTRIBUTES`, else kickoff", value: Option.none() },
    meaning: "what this service is called in traces"
  }),
  otelResourceAttributes: setting({
    name: "OTEL_RESOURCE_ATTRIBUTES",
    schema: pairs("attributes like deployment.environment.name=production,host.name=a, percent-encoded", () => true),
    fallback: { text: "none", value: "" },
    meaning: "what else traces say of this process"
  }),
  traceSampler: setting<(typeof samplers)[number]>({
    name: "OTEL_TRACES_SAMPLER",
    schema: oneOf(samplers),
    fallback: { text: "parentbased_always_on", value: "parentbased_always_on" },
    meaning: "of which traces spans are exported; `parentbased_…` follows whoever has begun a trace"
  }),
  traceSamplerShare: setting({
    name: "OTEL_TRACES_SAMPLER_ARG",
    schema: share,
    fallback: { text: "1", value: 1 },
    meaning: "share of all traces for `traceidratio` and `parentbased_traceidratio`"
  }),
  spanDelay: setting({
    name: "OTEL_BSP_SCHEDULE_DELAY",
    schema: milliseconds(600_000),
    fallback: { text: "5000", value: Duration.seconds(5) },
    meaning: "how often spans are sent, in milliseconds"
  }),
  spanBatchSize: setting({
    name: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    schema: integer(1, 100_000),
    fallback: { text: "512", value: 512 },
    meaning: "most spans in one request; that many are sent at once"
  }),
  spanQueueSize: setting({
    name: "OTEL_BSP_MAX_QUEUE_SIZE",
    schema: integer(1, 1_000_000),
    // OpenTelemetry's 2048 is for work that comes evenly. Games start together, and have two spans each.
    fallback: { text: "16384", value: 16_384 },
    meaning: "most spans that wait for the collector; more are dropped"
  })
}

interface ToConfig extends Struct.Lambda {
  <A>(self: Setting<A>): Config.Config<A>
  readonly "~lambda.out": this["~lambda.in"] extends Setting<infer A> ? Config.Config<A> : never
}

const config = Config.all(
  Struct.map(
    settings,
    Struct.lambda<ToConfig>(({ config }) => config)
  )
).pipe(
  // There is nothing to relay in a shadow, nor to forget: nobody plays the role.
  Config.map((values) =>
    values.shadow ? { ...values, roles: values.roles.filter((role) => role !== "outbox") } : values
  )
)

type Values = Config.Success<typeof config>

/** The settings of this process, read once. */
export class Settings extends Context.Service<Settings, Values>()("kickoff/Settings") {
  /** Fails with a `ConfigError` that names the first bad variable. */
  static readonly layer = Layer.effect(Settings, config)

  /** Defaults with some values replaced, for tests and tools. */
  static readonly layerWith = (values: Partial<Values>) =>
    Layer.effect(
      Settings,
      Effect.map(config.parse(ConfigProvider.fromUnknown({})), (defaults) => ({ ...defaults, ...values })).pipe(
        Effect.orDie
      )
    )
}

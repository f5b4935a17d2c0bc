import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Duration, Effect, Layer, Option, Redacted } from "effect"
import {
  logFormats,
  logLevels,
  otlpCompressions,
  otlpProtocols,
  roles,
  samplers,
  Settings,
  settings,
  toPairs,
  traceExporters
} from "../src/Settings.ts"

type Environment = Readonly<Record<string, string>>

const read = (env: Environment) =>
  Effect.gen(function* () {
    return yield* Settings
  }).pipe(Effect.provide(Layer.provide(Settings.layer, ConfigProvider.layer(ConfigProvider.fromEnv({ env })))))

const defaults: Settings["Service"] = {
  databaseUrl: Option.none(),
  databaseListenUrl: Option.none(),
  databasePoolSize: 10,
  rabbitmqUrl: Option.none(),
  rabbitmqExchange: "kickoff.events",
  httpHost: "127.0.0.1",
  httpPort: 3000,
  apiKeysFile: Option.none(),
  apiKeys: Option.none(),
  rateLimit: 2000,
  roles: ["api", "status-transitions", "notifications", "outbox"],
  dataDir: ".kickoff",
  container: false,
  migrate: true,
  shadow: false,
  backstop: Duration.seconds(60),
  shutdownGrace: Duration.seconds(10),
  maxAttempts: 8,
  retention: Duration.days(30),
  logLevel: "info",
  logFormat: Option.none(),
  otelDisabled: false,
  traceExporter: "otlp",
  otlpEndpoint: Option.none(),
  otlpTracesEndpoint: Option.none(),
  otlpHeaders: Option.none(),
  otlpTracesHeaders: Option.none(),
  otlpProtocol: "http/json",
  otlpTracesProtocol: Option.none(),
  otlpCompression: "none",
  otlpTracesCompression: Option.none(),
  otlpTimeout: Duration.seconds(10),
  otlpTracesTimeout: Option.none(),
  otelServiceName: Option.none(),
  otelResourceAttributes: "",
  traceSampler: "parentbased_always_on",
  traceSamplerShare: 1,
  spanDelay: Duration.seconds(5),
  spanBatchSize: 512,
  spanQueueSize: 16_384
}

const names = Object.values(settings).map(({ name }) => name)

/** What is good, with what becomes of it, and what is refused. */
const cases: ReadonlyArray<{
  readonly name: string
  readonly member: keyof Settings["Service"]
  readonly good: ReadonlyArray<readonly [text: string, value: unknown]>
  readonly bad: ReadonlyArray<string>
}> = [
  {
    name: "DATABASE_POOL_SIZE",
    member: "databasePoolSize",
    good: [
      ["2", 2],
      [" 25 ", 25],
      ["1000", 1000]
    ],
    bad: ["0", "1", "-3", "2.5", "ten", "1e2", "0x10", "1001", "99999999999999999999"]
  },
  {
    name: "RABBITMQ_EXCHANGE",
    member: "rabbitmqExchange",
    good: [
      ["games", "games"],
      ["a.b-c_d:e", "a.b-c_d:e"]
    ],
    bad: ["with space", "amq.topic", "x".repeat(128), "ünicode"]
  },
  {
    name: "HTTP_HOST",
    member: "httpHost",
    good: [
      ["0.0.0.0", "0.0.0.0"],
      ["::", "::"],
      ["kickoff.example", "kickoff.example"]
    ],
    bad: ["two words", "http://localhost", "a/b"]
  },
  {
    name: "HTTP_PORT",
    member: "httpPort",
    good: [
      ["0", 0],
      ["8080", 8080],
      ["65535", 65_535]
    ],
    bad: ["-1", "65536", "http", "80.5"]
  },
  {
    name: "KICKOFF_API_KEYS_FILE",
    member: "apiKeysFile",
    good: [["/etc/kickoff/keys.json", Option.some("/etc/kickoff/keys.json")]],
    bad: ["a\0b"]
  },
  {
    name: "KICKOFF_RATE_LIMIT",
    member: "rateLimit",
    good: [
      ["1", 1],
      ["1000000", 1_000_000]
    ],
    bad: ["0", "-1", "1000001", "1/s", "none"]
  },
  {
    name: "KICKOFF_ROLES",
    member: "roles",
    good: [
      ["api", ["api"]],
      ["outbox, notifications", ["outbox", "notifications"]],
      ["api,api", ["api"]],
      [roles.join(","), roles]
    ],
    bad: ["all", "api,", ",", "api;outbox", "API", "worker"]
  },
  {
    name: "KICKOFF_DATA_DIR",
    member: "dataDir",
    good: [["/var/lib/kickoff", "/var/lib/kickoff"]],
    bad: ["a\0b"]
  },
  {
    name: "KICKOFF_CONTAINER",
    member: "container",
    good: [
      ["true", true],
      ["TRUE", true],
      ["false", false],
      ["False", false]
    ],
    bad: ["yes", "1", "0", "on", "truee"]
  },
  {
    name: "KICKOFF_MIGRATE",
    member: "migrate",
    good: [
      ["true", true],
      ["TRUE", true],
      ["false", false],
      ["False", false]
    ],
    bad: ["yes", "1", "0", "on", "truee"]
  },
  {
    name: "KICKOFF_SHADOW",
    member: "shadow",
    good: [
      ["true", true],
      ["TRUE", true],
      ["false", false]
    ],
    bad: ["yes", "1", "shadow"]
  },
  {
    name: "KICKOFF_BACKSTOP",
    member: "backstop",
    good: [
      ["2 minutes", Duration.minutes(2)],
      ["120 seconds", Duration.minutes(2)],
      ["1 second", Duration.seconds(1)],
      ["100 millis", Duration.millis(100)],
      ["1.5 seconds", Duration.millis(1500)]
    ],
    bad: ["121 seconds", "3 minutes", "120001 millis", "1 day", "0 seconds", "99 millis", "60", "1m", "-1 second", "∞"]
  },
  {
    name: "KICKOFF_RETENTION",
    member: "retention",
    good: [
      ["7 days", Duration.days(7)],
      ["1 hour", Duration.hours(1)]
    ],
    bad: ["1 minute", "forever", "30"]
  },
  {
    name: "KICKOFF_SHUTDOWN_GRACE",
    member: "shutdownGrace",
    good: [["30 seconds", Duration.seconds(30)]],
    bad: ["0 seconds", "1 hour", "10", "soon"]
  },
  {
    name: "KICKOFF_MAX_ATTEMPTS",
    member: "maxAttempts",
    good: [
      ["1", 1],
      ["1000", 1000]
    ],
    bad: ["0", "-1", "1001", "many"]
  },
  {
    name: "LOG_LEVEL",
    member: "logLevel",
    good: logLevels.flatMap((level) => [
      [level, level],
      [level.toUpperCase(), level],
      [`${level.slice(0, 1).toUpperCase()}${level.slice(1)}`, level]
    ]),
    bad: ["verbose", "warning", "3"]
  },
  {
    name: "LOG_FORMAT",
    member: "logFormat",
    good: logFormats.flatMap((format) => [
      [format, Option.some(format)],
      [format.toUpperCase(), Option.some(format)]
    ]),
    bad: ["xml", "text"]
  },
  {
    name: "OTEL_SDK_DISABLED",
    member: "otelDisabled",
    good: [
      ["true", true],
      ["False", false]
    ],
    bad: ["yes", "1"]
  },
  {
    name: "OTEL_TRACES_EXPORTER",
    member: "traceExporter",
    good: traceExporters.map((exporter) => [exporter, exporter]),
    bad: ["zipkin", "otlp,console"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_PROTOCOL",
    member: "otlpProtocol",
    good: otlpProtocols.map((protocol) => [protocol, protocol]),
    bad: ["grpc", "http"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    member: "otlpTracesProtocol",
    good: otlpProtocols.map((protocol) => [protocol, Option.some(protocol)]),
    bad: ["grpc", "http"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_COMPRESSION",
    member: "otlpCompression",
    good: otlpCompressions.map((compression) => [compression, compression]),
    bad: ["zstd", "true"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    member: "otlpTracesCompression",
    good: otlpCompressions.map((compression) => [compression, Option.some(compression)]),
    bad: ["zstd", "true"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_TIMEOUT",
    member: "otlpTimeout",
    good: [["1500", Duration.millis(1500)]],
    bad: ["0", "10s", "1.5", "600001"]
  },
  {
    name: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    member: "otlpTracesTimeout",
    good: [["1500", Option.some(Duration.millis(1500))]],
    bad: ["0", "10s", "1.5", "600001"]
  },
  {
    name: "OTEL_SERVICE_NAME",
    member: "otelServiceName",
    good: [["clock of games", Option.some("clock of games")]],
    bad: ["x".repeat(256)]
  },
  {
    name: "OTEL_RESOURCE_ATTRIBUTES",
    member: "otelResourceAttributes",
    good: [["deployment.environment.name=a%20b, host.name=c", "deployment.environment.name=a%20b, host.name=c"]],
    bad: ["production", "=a", "a=%zz"]
  },
  {
    name: "OTEL_TRACES_SAMPLER",
    member: "traceSampler",
    good: samplers.map((sampler) => [sampler, sampler]),
    bad: ["jaeger_remote", "always"]
  },
  {
    name: "OTEL_TRACES_SAMPLER_ARG",
    member: "traceSamplerShare",
    good: [
      ["0", 0],
      ["1", 1],
      ["1.0", 1],
      ["0.25", 0.25],
      [".5", 0.5]
    ],
    bad: ["2", "1.1", "-0.5", "25%", "1e-3", "half"]
  },
  {
    name: "OTEL_BSP_SCHEDULE_DELAY",
    member: "spanDelay",
    good: [["100", Duration.millis(100)]],
    bad: ["0", "5s", "600001"]
  },
  {
    name: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    member: "spanBatchSize",
    good: [["1", 1]],
    bad: ["0", "100001", "all"]
  },
  {
    name: "OTEL_BSP_MAX_QUEUE_SIZE",
    member: "spanQueueSize",
    good: [["1000000", 1_000_000]],
    bad: ["0", "1000001", "all"]
  }
]

const addresses = [
  {
    name: "DATABASE_URL",
    member: "databaseUrl",
    good: [
      "postgres://kickoff:s3cret@db:5432/kickoff",
      "postgresql://db/kickoff?sslmode=require",
      "postgres://kickoff:s3cret%25%40@localhost/kickoff?host=/var/run/postgresql&port=5433&connect_timeout=10"
    ],
    bad: [
      "db:5432",
      "mysql://kickoff:s3cret@db/kickoff",
      "postgres//kickoff:s3cret@db",
      "postgres:kickoff:s3cret@db",
      "kickoff:s3cret@db",
      "s3cret",
      "postgres://kickoff:s3cret%zz@db/kickoff",
      "postgres://kick%off:s3cret@db/kickoff",
      "postgres://kickoff:s3cret@db/%kickoff",
      "postgres://kickoff:s3cret@db/kickoff?port=65536",
      "postgres://kickoff:s3cret@db/kickoff?connect_timeout=soon",
      "postgres://kickoff:s3cret@db/kickoff?sslmode=required",
      "postgres://kickoff:s3cret@db/kickoff?sslmode=prefer",
      "postgres://kickoff:s3cret@db/kickoff?sslmode=verify-ca"
    ]
  },
  {
    name: "DATABASE_LISTEN_URL",
    member: "databaseListenUrl",
    good: ["postgres://kickoff:s3cret@db:5432/kickoff"],
    bad: ["https://kickoff:s3cret@db/kickoff", "s3cret"]
  },
  {
    name: "RABBITMQ_URL",
    member: "rabbitmqUrl",
    good: ["amqp://kickoff:s3cret@broker", "amqps://kickoff:s3cret@broker:5671/vhost?heartbeat=10"],
    bad: [
      "http://kickoff:s3cret@broker",
      "broker:5672",
      "amqp:broker",
      "s3cret",
      "amqp://kickoff:s3cret%zz@broker",
      "amqps://kickoff:s3cret@broker?verify=verify_none"
    ]
  },
  ...(["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] as const).map((name, index) => ({
    name,
    member: index === 0 ? ("otlpEndpoint" as const) : ("otlpTracesEndpoint" as const),
    good: ["http://localhost:4318", "https://collector.example/otlp?key=s3cret"],
    bad: ["localhost:4318", "grpc://collector/s3cret", "https://kickoff:s3cret@collector", "http://s3cret@collector"]
  })),
  ...(["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] as const).map((name, index) => ({
    name,
    member: index === 0 ? ("otlpHeaders" as const) : ("otlpTracesHeaders" as const),
    good: ["authorization=Bearer%20s3cret", "x-tenant=a,x-key=s3cret,"],
    bad: ["s3cret", "=s3cret", "x-key=s3cret%zz", "x key=s3cret", "x-key=s3cret%0a", "x-key=s3crèt"]
  })),
  // Any text will do here: whoever uses the keys reads them.
  { name: "KICKOFF_API_KEYS", member: "apiKeys", good: ['[{"name":"s3cret"}]'], bad: [] }
] as const

describe("the settings", () => {
  it.effect("are the defaults when nothing is set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read({}), defaults)
    })
  )

  it.effect("are the defaults when every variable is empty or blank", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read(Object.fromEntries(names.map((name) => [name, ""]))), defaults)
      assert.deepStrictEqual(yield* read(Object.fromEntries(names.map((name) => [name, "  "]))), defaults)
    })
  )

  it("are these variables, each with its meaning and its default in words", () => {
    assert.sameMembers(names, [...cases.map(({ name }) => name), ...addresses.map(({ name }) => name)])
    for (const { fallback, meaning } of Object.values(settings)) {
      assert.isNotEmpty(fallback)
      assert.isNotEmpty(meaning)
    }
  })

  for (const { bad, good, member, name } of cases) {
    it.effect(`${name} is read in every spelling it may have`, () =>
      Effect.gen(function* () {
        for (const [text, value] of good) assert.deepStrictEqual((yield* read({ [name]: text }))[member], value, text)
      })
    )

    it.effect.each(bad)(`${name} is refused by its name when it is %j`, (text) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(read({ [name]: text }))
        assert.strictEqual(error._tag, "ConfigError")
        assert.include(error.message, name)
        assert.include(error.message, "Expected ")
      })
    )
  }

  for (const { bad, good, member, name } of addresses) {
    it.effect(`${name} is kept redacted`, () =>
      Effect.gen(function* () {
        for (const text of good) {
          const values = yield* read({ [name]: text })
          assert.deepStrictEqual(Option.map(values[member], Redacted.value), Option.some(text))
          for (const shown of [JSON.stringify(values), String(values[member])]) {
            assert.notInclude(shown, "s3cret")
            assert.notInclude(shown, text)
          }
        }
      })
    )

    it.effect.each(bad)(
      `${name} is refused by its name, and never shown, when it is no address of its kind: %#`,
      (text) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(read({ [name]: text }))
          assert.include(error.message, name)
          assert.include(error.message, "Expected ")
          for (const shown of [error.message, String(error), JSON.stringify(error)]) {
            assert.notInclude(shown, text)
            assert.notInclude(shown, "s3cret")
          }
        })
    )
  }

  it("read pairs as OpenTelemetry writes them: percent-encoded, with commas between them", () => {
    assert.deepStrictEqual(
      toPairs(" authorization = Bearer%20a%3D%2C , x-empty=,,y=a=b"),
      Option.some({ authorization: "Bearer a=,", "x-empty": "", y: "a=b" })
    )
    assert.deepStrictEqual(toPairs(""), Option.some({}))
    assert.deepStrictEqual(toPairs("a"), Option.none())
  })

  it.effect("of a shadow have no role that would relay", () =>
    Effect.gen(function* () {
      const all = yield* read({ KICKOFF_SHADOW: "true" })
      assert.deepStrictEqual(all.roles, ["api", "status-transitions", "notifications"])
      assert.deepStrictEqual((yield* read({ KICKOFF_SHADOW: "true", KICKOFF_ROLES: "outbox" })).roles, [])
      assert.deepStrictEqual((yield* read({ KICKOFF_SHADOW: "false" })).roles, roles)
    })
  )

  it.effect("name one bad variable also when another is good", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read({ DATABASE_URL: "postgres://kickoff:s3cret@db/x", HTTP_PORT: "http" }))
      assert.include(error.message, "HTTP_PORT")
      assert.notInclude(error.message, "s3cret")
    })
  )

  it.effect("of a test are the defaults but for what it names", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(Settings.layerWith({ maxAttempts: 2 }))
      const values = Context.get(context, Settings)
      assert.deepStrictEqual(values, { ...defaults, maxAttempts: 2 })
    })
  )
})

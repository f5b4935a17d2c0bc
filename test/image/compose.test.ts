import { assert, describe, it, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"
import packageJson from "../../package.json" with { type: "json" }
import { Database } from "../../src/postgres/Database.ts"
import { roles } from "../../src/Settings.ts"
import { consumeExchange, readEvent } from "../messaging/consumer.ts"
import { run } from "../support/commands.ts"
import { eventually } from "../support/games.ts"
import { freePort, type Service } from "../support/service.ts"
import {
  composeText,
  dockerCompose,
  inSeconds,
  repository,
  type ResolvedService,
  resolve,
  written
} from "./composeFile.ts"
import { checkHealth, type ContainerOptions, runContainer, startServing, statusOf } from "./container.ts"
import { Servers } from "./servers.ts"

const read = (file: string) => readFileSync(join(repository, file), "utf8")

/** The shell commands of the quickstart, block by block. */
const quickstart = [...read("docs/DEPLOYMENT_QUICKSTART.md").matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(
  ([, block]) => block ?? ""
)

/** The block of the quickstart that has a text in it. */
const blockWith = (text: string): string => {
  const [block, ...others] = quickstart.filter((candidate) => candidate.includes(text))
  if (block === undefined || others.length > 0) throw new Error(`the quickstart has not exactly one block with ${text}`)
  return block
}

/** The variables of a file in the format of `.env`. */
const variables = (file: string): ReadonlyMap<string, string> =>
  new Map([...readFileSync(file, "utf8").matchAll(/^(\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]))

/** A folder with the `.env` that the quickstart's command makes. */
const makeEnvFile = Effect.map(
  Effect.acquireRelease(
    Effect.promise(async () => {
      const folder = mkdtempSync(join(tmpdir(), "kickoff-compose-"))
      await run("/bin/sh", ["-euc", blockWith("> .env")], { cwd: folder })
      return folder
    }),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  ),
  (folder) => join(folder, ".env")
)

const names = Object.keys(written.services)
const ours = ["migrate", "api", "status-transition-daemon", "notification-daemon"]
const serving = ours.slice(1)
/** What runs to its end. */
const passing = new Set(["migrate", "keys"])
const service = (name: string) => {
  const found = written.services[name]
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`)
  return found
}

describe("docker-compose.yml", () => {
  it("has the services of the stack, and those that watch it in a profile of their own", () => {
    assert.sameMembers(
      names.filter((name) => service(name).profiles === undefined),
      ["db", "rabbitmq", ...ours]
    )
    assert.sameMembers(
      names.filter((name) => service(name).profiles?.join(",") === "monitoring"),
      ["prometheus", "grafana"]
    )
    assert.sameMembers(
      names.filter((name) => service(name).profiles?.join(",") === "tools"),
      ["keys"]
    )
  })

  it.live("is refused without passwords, with a message that names the variable's cure", () =>
    Effect.promise(async () => {
      const refused = await dockerCompose(join(repository, ".env.example"), "config").then(
        () => "accepted",
        (error: unknown) => String(error)
      )
      assert.include(refused, "make .env first, see docs/DEPLOYMENT_QUICKSTART.md")
    })
  )

  it.live("is accepted with the .env that the quickstart's command makes, which only its owner may read", () =>
    Effect.gen(function* () {
      const envFile = yield* makeEnvFile
      assert.strictEqual(statSync(envFile).mode & 0o777, 0o600)
      const services = yield* Effect.promise(() => resolve(envFile))
      assert.sameMembers(Object.keys(services), names)
      const passwords = [...variables(envFile).values()]
      assert.strictEqual(new Set(passwords).size, 3)
      for (const password of passwords) assert.match(password, /^[0-9a-f]{48}$/)
    }).pipe(Effect.scoped)
  )

  it("has no password in it, and none by default", () => {
    const secrets = [...composeText.matchAll(/\$\{(\w*(?:PASSWORD|SECRET|TOKEN)\w*)([^}]*)\}/g)]
    assert.isNotEmpty(secrets)
    for (const [text, , fallback = ""] of secrets) assert.match(fallback, /^:\?/, text)
    for (const name of names) {
      for (const [variable, value] of Object.entries(service(name).environment ?? {})) {
        if (/PASS|SECRET/.test(variable)) assert.match(value, /^\$\{\w+:\?[^}]+\}$/, `${name}: ${variable}`)
        if (variable.endsWith("_URL")) assert.match(value, /:\/\/kickoff:\$\{\w+:\?[^}]+\}@/, `${name}: ${variable}`)
      }
    }
  })

  it("reads the variables that .env.example lists, and no others", () => {
    const used = new Set([...composeText.matchAll(/\$\{(\w+)/g)].map(([, name]) => name))
    assert.sameMembers([...variables(join(repository, ".env.example")).keys()], [...used])
  })

  it.live("gives what .env says of traces to each process that serves, and no endpoint without it", () =>
    Effect.gen(function* () {
      const envFile = yield* makeEnvFile
      const traces = {
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20token",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=production",
        OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG: "0.25"
      }
      const without = yield* Effect.promise(() => resolve(envFile))
      for (const name of serving) assert.include(without[name]?.environment, { OTEL_EXPORTER_OTLP_ENDPOINT: "" })
      const lines = Object.entries(traces).map(([variable, value]) => `${variable}=${value}\n`)
      appendFileSync(envFile, lines.join(""))
      const services = yield* Effect.promise(() => resolve(envFile))
      for (const name of serving) assert.include(services[name]?.environment, traces)
    }).pipe(Effect.scoped)
  )

  it("gives each service the secrets that it needs and no other", () => {
    const holders = (secret: string) =>
      names.filter((name) => JSON.stringify(service(name).environment ?? {}).includes(secret))
    assert.sameMembers(holders("POSTGRES_PASSWORD"), ["db", ...ours])
    assert.sameMembers(holders("RABBITMQ_PASSWORD"), ["rabbitmq", "status-transition-daemon", "notification-daemon"])
    assert.sameMembers(holders("GRAFANA_PASSWORD"), ["grafana"])
    assert.sameMembers(holders("OTEL_EXPORTER_OTLP_HEADERS"), ours)
  })

  it("pins every image to a release, and its own to the version of the package", () => {
    for (const name of names) assert.match(service(name).image, /:v?\d+\.\d+(\.\d+)?(-\w+)?$/, name)
    for (const name of [...ours, "keys"]) assert.strictEqual(service(name).image, `kickoff:${packageJson.version}`)
  })

  it("publishes the API alone, and Grafana where it is watched, both to this machine alone", () => {
    const published = names.flatMap((name) => (service(name).ports ?? []).map((port) => `${name} ${port}`))
    assert.sameMembers(published, [
      "api 127.0.0.1:${HTTP_PORT:-3000}:3000",
      "grafana 127.0.0.1:${GRAFANA_PORT:-3001}:3000"
    ])
    assert.strictEqual(written.networks["backend"]?.internal, true)
    assert.sameMembers(
      names.filter((name) => service(name).networks.some((network) => network !== "backend")),
      ["api", "grafana"]
    )
  })

  it("takes every capability and every way to gain one, and bounds memory, processors and processes", () => {
    for (const name of names) {
      const { cap_add, cap_drop, deploy, pids_limit, privileged, security_opt } = service(name)
      assert.deepStrictEqual(
        { cap_add, cap_drop, privileged },
        { cap_add: undefined, cap_drop: ["ALL"], privileged: undefined }
      )
      assert.deepStrictEqual(security_opt, ["no-new-privileges:true"], name)
      assert.match(deploy.resources.limits.memory, /^\d+[MG]$/, name)
      assert.isAtLeast(Number(deploy.resources.limits.cpus), 1, name)
      assert.isAtLeast(pids_limit, 64, name)
    }
  })

  it("runs every root read-only but the broker's, and nothing as root", () => {
    assert.sameMembers(
      names.filter((name) => service(name).read_only !== true),
      ["rabbitmq"]
    )
    // The images of Prometheus and Grafana have users of their own, ours too: the tests of the image see to that.
    assert.deepStrictEqual([service("db").user, service("rabbitmq").user], ["postgres", "rabbitmq"])
    for (const name of [...ours, "keys", "prometheus", "grafana"]) assert.isUndefined(service(name).user, name)
  })

  it("mounts what is in the repository", () => {
    const mounted = names.flatMap((name) => service(name).volumes ?? []).filter((volume) => volume.startsWith("./"))
    assert.lengthOf(mounted, 3)
    for (const volume of mounted) {
      const [folder = ""] = volume.split(":")
      assert.isTrue(existsSync(join(repository, folder)), folder)
      assert.match(volume, /:ro$/)
    }
  })

  it.live("starts in order: servers, then migrations to their end, then what needs them", () =>
    Effect.gen(function* () {
      const envFile = yield* makeEnvFile
      const services = yield* Effect.promise(() => resolve(envFile))
      const conditions = (name: string) =>
        Object.fromEntries(
          Object.entries(services[name]?.depends_on ?? {}).map(([needed, { condition }]) => [needed, condition])
        )
      const [healthy, done] = ["service_healthy", "service_completed_successfully"]
      assert.deepStrictEqual(conditions("migrate"), { db: healthy })
      assert.deepStrictEqual(conditions("api"), { db: healthy, migrate: done })
      for (const name of ["status-transition-daemon", "notification-daemon"]) {
        assert.deepStrictEqual(conditions(name), { db: healthy, migrate: done, rabbitmq: healthy })
      }
    }).pipe(Effect.scoped)
  )

  it.live("restarts everything but the migrations, which nothing restarts with their dependents", () =>
    Effect.gen(function* () {
      for (const name of names) assert.strictEqual(service(name).restart, passing.has(name) ? "no" : "unless-stopped")
      // A service that comes back by itself applies nothing.
      const envFile = yield* makeEnvFile
      const resolved = yield* Effect.promise(() => resolve(envFile))
      for (const name of serving) assert.strictEqual(resolved[name]?.environment?.["KICKOFF_MIGRATE"], "false")
    }).pipe(Effect.scoped)
  )

  it.live("checks the health of everything that stays, in exec form, and ours as the image does", () =>
    Effect.gen(function* () {
      const envFile = yield* makeEnvFile
      const services = yield* Effect.promise(() => resolve(envFile))
      for (const [name, { healthcheck }] of Object.entries(services)) {
        const { disable, interval = "", test = [], timeout = "" } = healthcheck
        if (passing.has(name)) assert.isTrue(disable === true || test[0] === "NONE")
        else {
          assert.strictEqual(test[0], "CMD", name)
          assert.isAtLeast(inSeconds(interval), inSeconds(timeout), name)
        }
        if (serving.includes(name)) assert.deepStrictEqual(test, inject("image").config.Healthcheck.Test)
      }
    }).pipe(Effect.scoped)
  )

  it.live("gives every process of Kickoff longer to stop than it takes itself", () =>
    Effect.gen(function* () {
      const envFile = yield* makeEnvFile
      const services = yield* Effect.promise(() => resolve(envFile))
      for (const name of ours) {
        const [, grace = ""] =
          /^(\d+) seconds$/.exec(services[name]?.environment?.["KICKOFF_SHUTDOWN_GRACE"] ?? "") ?? []
        assert.isAbove(inSeconds(services[name]?.stop_grace_period ?? ""), Number(grace), name)
      }
    }).pipe(Effect.scoped)
  )
})

/** The services of docker-compose.yml, replayed on this machine: same image, command and environment, other addresses. */
class Stack extends Context.Service<
  Stack,
  {
    readonly services: Readonly<Record<string, ResolvedService>>
    /** The environment of a service, with the addresses of the servers at hand and a port of its own. */
    readonly environment: (name: string) => Readonly<Record<string, string>>
    /** The named volumes of a service, as folders of this machine. */
    readonly volumes: (name: string) => NonNullable<ContainerOptions["volumes"]>
    /** The API key that the quickstart makes. */
    readonly key: string
    readonly running: Readonly<Record<string, Service>>
    readonly rabbitmqUrl: string
    /** Runs `migrate` once more. */
    readonly migrate: Effect.Effect<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>
    /** Whether the service is healthy by its own health check, and what it said. */
    readonly health: (name: string) => Effect.Effect<{ readonly code: number | null; readonly said: string }>
  }
>()("kickoff/test/image/Stack") {
  static readonly layer = Layer.effect(
    Stack,
    Effect.gen(function* () {
      const { broker, postgres } = yield* Servers
      const envFile = yield* makeEnvFile
      const services = yield* Effect.promise(() => resolve(envFile))

      // What the images of PostgreSQL and RabbitMQ make of their environment.
      const database = services["db"]?.environment ?? {}
      const { RABBITMQ_DEFAULT_PASS = "", RABBITMQ_DEFAULT_USER = "" } = services["rabbitmq"]?.environment ?? {}
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`CREATE DATABASE ${database["POSTGRES_DB"]}`)
        yield* sql.unsafe(`ALTER ROLE ${database["POSTGRES_USER"]} PASSWORD '${database["POSTGRES_PASSWORD"]}'`)
      }).pipe(Effect.provide(Database.layer({ url: Redacted.make(postgres.url), connections: 1, name: "test-setup" })))
      yield* Effect.promise(async () => {
        await broker.ctl("add_user", RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS)
        await broker.ctl("set_permissions", RABBITMQ_DEFAULT_USER, ".*", ".*", ".*")
      })

      // A new volume has the owner and mode of the image's folder in whose place it is mounted.
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-volumes-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      const volumes = (name: string) =>
        Object.fromEntries(
          (service(name).volumes ?? []).map((volume) => {
            const [source = "", target = "", access = "rw"] = volume.split(":")
            const path = join(folder, source)
            if (!existsSync(path)) {
              const { gid, mode, uid } = statSync(join(inject("image").root, target))
              mkdirSync(path)
              chmodSync(path, mode)
              chownSync(path, uid, gid)
            }
            return [target, { source: path, writable: access === "rw" }] as const
          })
        )

      const ports = new Map<string, string>()
      for (const name of ours) ports.set(name, String(yield* freePort))
      const environment = (name: string): Readonly<Record<string, string>> => ({
        ...Object.fromEntries(
          Object.entries(services[name]?.environment ?? {}).map(([variable, value]) => [
            variable,
            value
              .replace("@db:5432/", `@${new URL(postgres.url).host}/`)
              .replace("@rabbitmq:5672", `@${broker.host}:${broker.port}`)
          ])
        ),
        HTTP_PORT: ports.get(name) ?? ""
      })
      const command = (name: string) => services[name]?.command ?? []
      const migrate = runContainer({ command: command("migrate"), env: environment("migrate") })

      const first = yield* migrate
      assert.deepInclude(first, { code: 0, stderr: "" })
      assert.match(first.stdout, /^(Applied \d{4}_\w+\n)+$/)
      const made = yield* runContainer({
        entrypoint: services["keys"]?.entrypoint ?? [],
        command: /run --rm -T keys ([^)]+)\)/.exec(blockWith("KEY="))?.[1]?.split(" ") ?? [],
        env: environment("keys"),
        volumes: volumes("keys")
      })
      assert.strictEqual(made.code, 0, made.stderr)
      const key = made.stdout.trim()
      const start = (name: string) =>
        startServing(
          { command: command(name), env: environment(name), volumes: volumes(name) },
          { authorization: `Bearer ${key}` }
        )
      const running = yield* Effect.all(Object.fromEntries(serving.map((name) => [name, start(name)])), {
        concurrency: "unbounded"
      })
      return {
        services,
        environment,
        volumes,
        key,
        running,
        rabbitmqUrl: environment("notification-daemon")["RABBITMQ_URL"] ?? "",
        migrate,
        health: (name) =>
          Effect.map(
            checkHealth(services[name]?.healthcheck.test ?? [], environment(name)),
            ({ code, stdout, stderr }) => ({ code, said: `${stdout}${stderr}` })
          )
      }
    })
  ).pipe(Layer.provideMerge(Servers.layer))
}

const get = (stack: Stack["Service"], name: string): Service => {
  const found = stack.running[name]
  if (found === undefined) throw new Error(`${name} does not run`)
  return found
}

/** Plans a game through the API; answers its id. */
const plan = (stack: Stack["Service"], startsInMs: number, fields: Readonly<Record<string, unknown>> = {}) =>
  Effect.gen(function* () {
    const scheduled_at = new Date((yield* Clock.currentTimeMillis) + startsInMs).toISOString()
    const body = { guild_id: "guild", title: "Friday raid", scheduled_at, reminder_minutes: [], ...fields }
    const response = yield* get(stack, "api").post("/v1/games", body)
    assert.strictEqual(response.status, 201)
    // What the contract says of a game; the tests of the API check all of it.
    const { id } = (yield* Effect.promise(() => response.json())) as { readonly id: string }
    return id
  })

layer(Stack.layer, { excludeTestServices: true, timeout: 300_000 })("the stack of docker-compose.yml", (it) => {
  it.effect("has every role in it, the relay's twice so that one stands by", () =>
    Effect.gen(function* () {
      const { running } = yield* Stack
      const played = Object.values(running).flatMap(
        ({ stdout }) => / plays ([\w, -]+)/.exec(stdout())?.[1]?.split(", ") ?? []
      )
      assert.sameMembers(played, [...roles, "outbox"])
    })
  )

  it.effect("keeps the API's keys as hashes, which the API's service may read and not change", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const [[, { source, writable }] = ["", { source: "", writable: true }]] = Object.entries(stack.volumes("api"))
      assert.isFalse(writable)
      const list = readFileSync(join(source, "api-keys.json"), "utf8")
      assert.include(list, "sha256:")
      assert.notInclude(list, stack.key)
      const withoutKey = yield* Effect.promise(() => fetch(`${get(stack, "api").url}/v1/games`))
      assert.strictEqual(withoutKey.status, 401)
    })
  )

  it.effect("is healthy by its own health checks", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      for (const name of serving) {
        const { code, said } = yield* eventually(stack.health(name), ({ said }) => said.startsWith("ok ("))
        assert.strictEqual(code, 0, `${name}: ${said}`)
      }
    })
  )

  it.effect("takes another run of its migrations while it works", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const again = yield* stack.migrate
      assert.deepInclude(again, { code: 0, stderr: "", stdout: "Nothing to apply, the schema is up to date\n" })
    })
  )

  it.effect("plans, starts and completes a game and reminds of it, each by the service whose work it is", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const messages = yield* consumeExchange(stack.rabbitmqUrl, "kickoff.events")
      // The reminder, a minute before the start, is due in a second.
      const reminded = yield* plan(stack, 61_000, { reminder_minutes: [1] })
      const played = yield* plan(stack, 1000, { expected_duration_minutes: 0 })
      const wanted = new Set([
        `game.created ${reminded}`,
        `game.reminder_due ${reminded}`,
        `game.created ${played}`,
        `game.started ${played}`,
        `game.completed ${played}`
      ])
      while (wanted.size > 0) {
        const { subject, type } = readEvent(yield* Queue.take(messages))
        assert.isTrue(wanted.delete(`${type} ${subject}`), `${type} came once`)
      }
    })
  )

  it.effect("runs every command of the quickstart's table, in the service that it names", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const commands = [
        ...read("docs/DEPLOYMENT_QUICKSTART.md").matchAll(/`docker compose exec (\S+) kickoff ([^`]+)`/g)
      ]
      assert.isAtLeast(commands.length, 4)
      for (const [text, name = "", args = ""] of commands) {
        const { code, stderr } = yield* runContainer({
          entrypoint: ["/bin/sh", "-c"],
          command: [`exec kickoff ${args}`],
          env: stack.environment(name),
          volumes: stack.volumes(name)
        })
        assert.strictEqual(code, 0, `${text}: ${stderr}`)
      }
    })
  )

  it.effect("plans and shows the first game as the quickstart does", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const here = (block: string) =>
        block
          .replaceAll("http://127.0.0.1:3000", get(stack, "api").url)
          .replaceAll(/docker compose exec -T api /g, "")
          .replaceAll(/^docker compose exec rabbitmq .*$/gm, "")
      const sh = (block: string) =>
        Effect.promise(() => run("/bin/sh", ["-euc", here(block)], { env: { ...process.env, KEY: stack.key } }))
      const planned: { readonly id: string; readonly status: string } = JSON.parse(yield* sh(blockWith("-X POST")))
      assert.strictEqual(planned.status, "SCHEDULED")
      yield* eventually(sh(blockWith("status=IN_PROGRESS")), (answer) => answer.includes(planned.id))
      const { broker } = yield* Servers
      assert.match(blockWith("list_queues"), /rabbitmqctl --quiet list_queues name messages\n/)
      yield* eventually(
        Effect.promise(() => broker.ctl("list_queues", "name", "messages")),
        (queues) => Number(/^kickoff\.unrouted\s+(\d+)$/m.exec(queues)?.[1]) >= 2
      )
    })
  )

  it.effect("stays far below its limits of memory and processes", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      for (const name of serving) {
        const { deploy, pids_limit } = service(name)
        const limit = Number(/^(\d+)M$/.exec(deploy.resources.limits.memory)?.[1]) * 1024
        const status = statusOf(get(stack, name))
        const figure = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1])
        assert.isBelow(figure("VmHWM"), limit / 2, name)
        assert.isBelow(figure("Threads"), pids_limit / 2, name)
      }
    })
  )

  it.effect("becomes unhealthy while the database is away, and healthy again by itself", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const { postgres } = yield* Servers
      yield* Effect.promise(() => postgres.halt())
      for (const name of serving) {
        const { code } = yield* eventually(stack.health(name), ({ said }) => said.includes("database away"))
        assert.strictEqual(code, 1, name)
      }
      yield* Effect.promise(() => postgres.resume())
      for (const name of serving) yield* eventually(stack.health(name), ({ code }) => code === 0)
    })
  )

  it.effect("relays on when the daemon that relays is killed", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const messages = yield* consumeExchange(stack.rabbitmqUrl, "kickoff.events")
      const relays = Effect.fnUntraced(function* (name: string) {
        const response = yield* get(stack, name).get("/metrics")
        return /^kickoff_relay_leader(\{[^}]*\})? 1$/m.test(yield* Effect.promise(() => response.text()))
      })
      const daemons = ["status-transition-daemon", "notification-daemon"]
      const [relay = ""] = yield* eventually(Effect.filter(daemons, relays), (found) => found.length === 1)
      yield* get(stack, relay).crash
      const id = yield* plan(stack, 60_000)
      while (readEvent(yield* Queue.take(messages)).subject !== id) continue
      const standby = daemons.filter((name) => name !== relay)
      assert.deepStrictEqual(yield* Effect.filter(standby, relays), standby)
    })
  )

  it.effect("stops in good order within the time that it is given", () =>
    Effect.gen(function* () {
      const stack = yield* Stack
      const left = serving.filter((name) => {
        const { exitCode, signalCode } = get(stack, name).child
        return exitCode === null && signalCode === null
      })
      assert.lengthOf(left, 2)
      for (const name of left) {
        const began = yield* Clock.currentTimeMillis
        const { code, signal } = yield* get(stack, name).stop
        assert.deepStrictEqual({ code, signal }, { code: 0, signal: null }, name)
        const grace = inSeconds(stack.services[name]?.stop_grace_period ?? "") * 1000
        assert.isBelow((yield* Clock.currentTimeMillis) - began, grace, name)
      }
    })
  )
})

import { assert, describe, it, layer } from "@effect/vitest"
import { validate } from "dockerfile-utils"
import { Clock, Effect, Queue, Redacted } from "effect"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import packageJson from "../../package.json" with { type: "json" }
import { consumeExchange, readEvent } from "../messaging/consumer.ts"
import { run } from "../support/commands.ts"
import { freePort, type Service } from "../support/service.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"
import { canary } from "./buildImage.ts"
import { checkHealth, type ContainerOptions, runContainer, startContainer, startServing } from "./container.ts"
import { Servers } from "./servers.ts"

const repository = fileURLToPath(new URL("../../", import.meta.url))
const read = (file: string) => readFileSync(join(repository, file), "utf8")
const image = inject("image")

/** What the image may add to its base, compressed and unpacked. */
const budget = { compressed: 4_000_000, unpacked: 14_000_000 }

const filesBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())

/** The arguments of `find`, in the image's root and on its file system alone; the answers are paths of the image. */
const find = (...args: ReadonlyArray<string>) =>
  Effect.promise(async () =>
    (await run("find", [image.root, "-xdev", ...args, "-printf", "/%P\n"])).split("\n").slice(0, -1)
  )

describe("the Dockerfile", () => {
  it("gives a linter nothing to say, not even a warning", () => {
    const remarks = validate(read("docker/Dockerfile"), {}).map(({ message, range }) => [range.start.line + 1, message])
    assert.deepStrictEqual(remarks, [])
  })

  it.live("has an entrypoint that shellcheck accepts", () =>
    Effect.promise(async () => {
      assert.strictEqual(await run("shellcheck", [join(repository, "docker/entrypoint.sh")]), "")
    })
  )

  it("names the Node.js that the tests run on, to the patch", () => {
    assert.strictEqual(
      image.config.Labels["org.opencontainers.image.base.name"],
      `docker.io/library/node:${packageJson.devDependencies.node}-bookworm-slim`
    )
    assert.match(read("docker/Dockerfile"), new RegExp(`^FROM node:${packageJson.devDependencies.node}-`, "m"))
  })

  it("labels the image with the version of the package", () => {
    assert.strictEqual(image.config.Labels["org.opencontainers.image.version"], packageJson.version)
  })
})

describe("the build's context", () => {
  it("is what the build needs and nothing else: no .env, no .npmrc, no node_modules, no history", () => {
    const sources = ["src", "migrations"].flatMap((folder) =>
      filesBelow(join(repository, folder)).map((entry) => join(entry.parentPath, entry.name).slice(repository.length))
    )
    const named = ["package.json", "package-lock.json", "tsconfig.json", "scripts/build.ts", "docker/entrypoint.sh"]
    assert.deepStrictEqual(image.context, [...sources, ...named].toSorted())
  })
})

describe("the image", () => {
  it("adds one small layer, with nothing in it that the service does not need", () => {
    assert.lengthOf(image.layers, 1)
    const { entries = [], size = Infinity } = image.layers[0] ?? {}
    const expected = [
      /^app\/$/,
      /^app\/(package\.json|entrypoint\.sh)$/,
      /^app\/dist\/([\w-]+\.js)?$/,
      // The user, and the lists' own backups.
      /^etc\/((passwd|group|shadow|gshadow|subuid|subgid)-?)?$/,
      // buildah's own.
      /^etc\/hosts$/,
      // What went: package managers and their headers.
      /^(opt|usr\/local(\/(lib|include|bin))?|usr)\/$/,
      /^(opt|usr\/local\/(lib|include|bin))\/\.wh\.[\w.-]+$/,
      /^usr\/local\/bin\/kickoff$/,
      // For the volume with API keys.
      /^var\/(lib\/(kickoff\/)?)?$/
    ]
    const unexpected = entries.filter((entry) => !expected.some((pattern) => pattern.test(entry)))
    assert.deepStrictEqual(unexpected, [])
    assert.include(entries, "app/dist/main.js")
    assert.isBelow(size, budget.compressed)
    const sizes = filesBelow(join(image.root, "app")).map((entry) => statSync(join(entry.parentPath, entry.name)).size)
    const unpacked = sizes.reduce((sum, size) => sum + size, 0)
    assert.isBelow(unpacked, budget.unpacked)
  })

  it.live("holds no package manager, no node_modules, no source map and no TypeScript", () =>
    Effect.gen(function* () {
      const unwanted = ["node_modules", "npm", "npx", "yarn", "corepack", "*.map", "*.ts", ".npmrc", ".npm", ".env"]
      const named = unwanted.flatMap((name) => ["-o", "-name", name]).slice(1)
      assert.deepStrictEqual(yield* find("(", ...named, ")", "-prune"), [])
      const present = yield* find("(", "-name", "entrypoint.sh", "-o", "-name", "main.js", ")")
      assert.sameMembers([...present], ["/app/entrypoint.sh", "/app/dist/main.js"])
    })
  )

  it.live("shows no secret of its build, neither in a file nor in its history", () =>
    Effect.promise(async () => {
      const contents = await run("tar", ["-xzOf", image.layers[0]?.file ?? "no layer"])
      assert.include(contents, "CREATE TABLE")
      assert.notInclude(contents, canary)
      assert.include(image.inspected, "useradd")
      assert.notInclude(image.inspected, canary)
    })
  )

  it.live(
    "belongs to root, and its user owns and may write a folder for a volume and the temporary folders alone",
    () =>
      Effect.gen(function* () {
        assert.strictEqual(image.config.User, "10001:10001")
        assert.deepStrictEqual(yield* find("(", "-uid", "10001", "-o", "-gid", "10001", ")"), ["/var/lib/kickoff"])
        const open = yield* find("-perm", "-o+w", "(", "-type", "d", "-o", "-type", "f", ")")
        assert.deepStrictEqual(open.toSorted(), ["/run/lock", "/tmp", "/var/tmp"])
        assert.deepStrictEqual(yield* find("-perm", "/u+s,g+s", "-path", "/app/*"), [])
      })
  )

  it("starts through its entrypoint, checks its health without a shell, and says where it listens", () => {
    assert.deepStrictEqual(image.config.Entrypoint, ["/app/entrypoint.sh"])
    assert.deepStrictEqual(image.config.Cmd, ["serve"])
    assert.deepStrictEqual(image.config.Healthcheck.Test, ["CMD", "node", "/app/dist/main.js", "health"])
    assert.deepStrictEqual(Object.keys(image.config.ExposedPorts), ["3000/tcp"])
    assert.includeMembers([...image.config.Env], ["KICKOFF_CONTAINER=true", "HTTP_HOST=0.0.0.0"])
  })
})

interface Planned {
  readonly id: string
  readonly scheduled_at: string
}

/** Plans a game through the API. */
const plan = (service: Service, startsInMs: number) =>
  Effect.gen(function* () {
    const scheduled = new Date((yield* Clock.currentTimeMillis) + startsInMs).toISOString()
    const body = { guild_id: "guild", title: "Friday raid", scheduled_at: scheduled, reminder_minutes: [] }
    const response = yield* service.post("/v1/games", body)
    assert.strictEqual(response.status, 201)
    // What the contract says of a game; the tests of the API check all of it.
    return (yield* Effect.promise(() => response.json())) as Planned
  })

/** An empty database and the broker, as the environment of a container. */
const environment = Effect.gen(function* () {
  const { broker, postgres } = yield* Servers
  const url = yield* makeTestDatabase({ server: postgres.url, migrated: false })
  return { DATABASE_URL: Redacted.value(url), RABBITMQ_URL: broker.url }
})

/** An API key, made by the image: the header that shows it, and the variable that makes it good. */
const makeKey = Effect.gen(function* () {
  const command = ["keys", "create", "--name", "test", "--scopes", "read,write,operate", "--json"]
  const { code, stdout, stderr } = yield* runContainer({ command })
  assert.strictEqual(code, 0, stderr)
  const { entry, key }: { readonly entry: unknown; readonly key: string } = JSON.parse(stdout)
  return { headers: { authorization: `Bearer ${key}` }, env: { KICKOFF_API_KEYS: JSON.stringify([entry]) } }
})

/** Starts a container of all roles, for those who have a key. */
const startAll = Effect.fnUntraced(function* (options: ContainerOptions) {
  const { env, headers } = yield* makeKey
  return yield* startServing({ ...options, env: { ...options.env, ...env } }, headers)
})

/** The capabilities, identity and mounts of a container's process 1, read by itself. */
const readStatus = 'const fs = require("node:fs"); console.log(fs.readFileSync("/proc/1/status", "utf8"))'

layer(Servers.layer, { excludeTestServices: true, timeout: 300_000 })(
  "a container of the image, on a read-only root",
  (it) => {
    it.effect("prints the version of the package", () =>
      Effect.gen(function* () {
        const { code, stdout, stderr } = yield* runContainer({ command: ["--version"] })
        assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
        assert.include(stdout, packageJson.version)
      })
    )

    it.effect("runs as its own user, without capabilities and without a way to gain any", () =>
      Effect.gen(function* () {
        const { stdout } = yield* runContainer({ entrypoint: ["node", "-e"], command: [readStatus] })
        assert.match(stdout, /^Uid:\t10001\t10001\t10001\t10001$/m)
        assert.match(stdout, /^Gid:\t10001\t10001\t10001\t10001$/m)
        assert.match(stdout, /^Groups:\s*$/m)
        for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
          assert.match(stdout, new RegExp(`^${set}:\t0+$`, "m"))
        }
        assert.match(stdout, /^NoNewPrivs:\t1$/m)
        const write = yield* runContainer({ entrypoint: ["touch"], command: ["/tmp/file"] })
        assert.match(write.stderr, /Read-only file system/)
      })
    )

    it.effect("is the command kickoff on its own path, where no command leads nowhere", () =>
      Effect.gen(function* () {
        const dangling = yield* runContainer({ entrypoint: ["find"], command: ["/usr/local", "-xtype", "l"] })
        assert.deepInclude(dangling, { code: 0, stdout: "" })
        const { code, stdout } = yield* runContainer({ entrypoint: ["kickoff"], command: ["--version"] })
        assert.strictEqual(code, 0)
        assert.include(stdout, packageJson.version)
      })
    )

    it.effect.each(["serve --roles outbox", "migrate"])(
      "kickoff %s without DATABASE_URL ends with exit code 2 and one line",
      (command) =>
        Effect.gen(function* () {
          const { code, stderr } = yield* runContainer({ command: command.split(" ") })
          assert.strictEqual(code, 2)
          assert.match(stderr, /^kickoff: DATABASE_URL: [^\n]+\n$/)
        })
    )

    it.effect("does not serve the API to others while nobody needs a key", () =>
      Effect.gen(function* () {
        const { code, stderr } = yield* runContainer({ env: yield* environment })
        assert.strictEqual(code, 2)
        assert.match(stderr, /^kickoff: HTTP_HOST: [^\n]+KICKOFF_API_KEYS_FILE[^\n]+\n$/)
      }).pipe(Effect.scoped)
    )

    it.effect("migrates an empty database, and finds nothing to do the second time", () =>
      Effect.gen(function* () {
        const env = yield* environment
        const first = yield* runContainer({ command: ["migrate"], env })
        assert.deepInclude(first, { code: 0, stderr: "" })
        assert.match(first.stdout, /^(Applied \d{4}_\w+\n)+$/)
        const second = yield* runContainer({ command: ["migrate"], env })
        assert.deepInclude(second, { code: 0, stderr: "", stdout: "Nothing to apply, the schema is up to date\n" })
      }).pipe(Effect.scoped)
    )

    it.effect("migrates once where several containers start together", () =>
      Effect.gen(function* () {
        const env = yield* environment
        const results = yield* Effect.all(
          [1, 2, 3].map(() => runContainer({ command: ["migrate"], env })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          results.map(({ code, stderr }) => ({ code, stderr })),
          results.map(() => ({ code: 0, stderr: "" }))
        )
        const applied = results.flatMap(({ stdout }) => stdout.match(/^Applied .*$/gm) ?? [])
        assert.isNotEmpty(applied)
        assert.strictEqual(new Set(applied).size, applied.length)
      }).pipe(Effect.scoped)
    )

    it.effect(
      "starts a planned game on time from its own files alone, tells of it, and stops on SIGTERM as process 1",
      () =>
        Effect.gen(function* () {
          const env = yield* environment
          const service = yield* startAll({ env })
          assert.match(service.stdout(), /Applied \d{4}_/)
          const messages = yield* consumeExchange(env.RABBITMQ_URL, "kickoff.events")
          const game = yield* plan(service, 1000)
          const nextOf = (type: string): Effect.Effect<number> =>
            Effect.flatMap(Queue.take(messages), (message) => {
              const event = readEvent(message)
              return event.type === type && event.subject === game.id
                ? Effect.succeed(Date.parse(event.time))
                : nextOf(type)
            })
          assert.isAtLeast(yield* nextOf("game.started"), Date.parse(game.scheduled_at))
          const began = yield* Clock.currentTimeMillis
          const { code, signal } = yield* service.stop
          assert.deepStrictEqual({ code, signal }, { code: 0, signal: null })
          assert.isBelow((yield* Clock.currentTimeMillis) - began, 10_000)
          assert.match(service.stdout(), /Stopping on SIGTERM[\s\S]*"Stopped"/)
          assert.strictEqual(service.stderr(), "")
        }).pipe(Effect.scoped)
    )

    it.effect(
      "has a health check that fails: before the start, when frozen, when the database is away, after the end",
      () =>
        Effect.gen(function* () {
          const { postgres } = yield* Servers
          const port = String(yield* freePort)
          const env = { ...(yield* environment), HTTP_PORT: port }
          const health = Effect.map(checkHealth(image.config.Healthcheck.Test, env), ({ code, stdout, stderr }) => ({
            code,
            said: `${stdout}${stderr}`
          }))
          const before = yield* health
          assert.strictEqual(before.code, 1, before.said)
          assert.match(before.said, /^kickoff: not ready: .*ECONNREFUSED.*\n$/)

          const service = yield* startAll({ env })
          const during = yield* health
          assert.strictEqual(during.code, 0, during.said)
          assert.match(during.said, /^ok \(/)

          yield* service.kill("SIGSTOP")
          const frozen = yield* health
          assert.strictEqual(frozen.code, 1, frozen.said)
          assert.match(frozen.said, /no answer within/)
          yield* service.kill("SIGCONT")

          yield* Effect.promise(() => postgres.halt())
          const away = yield* health
          yield* Effect.promise(() => postgres.resume())
          assert.strictEqual(away.code, 1, away.said)
          assert.match(away.said, /database away/)

          yield* service.stop
          const after = yield* health
          assert.strictEqual(after.code, 1, after.said)
        }).pipe(Effect.scoped)
    )

    it.effect("writes no file, also where it could", () =>
      Effect.gen(function* () {
        const env = yield* environment
        const before = new Date(yield* Clock.currentTimeMillis).toISOString()
        const control = yield* runContainer({ writable: true, entrypoint: ["touch"], command: ["/tmp/written"] })
        assert.strictEqual(control.code, 0)
        assert.strictEqual((yield* runContainer({ writable: true, command: ["migrate"], env })).code, 0)
        const service = yield* startAll({ writable: true, env })
        yield* plan(service, 60_000)
        assert.strictEqual((yield* service.stop).code, 0)
        assert.deepStrictEqual(yield* find("!", "-type", "d", "-newerct", before), ["/tmp/written"])
        yield* runContainer({ writable: true, entrypoint: ["rm"], command: ["/tmp/written"] })
      }).pipe(Effect.scoped)
    )

    it.effect("runs as any other user too", () =>
      Effect.gen(function* () {
        const env = yield* environment
        const service = yield* startAll({ env, user: "54321:0" })
        assert.strictEqual((yield* service.get("/health/ready")).status, 200)
        assert.strictEqual((yield* service.stop).code, 0)
      }).pipe(Effect.scoped)
    )

    it.effect.each(["SIGTERM", "SIGINT"] as const)("%s during the start is a clean stop", (signal) =>
      Effect.gen(function* () {
        const env = { DATABASE_URL: `postgres://kickoff@127.0.0.1:${yield* freePort}/kickoff`, LOG_FORMAT: "json" }
        const container = yield* startContainer({ command: ["serve", "--roles", "outbox"], env })
        yield* container.output(/is not reachable yet/)
        yield* container.kill(signal)
        assert.strictEqual((yield* container.ended).code, 0)
      }).pipe(Effect.scoped)
    )
  }
)

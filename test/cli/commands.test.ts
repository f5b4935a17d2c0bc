import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import packageJson from "../../package.json" with { type: "json" }
import { run } from "../support/commands.ts"
import { freePort, mainFile, runProgram, startProgram, startService } from "../support/service.ts"

const password = "s3cr3t-password"

/** Standard error, which must be one line. */
const onlyLine = (text: string): string => {
  const lines = text.split("\n")
  assert.strictEqual(lines.length, 2, `one line expected: ${text}`)
  return lines[0] ?? ""
}

describe.concurrent("the command line", { timeout: 30_000 }, () => {
  it.live("--version prints the version of the package", () =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* runProgram({ args: ["--version"] })
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.include(stdout, packageJson.version)
    })
  )

  it.live("runs by its name where npm has linked it", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-linked-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      symlinkSync(mainFile, join(folder, "kickoff"))
      assert.include(yield* Effect.promise(() => run(join(folder, "kickoff"), ["--version"])), packageJson.version)
    }).pipe(Effect.scoped)
  )

  it.live.each(["kickoff", "kickoff serve", "kickoff migrate", "kickoff health"])("--help describes %s", (command) =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* runProgram({ args: [...command.split(" ").slice(1), "--help"] })
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.include(stdout, command)
    })
  )

  it.live.each([
    { args: ["a\nb\u001b[31m\u0007\u202e"], line: 'Unknown subcommand "a b [31m " for "kickoff"' },
    { args: ["explain", "\u001b[31mx"], line: 'Invalid value for argument <game>: " [31mx"' },
    { args: ["serve", "--roles", "api,\u001b[2J"], line: "--roles: Expected a comma-separated list" }
  ])("what could steer a terminal comes back from no argument: $line", ({ args, line }) =>
    Effect.gen(function* () {
      const { code, stderr } = yield* runProgram({ args })
      assert.strictEqual(code, 2)
      assert.include(onlyLine(stderr), line)
      assert.notMatch(onlyLine(stderr), /[\p{Cc}\p{Cf}]/u)
    })
  )

  it.live.each([
    { args: ["celebrate"], named: "celebrate" },
    { args: ["serve", "--sharp"], named: "--sharp" },
    { args: ["--sharp"], named: "--sharp" },
    { args: ["migrate", "now"], named: "now" },
    { args: ["serve", "--roles"], named: "--roles" },
    { args: ["serve", "--roles", ""], named: "--roles" },
    { args: ["--roles", "api,cook"], named: "--roles" }
  ])("bad arguments end with exit code 2 and one line that names them: $args", ({ args, named }) =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* runProgram({ args })
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.include(onlyLine(stderr), named)
    })
  )

  it.live.each([
    { name: "HTTP_PORT", value: "abc" },
    { name: "HTTP_HOST", value: "no host" },
    { name: "DATABASE_URL", value: `mysql://kickoff:${password}@localhost/kickoff` },
    { name: "DATABASE_LISTEN_URL", value: password },
    { name: "DATABASE_POOL_SIZE", value: "1" },
    { name: "RABBITMQ_URL", value: `http://kickoff:${password}@localhost` },
    { name: "RABBITMQ_EXCHANGE", value: "amq.topic" },
    { name: "KICKOFF_RATE_LIMIT", value: "none" },
    { name: "KICKOFF_ROLES", value: "api,cook" },
    { name: "KICKOFF_MIGRATE", value: "perhaps" },
    { name: "KICKOFF_BACKSTOP", value: "3 minutes" },
    { name: "KICKOFF_SHUTDOWN_GRACE", value: "soon" },
    { name: "KICKOFF_MAX_ATTEMPTS", value: "0" },
    { name: "LOG_LEVEL", value: "loud" },
    { name: "LOG_FORMAT", value: "xml" }
  ])("a bad $name ends with exit code 2 and one line that names it and shows no secret", ({ name, value }) =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* runProgram({ env: { [name]: value } })
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      const line = onlyLine(stderr)
      assert.match(line, new RegExp(`^kickoff: ${name}: Expected `))
      assert.notInclude(line, password)
      if (!name.endsWith("_URL")) assert.include(line, `got "${value}"`)
    })
  )

  it.live.each([
    { env: { KICKOFF_API_KEYS: `[{"name": "${password}"}]` }, named: "KICKOFF_API_KEYS" },
    { env: { KICKOFF_API_KEYS: password }, named: "KICKOFF_API_KEYS" },
    { env: { KICKOFF_API_KEYS: "[]", KICKOFF_API_KEYS_FILE: "/no/keys.json" }, named: "KICKOFF_API_KEYS" },
    { env: { KICKOFF_API_KEYS_FILE: "/no/keys.json" }, named: "KICKOFF_API_KEYS_FILE" }
  ])("API keys that cannot be read end the start with exit code 2 and one line: $env", ({ env, named }) =>
    Effect.gen(function* () {
      const { code, stderr } = yield* runProgram({ env })
      assert.strictEqual(code, 2)
      const line = onlyLine(stderr)
      assert.match(line, new RegExp(`^kickoff: ${named}: `))
      assert.notInclude(line, password)
    })
  )

  it.live.each(["0.0.0.0", "::", "192.0.2.1", "kickoff.example"])(
    "the API without keys is not served on %s, and the line says both ways out",
    (host) =>
      Effect.gen(function* () {
        const { code, stderr } = yield* runProgram({ env: { HTTP_HOST: host } })
        assert.strictEqual(code, 2)
        const line = onlyLine(stderr)
        assert.match(line, /^kickoff: HTTP_HOST: .*127\.0\.0\.1.*KICKOFF_API_KEYS_FILE/)
        assert.include(line, `Got "${host}"`)
      })
  )

  it.live.each([
    ["with keys", { KICKOFF_API_KEYS: "[]" }],
    ["without the role api", { KICKOFF_ROLES: "outbox" }]
  ] as const)("a process %s may listen on every address", ([, env]) =>
    Effect.gen(function* () {
      const port = yield* freePort
      const program = yield* startProgram({
        env: { ...env, HTTP_HOST: "0.0.0.0", DATABASE_URL: `postgres://kickoff@127.0.0.1:${port}/kickoff` }
      })
      // It has come as far as the database.
      yield* program.output(/is not reachable yet/)
    }).pipe(Effect.scoped)
  )

  it.live.each(["serve", "migrate"])("kickoff %s needs a database of its own in the container image", (command) =>
    Effect.gen(function* () {
      const { code, stderr } = yield* runProgram({ args: [command], env: { KICKOFF_CONTAINER: "true" } })
      assert.strictEqual(code, 2)
      assert.match(onlyLine(stderr), /^kickoff: DATABASE_URL: /)
    })
  )

  it.live(
    "an unreachable database is tried for half a minute, with messages, then ends with exit code 1 and the reason",
    () =>
      Effect.gen(function* () {
        const port = yield* freePort
        const { code, stdout, stderr } = yield* runProgram({
          env: { DATABASE_URL: `postgres://kickoff:${password}@127.0.0.1:${port}/kickoff`, LOG_FORMAT: "json" }
        })
        assert.strictEqual(code, 1)
        assert.isAtLeast(stdout.match(/is not reachable yet/g)?.length ?? 0, 10)
        const reason: { level: string; message: string } = JSON.parse(onlyLine(stderr))
        assert.strictEqual(reason.level, "fatal")
        assert.match(reason.message, new RegExp(`^DATABASE_URL: .*127\\.0\\.0\\.1:${port}/kickoff.*ECONNREFUSED`))
        assert.notInclude(stdout + stderr, password)
      }),
    60_000
  )

  it.live.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("%s during the start is a clean stop", (signal) =>
    Effect.gen(function* () {
      const port = yield* freePort
      const program = yield* startProgram({
        env: { DATABASE_URL: `postgres://kickoff@127.0.0.1:${port}/kickoff`, LOG_FORMAT: "pretty" }
      })
      yield* program.output(/is not reachable yet/)
      yield* program.kill(signal)
      const { code } = yield* program.ended
      assert.strictEqual(code, 0)
      assert.match(program.stdout(), /info {2}Stopping on SIG[\s\S]*info {2}Stopped/)
      assert.strictEqual(program.stderr(), "")
    })
  )

  // Node.js never comes back from making a folder below /proc together with those above it.
  it.live.each(["/dev/null/kickoff", "/proc/kickoff", "/proc/kickoff/data", "/etc/passwd"])(
    "a data folder that cannot be used ends with exit code 2 and one line that names it: %s",
    (folder) =>
      Effect.gen(function* () {
        const { code, stderr } = yield* runProgram({ env: { KICKOFF_DATA_DIR: folder, LOG_FORMAT: "pretty" } })
        assert.strictEqual(code, 2)
        assert.include(onlyLine(stderr), `kickoff: KICKOFF_DATA_DIR: ${folder} cannot be used: `)
      })
  )

  it.live("migrate applies what is pending to an embedded database, and finds nothing the second time", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-cli-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      const migrate = runProgram({ args: ["migrate"], env: { KICKOFF_DATA_DIR: join(folder, "data") } })
      const first = yield* migrate
      assert.deepInclude(first, { code: 0, stderr: "" })
      assert.match(first.stdout, /^(Applied \d{4}_\w+\n)+$/)
      const second = yield* migrate
      assert.deepInclude(second, { code: 0, stderr: "", stdout: "Nothing to apply, the schema is up to date\n" })
    })
  )

  it.live("an operator's commands reach the embedded database of a running service as the README says", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-cli-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      const service = yield* startService({ cwd: folder })
      // A service that is killed leaves its database to the next start, which never comes.
      yield* Effect.addFinalizer(() => service.stop)
      const [, setting = ""] =
        /^(export DATABASE_URL=.*)\nnode dist\/main\.js status$/m.exec(readFileSync("README.md", "utf8")) ?? []
      const script = `${setting}\nexec "$0" "$1" status --json`
      const status = yield* Effect.promise(() =>
        run("/bin/sh", ["-c", script, process.execPath, mainFile], { cwd: folder })
      )
      assert.deepNestedInclude(JSON.parse(status), { version: packageJson.version, "schedules[0].planned": 0 })
    }).pipe(Effect.scoped)
  )
})

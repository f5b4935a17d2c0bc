/**
 * Does with `npm start` what the README tells a newcomer to do: starts the service, plans a game, sees it start, stops.
 *
 * Everything happens in a folder and on a port of its own; what is still running at the end is a failure.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const patience = AbortSignal.timeout(90_000)
const folder = mkdtempSync(join(tmpdir(), "kickoff-smoke-"))
const said: Array<string> = []

const say = (text: string) => process.stdout.write(`${text}\n`)

const expect = (condition: boolean, what: string) => {
  if (!condition) throw new Error(what)
  say(`  ${what}`)
}

/** Processes that were told of the folder or work in it; Linux alone can say. */
const leftOver = (): ReadonlyArray<string> =>
  process.platform === "linux"
    ? readdirSync("/proc").filter((pid) => {
        if (!/^\d+$/.test(pid)) return false
        try {
          return (
            readlinkSync(`/proc/${pid}/cwd`).startsWith(folder) ||
            readFileSync(`/proc/${pid}/environ`, "utf8").includes(`KICKOFF_DATA_DIR=${folder}`)
          )
        } catch {
          // It ended meanwhile, or is not ours to look at.
          return false
        }
      })
    : []

const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(KICKOFF_|DATABASE_|RABBITMQ_|HTTP_|LOG_)/.test(name))
)

const service = spawn("npm", ["start"], {
  cwd: fileURLToPath(new URL("..", import.meta.url)),
  env: { ...environment, KICKOFF_DATA_DIR: join(folder, "data"), HTTP_PORT: "0", LOG_FORMAT: "json" },
  stdio: ["ignore", "pipe", "inherit"]
})
const ended = once(service, "exit")
let output = ""
service.stdout.on("data", (chunk: Buffer) => {
  output += chunk.toString()
  said.push(chunk.toString())
})

/** Waits for a match in what the service says. */
const hears = async (pattern: RegExp): Promise<RegExpExecArray> => {
  for (;;) {
    const match = pattern.exec(output)
    if (match !== null) return match
    if (service.exitCode !== null) throw new Error(`the service ended without saying ${pattern}`)
    await Promise.race([once(service.stdout, "data", { signal: patience }), ended])
  }
}

try {
  const [, url = ""] = await hears(/Ready on (http:[^\s",]+)/)
  const ready = await fetch(`${url}/health/ready`, { signal: patience })
  expect(ready.status === 200, "npm start is ready")
  const scheduled = new Date(Date.now() + 2000)
  const planned = await fetch(`${url}/v1/games`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ guild_id: "smoke", title: "Smoke test", scheduled_at: scheduled.toISOString() }),
    signal: patience
  })
  expect(planned.status === 201, "a game two seconds ahead is planned")
  const { id }: { id: string } = JSON.parse(await planned.text())
  await hears(new RegExp(`game\\.started ${id}`))
  const late = Date.now() - scheduled.getTime()
  expect(late >= 0 && late < 1000, `it started ${late} ms after its time`)
  const game: { status: string } = JSON.parse(await (await fetch(`${url}/v1/games/${id}`, { signal: patience })).text())
  expect(game.status === "IN_PROGRESS", "the API shows it as started")
  const asked = Date.now()
  service.kill("SIGTERM")
  const [code] = await ended
  expect(code === 0, `SIGTERM stopped it within ${Date.now() - asked} ms with exit code 0`)
  expect(output.includes(`"Stopped"`), "it said so")
  expect(leftOver().length === 0, "nothing is left running")
} catch (error) {
  process.stdout.write(said.join(""))
  say(`Smoke test failed: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
} finally {
  if (service.exitCode === null) service.kill("SIGKILL")
  for (const pid of leftOver()) process.kill(Number(pid), "SIGKILL")
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
}

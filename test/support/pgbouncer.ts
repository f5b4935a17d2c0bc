/** A real PgBouncer in front of a test's PostgreSQL, with the configuration of a page: the one on PATH, or Debian's. */
import { spawn } from "node:child_process"
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect } from "effect"
import { aptInstall } from "./apt.ts"
import { freePorts } from "./ports.ts"

const howToGetOne = "The tests need PgBouncer: apt-get install pgbouncer, brew install pgbouncer."

const find = (): string | undefined =>
  [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"]
    .map((folder) => join(folder, "pgbouncer"))
    .find((file) => existsSync(file))

const findOrInstall = async (): Promise<string> => {
  if (find() === undefined) await aptInstall(["pgbouncer"], howToGetOne)
  const program = find()
  if (program === undefined) throw new Error(howToGetOne)
  return program
}

/** Whom it runs as: it refuses to be root. */
const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect({ host: "127.0.0.1", port })
    const done = (result: boolean) => () => {
      socket.destroy()
      resolve(result)
    }
    socket.once("connect", done(true)).once("error", done(false))
  })

/**
 * Runs it until the scope closes and answers its port. `configure` makes its configuration of the port, and of the file with
 * the names and passwords that may come in.
 */
export const startPgBouncer = (
  users: Readonly<Record<string, string>>,
  configure: (port: number, usersFile: string) => string
) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const program = await findOrInstall()
        const [port = 0] = await freePorts(1)
        const folder = mkdtempSync(join(tmpdir(), "kickoff-pgbouncer-"))
        chmodSync(folder, 0o755)
        const file = (name: string) => join(folder, name)
        const list = Object.entries(users).map(([name, password]) => `"${name}" "${password}"\n`)
        writeFileSync(file("userlist.txt"), list.join(""))
        writeFileSync(file("pgbouncer.ini"), configure(port, file("userlist.txt")))
        const child = spawn(program, ["-q", file("pgbouncer.ini")], { ...account, stdio: ["ignore", "ignore", "pipe"] })
        let said = ""
        child.stderr.on("data", (chunk: Buffer) => {
          said += chunk.toString()
        })
        const stop = () => {
          child.kill("SIGKILL")
          rmSync(folder, { recursive: true })
        }
        while (!(await listens(port))) {
          if (child.exitCode !== null) {
            stop()
            throw new Error(`PgBouncer did not start: ${said}`)
          }
          await sleep(20)
        }
        return { port, stop }
      }),
      ({ stop }) => Effect.sync(stop)
    ),
    ({ port }) => port
  )

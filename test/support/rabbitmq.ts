/**
 * A real RabbitMQ for the tests: the one of `RABBITMQ_URL`, or a private one from `rabbitmq-server` or Docker.
 *
 * A private broker has ports, names, cookie, epmd and folders of its own, so that runs at the same time don't meet. A
 * watchdog ends it when the process that started it is gone, however that happened.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { constants } from "node:fs"
import { access, chmod, chown, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { basename, delimiter, dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { aptInstall, canInstall } from "./apt.ts"
import type { Certificates } from "./certificates.ts"
import { run } from "./commands.ts"
import { freePorts } from "./ports.ts"

/** A broker of a test's own, which it may kill and start again on the same port with the same data. */
export interface Broker {
  readonly url: string
  readonly host: string
  readonly port: number
  /** Where it speaks TLS; 0 without {@link BrokerOptions.tls}. */
  readonly tlsPort: number
  /** SIGKILL: no connection is closed in good order. */
  readonly kill: () => Promise<void>
  /** Starts it after `kill`; its durable data and its port are the same. */
  readonly start: () => Promise<void>
  /**
   * Call before `kill` when a quorum queue was declared within the last seconds: RabbitMQ writes the names of quorum
   * queues to disk half a second late, and killed before that, it starts the queue anew, empty and without a leader.
   */
  readonly flush: () => Promise<void>
  /** Runs `rabbitmqctl` and answers its standard output. */
  readonly ctl: (...args: ReadonlyArray<string>) => Promise<string>
  /** The same for any of RabbitMQ's own programs, `rabbitmq-diagnostics` for one. */
  readonly tool: (program: string, ...args: ReadonlyArray<string>) => Promise<string>
  /** Ends it for good and removes its folder. */
  readonly stop: () => Promise<void>
}

export interface BrokerOptions {
  /** Lines for `rabbitmq.conf`. */
  readonly config?: ReadonlyArray<string>
  /** Speaks TLS on another port, with these files of one folder. It asks for a client's certificate and takes none as well. */
  readonly tls?: Pick<Certificates, "ca" | "server">
}

/** The lines of `rabbitmq.conf` for TLS. */
const tlsConfig = (listen: string, { ca, server }: NonNullable<BrokerOptions["tls"]>, folder = dirname(ca)) => {
  const file = (path: string) => join(folder, basename(path))
  return [
    `listeners.ssl.1 = ${listen}`,
    `ssl_options.cacertfile = ${file(ca)}`,
    `ssl_options.certfile = ${file(server.cert)}`,
    `ssl_options.keyfile = ${file(server.key)}`,
    "ssl_options.verify = verify_peer",
    "ssl_options.fail_if_no_peer_cert = false"
  ]
}

const howToGetOne =
  "The tests need a RabbitMQ. Install rabbitmq-server (apt-get install rabbitmq-server, brew install rabbitmq), " +
  "or start Docker, or set RABBITMQ_URL to a broker that the tests may use."

const image = "rabbitmq:4.1-alpine"
const startLimit = 60_000

/** Starts the broker that all test files share. */
export const startRabbitmq = async (): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> => {
  const given = process.env["RABBITMQ_URL"] ?? ""
  if (given === "") return makeBroker()
  const { hostname, port, protocol } = new URL(given)
  const defaultPort = protocol === "amqps:" ? 5671 : 5672
  if (!(await connects(hostname.replace(/^\[(.*)\]$/, "$1"), port === "" ? defaultPort : Number(port)))) {
    throw new Error(`RABBITMQ_URL: nothing listens on ${hostname}:${port === "" ? defaultPort : port}`)
  }
  return { url: given, stop: async () => {} }
}

/** Starts a private broker. */
export const makeBroker = async (options: BrokerOptions = {}): Promise<Broker> => {
  const installed = (await findServer()) ?? (await installServer())
  if (installed !== undefined) {
    // A port that was free a moment ago may be taken by another run in between.
    for (let attempt = 1; ; attempt++) {
      try {
        return await makeLocalBroker(installed, options)
      } catch (error) {
        if (attempt === 3) throw error
      }
    }
  }
  if (await succeeds("docker", ["version"])) return makeDockerBroker(options)
  throw new Error(howToGetOne)
}

// --- finding and installing -------------------------------------------------------------------------------------

interface Server {
  readonly server: string
  readonly ctl: string
  readonly epmd: string
}

/** Debian's `/usr/sbin` scripts insist on being root, those in `/usr/lib/rabbitmq/bin` don't: look there first. */
const searchPath = [
  "/usr/lib/rabbitmq/bin",
  ...(process.env["PATH"] ?? "").split(delimiter),
  "/usr/sbin",
  "/usr/local/sbin",
  "/opt/homebrew/sbin",
  "/opt/homebrew/bin"
]

const findProgram = async (name: string): Promise<string | undefined> => {
  for (const folder of searchPath) {
    const file = join(folder, name)
    if (folder !== "" && (await isExecutable(file))) return file
  }
  return undefined
}

const isExecutable = (file: string): Promise<boolean> =>
  access(file, constants.X_OK).then(
    () => true,
    () => false
  )

const findServer = async (): Promise<Server | undefined> => {
  const server = await findProgram("rabbitmq-server")
  const ctl = await findProgram("rabbitmqctl")
  const epmd = await findProgram("epmd")
  return server === undefined || ctl === undefined || epmd === undefined ? undefined : { server, ctl, epmd }
}

const isRoot = process.getuid?.() === 0

const installServer = async (): Promise<Server | undefined> => {
  if (!canInstall()) return undefined
  await aptInstall(["rabbitmq-server"], howToGetOne)
  return findServer()
}

// --- a broker from rabbitmq-server --------------------------------------------------------------------------------

const makeLocalBroker = async (server: Server, options: BrokerOptions): Promise<Broker> => {
  const [port = 0, tlsPort = 0, distributionPort = 0, epmdPort = 0] = await freePorts(4)
  const folder = await mkdtemp(join(tmpdir(), "kickoff-rabbitmq-"))
  const owner = isRoot ? await findUser("rabbitmq") : undefined
  const file = (name: string) => join(folder, name)
  const node = `kickoff-${randomBytes(6).toString("hex")}@localhost`
  const env = {
    PATH: searchPath.join(delimiter),
    LANG: "C.UTF-8",
    // The Erlang cookie lives in the home folder.
    HOME: folder,
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_NODENAME: node,
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_CONF_ENV_FILE: file("rabbitmq-env.conf"),
    RABBITMQ_CONFIG_FILE: file("rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: file("advanced.config"),
    RABBITMQ_GENERATED_CONFIG_DIR: file("config"),
    RABBITMQ_ENABLED_PLUGINS_FILE: file("enabled_plugins"),
    RABBITMQ_MNESIA_BASE: file("data"),
    RABBITMQ_LOG_BASE: file("log"),
    RABBITMQ_PID_FILE: file("rabbitmq.pid"),
    // Two schedulers are plenty, and the start is quicker.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
  }
  await Promise.all([mkdir(file("data")), mkdir(file("log")), mkdir(file("config"))])
  await writeFile(file("rabbitmq-env.conf"), "")
  await writeFile(file("advanced.config"), "[].\n")
  await writeFile(file("enabled_plugins"), "[].\n")
  await writeFile(file(".erlang.cookie"), randomBytes(10).toString("hex"), { mode: 0o400 })
  await writeFile(file("pids"), "")
  await writeFile(
    file("rabbitmq.conf"),
    [
      `listeners.tcp.1 = 127.0.0.1:${port}`,
      "disk_free_limit.absolute = 20MB",
      "log.file.level = info",
      ...(options.tls === undefined ? [] : tlsConfig(`127.0.0.1:${tlsPort}`, options.tls)),
      ...(options.config ?? []),
      ""
    ].join("\n")
  )
  await chmod(folder, 0o755)
  if (owner !== undefined) {
    for (const path of ["", "data", "log", "config", ".erlang.cookie", "enabled_plugins"]) {
      await chown(file(path), owner.uid, owner.gid)
    }
  }

  const launch = (program: string, args: ReadonlyArray<string>) =>
    // A process group of its own: Ctrl-C at the terminal is for the test runner, which then stops the broker.
    spawn(program, args, { env, cwd: folder, detached: true, stdio: "ignore", ...owner })

  const watchdog = watch(folder)
  const epmd = launch(server.epmd, ["-port", String(epmdPort), "-address", "127.0.0.1"])
  let beam: ChildProcess | undefined
  let stopping: Promise<void> | undefined

  const start = async () => {
    const child = launch(server.server, [])
    beam = child
    await writeFile(file("pids"), `${epmd.pid} ${child.pid}\n`)
    await untilAnswering(port, child, file("log"))
  }
  const kill = async () => {
    const child = beam
    beam = undefined
    if (child !== undefined) await end(child)
    // The child is a shell script; its broker dies a moment later.
    await until(async () => !(await connects("127.0.0.1", port)), undefined, "the end of rabbitmq-server")
  }
  const stop = () =>
    (stopping ??= (async () => {
      await kill()
      await end(epmd)
      // It removes the folder.
      const gone = exited(watchdog)
      watchdog.stdin?.end()
      await gone
    })())

  try {
    await untilConnecting(epmdPort, epmd, "epmd")
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  const tool = (program: string, ...args: ReadonlyArray<string>) =>
    run(join(dirname(server.ctl), program), ["-n", node, ...args], { env, cwd: folder, ...owner })
  const ctl = (...args: ReadonlyArray<string>) => tool(basename(server.ctl), "-q", ...args)
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    host: "127.0.0.1",
    port,
    tlsPort: options.tls === undefined ? 0 : tlsPort,
    kill,
    start,
    flush: flushWith(ctl),
    stop,
    ctl,
    tool
  }
}

/** Ends the processes and removes the folder when this process closes the pipe or dies, whatever it died of. */
const watch = (folder: string): ChildProcess => {
  const script =
    'cat >/dev/null; for pid in $(cat "$1/pids"); do kill -s KILL -- -$pid 2>/dev/null; done; n=0; ' +
    'until rm -rf "$1" 2>/dev/null || [ $n -ge 20 ]; do n=$((n+1)); sleep 0.1; done'
  const child = spawn("/bin/sh", ["-c", script, "watchdog", folder], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  child.unref()
  if (child.stdin instanceof Net.Socket) child.stdin.unref()
  return child
}

const exited = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => {
        child.ref()
        child.once("exit", () => resolve())
      })

/** Kills a child with its process group, and waits for it. */
const end = async (child: ChildProcess): Promise<void> => {
  if (child.pid === undefined) return
  const gone = exited(child)
  try {
    process.kill(-child.pid, "SIGKILL")
  } catch {
    // The group has ended by itself.
  }
  await gone
}

const findUser = async (name: string): Promise<{ readonly uid: number; readonly gid: number } | undefined> => {
  const entry = (await readFile("/etc/passwd", "utf8")).split("\n").find((line) => line.startsWith(`${name}:`))
  if (entry === undefined) return undefined
  const fields = entry.split(":")
  return { uid: Number(fields[2]), gid: Number(fields[3]) }
}

// --- a broker from Docker -----------------------------------------------------------------------------------------

const makeDockerBroker = async (options: BrokerOptions): Promise<Broker> => {
  const [port = 0, tlsPort = 0] = await freePorts(2)
  const name = `kickoff-test-${randomBytes(6).toString("hex")}`
  const docker = (...args: ReadonlyArray<string>) => run("docker", args)
  const { tls } = options
  const config = [
    ...(tls === undefined ? [] : tlsConfig("5671", tls, "/certificates")),
    ...(options.config ?? [])
  ].join("\n")
  const publish = ["--publish", `127.0.0.1:${port}:5672`, "--publish", `127.0.0.1:${tlsPort}:5671`]
  const mount = tls === undefined ? [] : ["--volume", `${dirname(tls.ca)}:/certificates:ro`]
  const script =
    'echo "$KICKOFF_CONFIG" > /etc/rabbitmq/conf.d/99-kickoff.conf; exec docker-entrypoint.sh rabbitmq-server'
  const start = ["run", "--detach", "--name", name, "--entrypoint", "sh", "--env", `KICKOFF_CONFIG=${config}`]
  await docker(...start, ...publish, ...mount, image, "-c", script)
  const watchdog = spawn("/bin/sh", ["-c", 'cat >/dev/null; docker rm --force --volumes "$1"', "watchdog", name], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  watchdog.unref()
  if (watchdog.stdin instanceof Net.Socket) watchdog.stdin.unref()
  const stop = async () => {
    const gone = exited(watchdog)
    watchdog.stdin?.end()
    await gone
  }
  try {
    await untilAnswering(port)
  } catch (error) {
    await stop()
    throw error
  }
  const tool = (program: string, ...args: ReadonlyArray<string>) => docker("exec", name, program, ...args)
  const ctl = (...args: ReadonlyArray<string>) => tool("rabbitmqctl", "-q", ...args)
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    host: "127.0.0.1",
    port,
    tlsPort: options.tls === undefined ? 0 : tlsPort,
    kill: async () => {
      await docker("kill", name)
    },
    start: async () => {
      await docker("start", name)
      await untilAnswering(port)
    },
    flush: flushWith(ctl),
    ctl,
    tool,
    stop
  }
}

const flushWith = (ctl: Broker["ctl"]) => async () => {
  await ctl("eval", "ok = dets:sync(ra_directory_reverse).")
}

// --- processes ----------------------------------------------------------------------------------------------------

const connects = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect({ host, port, timeout: 2_000 })
    const done = (result: boolean) => () => {
      socket.destroy()
      resolve(result)
    }
    socket.once("connect", done(true)).once("error", done(false)).once("timeout", done(false))
  })

/** Whether a broker answers the protocol header, which it does after its recovery. */
const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect({ host: "127.0.0.1", port, timeout: 2_000 })
    const done = (result: boolean) => () => {
      socket.destroy()
      resolve(result)
    }
    socket.once("connect", () => socket.write(Buffer.from("AMQP\0\0\x09\x01", "latin1")))
    socket.once("data", done(true)).once("error", done(false)).once("timeout", done(false)).once("end", done(false))
  })

const until = async (test: () => Promise<boolean>, child: ChildProcess | undefined, what: string): Promise<void> => {
  const deadline = performance.now() + startLimit
  while (!(await test())) {
    if (child !== undefined && (child.exitCode !== null || child.signalCode !== null)) {
      throw new Error(`${what} ended while it started`)
    }
    if (performance.now() > deadline) throw new Error(`${what} did not start within ${startLimit / 1000} s`)
    await sleep(50)
  }
}

const untilConnecting = (port: number, child: ChildProcess, what: string) =>
  until(() => connects("127.0.0.1", port), child, what)

const untilAnswering = (port: number, child?: ChildProcess, logFolder?: string) =>
  until(() => answers(port), child, "rabbitmq-server").catch(async (error: unknown) => {
    const log = logFolder === undefined ? "" : await run("/bin/sh", ["-c", `tail -n 30 ${logFolder}/*`]).catch(String)
    throw new Error(`${String(error)}\n${log}`, { cause: error })
  })

const succeeds = (program: string, args: ReadonlyArray<string>): Promise<boolean> =>
  run(program, args).then(
    () => true,
    () => false
  )

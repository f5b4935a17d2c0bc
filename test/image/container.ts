/**
 * Runs the image's files as an engine would: as process 1 of its own, with the image's user, folder and environment and
 * nothing of the machine's, on a read-only root, without capabilities and with no way to gain any.
 *
 * Only the network is the machine's, so that the servers of the tests are at hand.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { inject } from "vitest"
import { type Program, startProcess, toItsEnd, untilReady } from "../support/service.ts"

export interface ContainerOptions {
  /** In place of the image's `CMD`. */
  readonly command?: ReadonlyArray<string>
  /** In place of the image's `ENTRYPOINT`. */
  readonly entrypoint?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** `uid:gid`, in place of the image's `USER`. */
  readonly user?: string
  /** Folders of this machine by the container's folder that they take the place of. */
  readonly volumes?: Readonly<Record<string, { readonly source: string; readonly writable: boolean }>>
  /** Lets the root be written, as far as the user may. */
  readonly writable?: boolean
}

/** Runs as root in mounts and a process list of its own, and becomes the container's process. */
const enter = `
set -eu
root=$1 folder=$2 user=$3 access=$4 volumes=$5; shift 5
mount --bind "$root" "$root"
mount -o "remount,bind,$access" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755,size=64k tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,ro "$root/dev"
for volume in $volumes; do
  IFS=: read -r source target mode <<end
$volume
end
  mount --bind "$source" "$root$target"
  mount -o "remount,bind,$mode" "$root$target"
done
exec unshare --root="$root" --wd="$folder" -- \\
  setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --clear-groups \\
  --regid="\${user#*:}" --reuid="\${user%:*}" --pdeathsig=KILL -- "$@"
`

/** The container's process 1, as the machine sees it; `unshare` has no other child. 0 when there is none. */
const innerPid = (outer: number): number => {
  const children = `/proc/${outer}/task/${outer}/children`
  return existsSync(children) ? Number(readFileSync(children, "utf8").split(" ")[0]) : 0
}

/** What the kernel says of the container's process 1: `/proc/<pid>/status`. */
export const statusOf = (container: Program): string => readFileSync(`/proc/${innerPid(container.pid)}/status`, "utf8")

/** Starts a container; it is killed when the scope closes. */
export const startContainer = (options: ContainerOptions = {}): ReturnType<typeof startProcess> => {
  const { config, root } = inject("image")
  const { command = config.Cmd, entrypoint = config.Entrypoint, env = {}, user = config.User, volumes = {} } = options
  const access = (writable: boolean) => (writable ? "rw" : "ro")
  const mounts = Object.entries(volumes).map(
    ([target, { source, writable }]) => `${source}:${target}:${access(writable)}`
  )
  const given = Object.fromEntries(config.Env.map((entry) => entry.split(/=(.*)/s)))
  return startProcess(
    () =>
      spawn(
        "/usr/bin/setpriv",
        // When this process dies, so does the container.
        ["--pdeathsig=KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"].concat(
          ["/bin/sh", "-c", enter, "enter"],
          [root, config.WorkingDir, user, access(options.writable === true), mounts.join(" ")],
          [...entrypoint, ...command]
        ),
        { cwd: "/", env: { ...given, ...env } }
      ),
    (child, signal) => {
      // The death of the process ends everything in the container, and `unshare` with it.
      const inner = innerPid(child.pid ?? 0)
      if (inner === 0) child.kill(signal)
      else process.kill(inner, signal)
    }
  )
}

/** Runs a container to its end. */
export const runContainer = (options: ContainerOptions) => toItsEnd(startContainer(options))

/** Starts a container that serves on a port of its own and waits until it says that it is ready. */
export const startServing = (options: ContainerOptions, headers: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(
    startContainer({ ...options, env: { HTTP_PORT: "0", LOG_FORMAT: "json", ...options.env } }),
    (program) => untilReady(program, headers)
  )

/** Runs a command of the image's health check in the environment of a service: its exit code is the verdict. */
export const checkHealth = (test: ReadonlyArray<string>, env: Readonly<Record<string, string>>) => {
  const [kind, ...command] = test
  if (kind !== "CMD") throw new Error(`a health check in exec form expected, this is ${test.join(" ")}`)
  return runContainer({ entrypoint: [], command, env })
}

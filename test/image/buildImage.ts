/**
 * Builds `docker/Dockerfile` with Debian's buildah, which needs no engine: as root, on a stand-in for the base image.
 *
 * The build sees what a clone has and, like a real folder, a `.env` and other things that it must leave alone. What this
 * machine's npm knows of its registry reaches the build as the Dockerfile's own secret, with a canary in it.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { aptInstall } from "../support/apt.ts"
import { run } from "../support/commands.ts"
import { baseConfig, baseFiles, workshop } from "./baseImage.ts"

/** What an image says to those that run it. */
export interface ImageConfig {
  readonly User: string
  readonly Env: ReadonlyArray<string>
  readonly Entrypoint: ReadonlyArray<string>
  readonly Cmd: ReadonlyArray<string>
  readonly WorkingDir: string
  readonly Labels: Readonly<Record<string, string>>
  readonly ExposedPorts: Readonly<Record<string, unknown>>
  /** `Interval`, `Timeout`, `StartPeriod` in nanoseconds. */
  readonly Healthcheck: {
    readonly Test: ReadonlyArray<string>
    readonly Interval: number
    readonly Timeout: number
    readonly StartPeriod: number
    readonly Retries: number
  }
}

/** A layer as a registry would hold it. */
export interface ImageLayer {
  /** A compressed tar. */
  readonly file: string
  /** Bytes of the file. */
  readonly size: number
  readonly entries: ReadonlyArray<string>
}

export interface Image {
  readonly config: ImageConfig
  /** The files of the image, unpacked. */
  readonly root: string
  /** What the Dockerfile adds to its base. */
  readonly layers: ReadonlyArray<ImageLayer>
  /** Everything that the image says of itself, its history included. */
  readonly inspected: string
  /** What of the build's folder reaches the builder, after `.dockerignore`. */
  readonly context: ReadonlyArray<string>
}

/** Stands for a token in the secret of the build and for passwords beside the sources. */
export const canary = "canary-c54e0c1f"

const repository = fileURLToPath(new URL("../../", import.meta.url))
const tools = ["buildah", "mmdebstrap", "shellcheck"]

const installTools = async (): Promise<void> => {
  if (process.getuid?.() !== 0) throw new Error("The image is built with buildah as root")
  if (tools.every((tool) => existsSync(`/usr/bin/${tool}`))) return
  await aptInstall(tools, `The tests of the image need ${tools.join(", ")}: install them`)
}

const npmConfig = async (name: string): Promise<string> => {
  const value = (await run("npm", ["config", "get", name])).trim()
  return value === "null" || value === "undefined" ? "" : value
}

/** This machine's npm configuration in one text, with the certificates themselves in place of their file's name. */
const npmrc = async (): Promise<string> => {
  const files = await Promise.all(["userconfig", "globalconfig"].map(npmConfig))
  const given = files
    .filter((file) => existsSync(file))
    .flatMap((file) => readFileSync(file, "utf8").split("\n"))
    .filter((line) => !/^\s*(cafile|prefix|cache|;|#)/.test(line))
  const authorities = (await npmConfig("cafile")) || (process.env["NODE_EXTRA_CA_CERTS"] ?? "")
  const certificates = existsSync(authorities)
    ? (readFileSync(authorities, "utf8").match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [])
    : []
  const lines = [`registry=${await npmConfig("registry")}`, `//registry.invalid/:_authToken=${canary}`]
  for (const name of ["proxy", "https-proxy", "noproxy"]) {
    const value = await npmConfig(name)
    if (value !== "") lines.push(`${name}=${value}`)
  }
  return [...given, ...lines, ...certificates.map((text) => `ca[]=${JSON.stringify(text)}`), ""].join("\n")
}

const left = new Set([".git", ".test", ".kickoff", "node_modules", "dist", "coverage"])

/** The repository's files, and beside them what a folder in use has and no image may have. */
const prepareContext = async (folder: string): Promise<void> => {
  await mkdir(folder)
  for (const name of await readdir(repository)) {
    if (!left.has(name)) await cp(join(repository, name), join(folder, name), { recursive: true })
  }
  await mkdir(join(folder, "node_modules/left-over"), { recursive: true })
  await mkdir(join(folder, "dist"))
  await mkdir(join(folder, ".git"))
  for (const file of [
    ".env",
    ".npmrc",
    "docker/.env",
    "api-keys.json",
    "node_modules/left-over/index.js",
    "dist/main.js",
    ".git/config"
  ]) {
    await writeFile(join(folder, file), `SECRET=${canary}\n`)
  }
}

const listFiles = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted()

const baseName = async (): Promise<string> => {
  const bases = [...(await readFile(join(repository, "docker/Dockerfile"), "utf8")).matchAll(/^FROM (\S+)/gm)].map(
    ([, name]) => name ?? ""
  )
  if (new Set(bases).size !== 1) throw new Error(`docker/Dockerfile: one base expected, found ${bases.join(", ")}`)
  return bases[0] ?? ""
}

/** A folder for this run; those of runs that were killed go. */
const makeFolder = async (): Promise<string> => {
  await mkdir(workshop, { recursive: true })
  for (const name of await readdir(workshop)) {
    const owner = /^run-(\d+)$/.exec(name)?.[1]
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) await rm(join(workshop, name), { recursive: true })
  }
  const folder = join(workshop, `run-${process.pid}`)
  await mkdir(folder)
  return folder
}

interface Manifest {
  readonly layers: ReadonlyArray<{ readonly size: number; readonly digest: string }>
}

/** Builds and unpacks the image; `remove` gives the space back. */
export const buildImage = async (): Promise<{ readonly image: Image; readonly remove: () => Promise<void> }> => {
  await installTools()
  const folder = await makeFolder()
  const inside = (name: string) => join(folder, name)
  const storage = ["--root", inside("storage"), "--runroot", inside("run"), "--storage-driver", "vfs"]
  const buildah = async (...args: ReadonlyArray<string>) => (await run("buildah", [...storage, ...args])).trim()
  const bud = (...args: ReadonlyArray<string>) =>
    buildah("bud", "--quiet", "--isolation", "chroot", "--pull-never", "--format", "docker", ...args)

  /** Makes an image of a folder's files. */
  const importBase = async (name: string) => {
    const files = await baseFiles(name)
    const container = await buildah("from", "scratch")
    await run("cp", ["-a", `${files}/.`, await buildah("mount", container)])
    await buildah("config", ...baseConfig, container)
    await buildah("commit", "--rm", "--quiet", container, `docker.io/library/${name}`)
  }
  /** Where the files of an image are. */
  const unpack = async (name: string) => buildah("mount", await buildah("from", "--pull-never", name))

  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    await importBase(await baseName())
    await prepareContext(inside("context"))
    await writeFile(inside("npmrc"), await npmrc(), { mode: 0o600 })
    const dockerfile = inside("context/docker/Dockerfile")
    await bud(
      "--secret",
      `id=npmrc,src=${inside("npmrc")}`,
      "--file",
      dockerfile,
      "--tag",
      "kickoff",
      inside("context")
    )
    await writeFile(inside("Everything"), "FROM scratch\nCOPY . /\n")
    await bud("--file", inside("Everything"), "--tag", "everything", inside("context"))

    await buildah("push", "--quiet", "kickoff", `dir:${inside("published")}`)
    const manifest: Manifest = JSON.parse(await readFile(inside("published/manifest.json"), "utf8"))
    const [, ...added] = manifest.layers
    const layers = await Promise.all(
      added.map(async ({ digest, size }) => {
        const file = inside(`published/${digest.replace("sha256:", "")}`)
        return { file, size, entries: (await run("tar", ["-tzf", file])).trim().split("\n") }
      })
    )
    const inspected = await buildah("inspect", "--type", "image", "kickoff")
    const { Docker }: { readonly Docker: { readonly config: ImageConfig } } = JSON.parse(inspected)
    const image = {
      config: Docker.config,
      inspected,
      layers,
      root: await unpack("kickoff"),
      context: listFiles(await unpack("everything"))
    }
    return { image, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

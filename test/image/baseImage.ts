/**
 * A stand-in for the base image of `docker/Dockerfile`, so that it can be built where no registry of images is reached.
 *
 * Like the real one it is Debian without recommended packages, with Node.js of the same version, npm, yarn's files and a
 * user of its own. Its files are kept between runs in `.test/image`, in a folder named after what went in.
 */
import { createHash, randomBytes } from "node:crypto"
import { existsSync, readFileSync, realpathSync } from "node:fs"
import { cp, mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises"
import { basename, delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { run } from "../support/commands.ts"

/** Where the stand-in is kept, and the image while it is tested. */
export const workshop = fileURLToPath(new URL("../../.test/image/", import.meta.url))

/** The Node.js that `npm ci` installed: `package.json` and the Dockerfile name the same version. */
const node = fileURLToPath(new URL("../../node_modules/node/bin/node", import.meta.url))

/** The folder of the npm on this machine. */
const findNpm = (): string => {
  const candidates = [process.env["npm_execpath"] ?? "", ...(process.env["PATH"] ?? "").split(delimiter)].map((entry) =>
    entry.endsWith(".js") ? entry : join(entry, "npm")
  )
  for (const candidate of candidates) {
    const file = existsSync(candidate) ? realpathSync(candidate) : ""
    if (/^np[mx]-cli\.js$/.test(basename(file))) return dirname(dirname(file))
  }
  throw new Error("npm was not found on PATH")
}

/** Where this machine gets Debian's packages from. */
const findMirror = async (suite: string): Promise<string> => {
  const targets = await run("apt-get", [
    "indextargets",
    "--format",
    "$(SITE) $(RELEASE) $(COMPONENT)",
    "Created-By: Packages"
  ])
  const target = targets.split("\n").find((line) => line.endsWith(` ${suite} main`))
  return target?.split(" ")[0] ?? "http://deb.debian.org/debian"
}

const make = async (folder: string, suite: string, mirror: string): Promise<void> => {
  await run("mmdebstrap", ["--quiet", "--mode=root", "--variant=minbase", suite, folder, mirror])
  const inside = (path: string) => join(folder, path)
  await run("chroot", [folder, "useradd", "--uid", "1000", "--create-home", "node"])
  await cp(node, inside("usr/local/bin/node"))
  await mkdir(inside("usr/local/lib/node_modules"))
  await cp(findNpm(), inside("usr/local/lib/node_modules/npm"), { recursive: true, verbatimSymlinks: true })
  await symlink("../lib/node_modules/npm/bin/npm-cli.js", inside("usr/local/bin/npm"))
  await symlink("../lib/node_modules/npm/bin/npx-cli.js", inside("usr/local/bin/npx"))
  await mkdir(inside("opt/yarn-v1.22.22/bin"), { recursive: true })
  await writeFile(inside("opt/yarn-v1.22.22/bin/yarn"), "#!/bin/sh\n", { mode: 0o755 })
  await symlink("/opt/yarn-v1.22.22/bin/yarn", inside("usr/local/bin/yarn"))
  await mkdir(inside("usr/local/include/node"), { recursive: true })
  await writeFile(inside("usr/local/bin/docker-entrypoint.sh"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 })
}

/** What the base image says to those that run it. */
export const baseConfig = [
  "--env",
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  "--entrypoint",
  '["docker-entrypoint.sh"]',
  "--cmd",
  "node"
]

/** A folder with the files of the stand-in for an image like `node:24.21.0-bookworm-slim`. */
export const baseFiles = async (image: string): Promise<string> => {
  const [, version, suite] = /^node:(\d+\.\d+\.\d+)-(\w+)-slim$/.exec(image) ?? []
  if (version === undefined || suite === undefined) throw new Error(`docker/Dockerfile: no stand-in for ${image}`)
  const installed = (await run(node, ["--version"])).trim()
  if (installed !== `v${version}`) {
    throw new Error(`docker/Dockerfile has Node.js ${version}, package.json ${installed}: they must be the same`)
  }
  const mirror = await findMirror(suite)
  const npm = readFileSync(join(findNpm(), "package.json"), "utf8")
  const recipe = readFileSync(fileURLToPath(import.meta.url), "utf8")
  const key = createHash("sha256").update([image, mirror, npm, recipe].join("\n")).digest("hex").slice(0, 16)
  const folder = join(workshop, `base-${key}`)
  if (existsSync(folder)) return folder
  await mkdir(workshop, { recursive: true })
  for (const name of await readdir(workshop)) {
    if (name.startsWith("base-")) await rm(join(workshop, name), { recursive: true })
  }
  const unfinished = join(workshop, `unfinished-${randomBytes(6).toString("hex")}`)
  try {
    await make(unfinished, suite, mirror)
    await rename(unfinished, folder)
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return folder
}

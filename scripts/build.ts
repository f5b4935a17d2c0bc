/**
 * Bundles `src/main.ts` and everything it reaches, migrations included, into `dist/`: JavaScript only.
 *
 * `dist/main.js` itself stays small enough for any Node to parse; what it runs are chunks that are loaded on demand.
 */
import { build, type Plugin } from "esbuild"
import { chmodSync, readFileSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** The modules that a barrel like `effect` gives, by the names that it gives them. */
const namesOf = (barrel: string): ReadonlyMap<string, string> => {
  const text = readFileSync(fileURLToPath(import.meta.resolve(barrel)), "utf8")
  const modules = text.matchAll(/^export \* as (\w+) from "\.\/(\w+)\.js"/gm)
  return new Map([...modules].map(([, name = "", file = ""]) => [name, `${barrel}/${file}`]))
}

/** `import { A, type B } from "effect"` as imports of the modules themselves, on the same line. */
const pastBarrel = (line: string, names: string, barrel: string): string => {
  const modules = namesOf(barrel)
  const imports = names
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "))
    .map((name) => {
      const [given = "", local = given] = name.split(" as ")
      const module = modules.get(given)
      return module === undefined ? `import { ${name} } from "${barrel}"` : `import * as ${local} from "${module}"`
    })
  return `${imports.join("; ")}${"\n".repeat(line.split("\n").length - 1)}`
}

/**
 * esbuild keeps all of a module that somebody has from a barrel, which exports it as one object. Imported from where it
 * is, the same module comes without what nobody uses: less than half as much for Node.js to read at every start.
 */
const pastBarrels: Plugin = {
  name: "past barrels",
  setup: (build) =>
    build.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
      loader: "ts",
      contents: readFileSync(path, "utf8").replaceAll(/^import \{([^}]*)\} from "(effect(?:\/[\w-]+)?)"$/gm, pastBarrel)
    }))
}

rmSync(`${root}dist`, { recursive: true, force: true })
await build({
  absWorkingDir: root,
  entryPoints: ["src/main.ts"],
  outdir: "dist",
  bundle: true,
  splitting: true,
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: true,
  logLevel: "warning",
  plugins: [pastBarrels],
  // amqplib is CommonJS and requires Node's own modules at run time.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);"
  }
})
// npm makes it executable when it links `kickoff` to it, and a later build would undo that.
chmodSync(`${root}dist/main.js`, 0o755)

/**
 * Checks who imports whom in `src/`, and that SQL stands only where it is looked for. Part of `npm run check`.
 *
 * The way of the data has one direction: a room knows the rooms below it and nothing of those above.
 */
import { readdirSync, readFileSync } from "node:fs"
import { basename, dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const source = join(root, "src")

/** The rooms that each room may import from; `domain` and `Settings.ts` (the room "") are open to all. */
const allowed: Readonly<Record<string, ReadonlyArray<string>>> = {
  "": ["tls"],
  domain: [],
  observability: ["package.json"],
  tls: [],
  postgres: ["observability", "tls", "migrations"],
  messaging: ["observability", "tls"],
  outbox: ["postgres", "observability", "messaging"],
  games: ["postgres", "observability", "outbox"],
  scheduling: ["postgres", "observability", "outbox"],
  ledger: ["postgres", "observability"],
  shadow: ["scheduling", "operations", "outbox", "postgres", "observability"],
  deadLetters: ["postgres", "observability", "outbox"],
  operations: ["postgres", "observability", "outbox"],
  access: ["observability"],
  http: ["access", "games", "deadLetters", "operations", "postgres", "observability", "messaging", "package.json"],
  cli: [
    "ledger",
    "shadow",
    "operations",
    "deadLetters",
    "games",
    "scheduling",
    "outbox",
    "messaging",
    "postgres",
    "tls",
    "access",
    "http",
    "observability",
    "package.json"
  ]
}

/** Files that hold the kinds of schedule; none of them knows another. */
const isKind = (file: string) => /^scheduling\/(StatusTransition|Notification)/.test(file)

const files = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => file.replaceAll("\\", "/"))
  .toSorted()

const roomOf = (path: string): string => {
  if (path.startsWith("../")) return path.split("/")[1] ?? ""
  return path.includes("/") ? (path.split("/")[0] ?? "") : ""
}

const importsOf = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g)].map((match) => match[1] ?? "")

/** Text in tagged templates and string literals that begins like a statement. */
const sql = /(?:`|")\s*(?:SELECT|INSERT INTO|UPDATE \w|DELETE FROM|WITH \w+ AS|CREATE|ALTER|DROP)\s/

/** Names of files that may hold SQL, and the few that speak to a session rather than to a table. */
const holdsSql = (file: string) =>
  /(?:Repository|Store)\.ts$/.test(file) ||
  ["postgres/Database.ts", "postgres/Listener.ts", "outbox/Relay.ts", "outbox/gameEventData.ts"].includes(file)

const objections: Array<string> = []

for (const file of files) {
  const text = readFileSync(join(source, file), "utf8")
  const room = roomOf(file)
  const rooms = allowed[room]
  if (rooms === undefined) {
    objections.push(`src/${file}: the room "${room}" is unknown; scripts/check-imports.ts says what each may import`)
    continue
  }
  for (const specifier of importsOf(text)) {
    const target = relative(source, resolve(source, dirname(file), specifier)).replaceAll("\\", "/")
    const targetRoom = roomOf(target)
    if (target === "main.ts") objections.push(`src/${file}: nobody imports main.ts`)
    else if (targetRoom !== room && file !== "main.ts" && targetRoom !== "domain" && target !== "Settings.ts") {
      if (!rooms.includes(targetRoom)) objections.push(`src/${file}: ${room || "src"} may not import ${target}`)
    }
    if (room === "outbox" && targetRoom === "messaging" && basename(target) !== "Publisher.ts") {
      objections.push(`src/${file}: of messaging, outbox may import Publisher.ts alone`)
    }
    if (isKind(file) && isKind(target)) objections.push(`src/${file}: the kinds of schedule don't know each other`)
    if (file.startsWith("http/api/") && target.startsWith("http/") && !target.startsWith("http/api/")) {
      objections.push(`src/${file}: definitions of the API don't know what serves them`)
    }
  }
  if (!holdsSql(file) && sql.test(text)) {
    objections.push(`src/${file}: SQL stands in files named …Repository.ts or …Store.ts`)
  }
}

for (const objection of objections) process.stderr.write(`${objection}\n`)
process.stdout.write(`${files.length} files, ${objections.length} objections to imports or SQL\n`)
process.exitCode = objections.length === 0 ? 0 : 1

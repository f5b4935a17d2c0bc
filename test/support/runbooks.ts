/** The commands of `docs/OPERATIONS.md`, which whoever is woken types in: blocks of code, and what stands between the words. */
import { readFileSync } from "node:fs"

export interface RunbookCommand {
  /** The alert whose runbook it stands in; empty before the first one. */
  readonly runbook: string
  readonly language: "sql" | "sh"
  readonly text: string
}

export const operationsPage = readFileSync(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8")

/** How the commands between the words begin; anything else there is a name, a path or a value. */
const beginnings = [
  ["sql", /^(?:SELECT|ROLLBACK|VACUUM|GRANT|ALTER) |^pg_\w+\(/],
  ["sh", /^(?:kickoff|docker|rabbitmq\S*|psql|date) [^…]/]
] as const

const inWords = (text: string) => beginnings.find(([, beginning]) => beginning.test(text))?.[0]

const commandsIn = (section: string): ReadonlyArray<Omit<RunbookCommand, "runbook">> =>
  [...section.matchAll(/^```(sql|sh)\n([^]*?)^```$|`([^`\n]+)`/gm)].flatMap(([, language, block = "", words = ""]) => {
    if (language === "sql") return [{ language, text: block.trim().replace(/;$/, "") }]
    if (language === "sh")
      return block
        .trim()
        .split("\n")
        .map((text) => ({ language, text }))
    const found = inWords(words)
    return found === undefined ? [] : [{ language: found, text: words }]
  })

/** Every command of a page with runbooks, in its order. */
export const runbookCommands = (page: string): ReadonlyArray<RunbookCommand> =>
  page.split(/^## /m).flatMap((section, index) => {
    const runbook = index === 0 ? "" : (section.split("\n")[0] ?? "")
    return commandsIn(section).map((command) => ({ runbook, ...command }))
  })

/** A command by its words, with those in quotation marks as one. */
export const words = (command: string): ReadonlyArray<string> =>
  [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? "")

/** A command for a service of docker-compose.yml: the service, and what is run in it. */
export const inContainer = (text: string) => {
  const [, service = "", command = ""] = /^docker compose exec (\S+) (.+)$/.exec(text) ?? []
  return { service, command }
}

/** Commands for the broker, without what leads into its container. */
export const brokerCommands: ReadonlyArray<string> = runbookCommands(operationsPage)
  .map(({ text }) => inContainer(text))
  .filter(({ service }) => service === "rabbitmq")
  .map(({ command }) => command)

/** What a person puts something else in place of: a session, a prepared transaction, a slot, a game or a dead letter. */
export const placeholders = {
  pid: /(?<=pg_terminate_backend\()pid/,
  gid: /(?<=')gid(?=')/,
  slot: /(?<=')slot_name(?=')/,
  id: /\bID\b/
} as const

/** Whether a command cannot be run as it stands. */
export const hasPlaceholder = ({ text }: Pick<RunbookCommand, "text">): boolean =>
  Object.values(placeholders).some((placeholder) => placeholder.test(text))

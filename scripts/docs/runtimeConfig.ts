/** The page on environment variables, from their definitions: whoever adds one to `src/Settings.ts` is done. */
import { ConfigProvider, Effect, Equal, Exit } from "effect"
import { roles, type Setting, settings } from "../../src/Settings.ts"

const introduction = `# Runtime configuration

Written by \`npm run docs\` from [src/Settings.ts](../src/Settings.ts); a test fails while it says something else.

Every process reads these environment variables once, at its start. An empty one counts as unset. A value that cannot be is exit code 2 and a line that names the variable and what was
expected; the value of a secret is never shown, there or anywhere else. Nothing is read from files but what a variable names.

A variable makes a difference to processes with one of the named roles; for all others it is checked and not used. Commands like \`kickoff verify\` or \`doctor\` read the same ones.`

/** The default: as it could be written where it is a value, else in words. */
const fallback = (setting: Setting<unknown>): string => {
  const read = (environment: Readonly<Record<string, string>>) =>
    Effect.runSyncExit(setting.config.parse(ConfigProvider.fromUnknown(environment)))
  const written = read({ [setting.name]: setting.fallback })
  return Exit.isSuccess(written) && Equal.equals(written, read({})) ? `\`${setting.fallback}\`` : setting.fallback
}

const usedBy = (setting: Setting<unknown>): string =>
  setting.roles.length === roles.length ? "all" : setting.roles.map((role) => `\`${role}\``).join(", ")

const row = (setting: Setting<unknown>): string => {
  const secret = setting.secret ? "**secret**; " : ""
  const cells = [
    `\`${setting.name}\``,
    setting.accepts,
    fallback(setting),
    usedBy(setting),
    `${secret}${setting.meaning}`
  ]
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
}

/** The page as it should be. */
export const runtimeConfig = (): string =>
  [
    introduction,
    "",
    "| variable | value | default | roles | meaning |",
    "| --- | --- | --- | --- | --- |",
    ...Object.values(settings).map(row),
    ""
  ].join("\n")

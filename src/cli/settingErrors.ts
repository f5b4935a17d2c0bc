/** How a bad setting is told in one line. Its value is shown only where it cannot be a secret. */
import type { Config } from "effect"
import { settings } from "../Settings.ts"

const longestValue = 100

const isSecret = (name: string) => Object.values(settings).some((setting) => setting.name === name && setting.secret)

/** `HTTP_PORT: Expected a whole number from 0 to 65535, got "abc"`. */
export const describeConfigError = (
  error: Config.ConfigError,
  environment: Readonly<Record<string, string | undefined>>
): string => {
  const text = error.message.replaceAll(/\s+/g, " ").trim()
  const parts = /^SchemaError\((.*) at \["([A-Z_]+)"\]\)$/.exec(text)
  if (parts === null) return text
  const [, expected = "", name = ""] = parts
  const value = environment[name]
  return value === undefined || isSecret(name)
    ? `${name}: ${expected}`
    : `${name}: ${expected}, got ${JSON.stringify(value.slice(0, longestValue))}`
}

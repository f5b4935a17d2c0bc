/**
 * Failures of the command line, and how a bad setting is told in one line.
 *
 * The value of a setting is shown only where it cannot be a secret.
 */
import { type Config, Schema } from "effect"
import { settings } from "../Settings.ts"

/** The reason was logged in the log's own format; there is nothing more to say but the exit code. */
export class AlreadyLogged extends Schema.TaggedError<AlreadyLogged>()("AlreadyLogged", {}) {
  override get message() {
    return "The reason was logged"
  }
}

/** An argument or variable that the commands judge themselves. */
export class BadArgument extends Schema.TaggedError<BadArgument>()("BadArgument", {
  name: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.name}: ${this.detail}`
  }
}

/** The database did not do what it was asked. */
export class DatabaseFailed extends Schema.TaggedError<DatabaseFailed>()("DatabaseFailed", { detail: Schema.String }) {
  override get message() {
    return `the database refused: ${this.detail}`
  }
}

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

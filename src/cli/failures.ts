/** Failures of the command line. Each message is one line; which exit code it means is for `run.ts` to say. */
import { Schema } from "effect"

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

/** A variable whose value cannot be read, see {@link describeConfigError}. */
export class BadSetting extends Schema.TaggedError<BadSetting>()("BadSetting", { line: Schema.String }) {
  override get message() {
    return this.line
  }
}

/** Another system does the work on the database, so that this command is refused there. */
export class DatabaseInShadow extends Schema.TaggedError<DatabaseInShadow>()("DatabaseInShadow", {
  because: Schema.String
}) {
  override get message() {
    return `the database is in shadow: ${this.because}`
  }
}

/** The database did not do what it was asked. */
export class DatabaseFailed extends Schema.TaggedError<DatabaseFailed>()("DatabaseFailed", { detail: Schema.String }) {
  override get message() {
    return `the database refused: ${this.detail}`
  }
}

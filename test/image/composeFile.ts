/**
 * `docker-compose.yml` twice: as it is written, and as docker-compose understands it with the values of an `.env`.
 *
 * Debian's docker-compose checks and resolves it without an engine. What differs between its versions (ports, limits,
 * volumes) is read from the file itself.
 */
import { Schema } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parse } from "yaml"
import { aptInstall } from "../support/apt.ts"
import { run } from "../support/commands.ts"

export const repository = fileURLToPath(new URL("../../", import.meta.url))
export const composeText = readFileSync(join(repository, "docker-compose.yml"), "utf8")

const Texts = Schema.Array(Schema.String)

const Service = Schema.Struct({
  image: Schema.String,
  restart: Schema.String,
  user: Schema.optionalKey(Schema.String),
  read_only: Schema.optionalKey(Schema.Boolean),
  privileged: Schema.optionalKey(Schema.Boolean),
  cap_drop: Texts,
  cap_add: Schema.optionalKey(Texts),
  security_opt: Texts,
  pids_limit: Schema.Int,
  deploy: Schema.Struct({
    resources: Schema.Struct({ limits: Schema.Struct({ cpus: Schema.String, memory: Schema.String }) })
  }),
  profiles: Schema.optionalKey(Texts),
  networks: Texts,
  ports: Schema.optionalKey(Texts),
  volumes: Schema.optionalKey(Texts),
  environment: Schema.optionalKey(Schema.Record(Schema.String, Schema.String))
})

/** The services as they are written, with what they inherit. */
export const written = Schema.decodeUnknownSync(
  Schema.Struct({
    services: Schema.Record(Schema.String, Service),
    networks: Schema.Record(
      Schema.String,
      Schema.NullOr(Schema.Struct({ internal: Schema.optionalKey(Schema.Boolean) }))
    )
  })
)(parse(composeText, { merge: true }))

const ResolvedService = Schema.Struct({
  entrypoint: Schema.optionalKey(Texts),
  command: Schema.optionalKey(Texts),
  environment: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  depends_on: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ condition: Schema.String }))),
  healthcheck: Schema.Struct({
    test: Schema.optionalKey(Texts),
    disable: Schema.optionalKey(Schema.Boolean),
    interval: Schema.optionalKey(Schema.String),
    timeout: Schema.optionalKey(Schema.String)
  }),
  stop_grace_period: Schema.String
})

export type ResolvedService = typeof ResolvedService.Type

const Resolved = Schema.Struct({ services: Schema.Record(Schema.String, ResolvedService) })

/** Runs docker-compose on the file, in an environment without variables of the machine; installs it where it can. */
export const dockerCompose = async (envFile: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const program = "/usr/bin/docker-compose"
  if (!existsSync(program)) await aptInstall(["docker-compose"], "The tests of docker-compose.yml need docker-compose.")
  const file = join(repository, "docker-compose.yml")
  return run(
    program,
    ["--file", file, "--env-file", envFile, "--profile", "monitoring", "--profile", "tools", ...args],
    {
      env: { PATH: process.env["PATH"] }
    }
  )
}

/** The services as docker-compose would start them with the values of `envFile`. */
export const resolve = async (envFile: string): Promise<Readonly<Record<string, ResolvedService>>> =>
  Schema.decodeUnknownSync(Resolved)(parse(await dockerCompose(envFile, "config"))).services

/** Seconds in a duration like `1m30s`. */
export const inSeconds = (duration: string): number => {
  const [, minutes = "0", seconds = "0"] = /^(?:(\d+)m)?(?:(\d+)s)?$/.exec(duration) ?? []
  return Number(minutes) * 60 + Number(seconds)
}

/** `kickoff serve`: parses its flags, then loads and runs the service. */
import { ConfigProvider, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { roles, settings } from "../Settings.ts"
import { BadArgument } from "./failures.ts"
import { json } from "./json.ts"

const rolesFlag = Flag.String("roles").pipe(
  Flag.withDescription(
    `Parts of the service that this process plays, instead of ${settings.roles.name}: ${roles.join(",")}`
  ),
  Flag.withMetavar("list"),
  Flag.optional
)

/** What the flags say in place of variables; roles that are none are a bad argument. */
const fromFlags = Effect.fnUntraced(function* ({ json, roles: text }: Flags) {
  const logs = json ? { [settings.logFormat.name]: "json" } : {}
  if (Option.isNone(text)) return logs
  if (text.value.trim() === "") return yield* new BadArgument({ name: "--roles", detail: "Expected at least one role" })
  const played = { [settings.roles.name]: text.value }
  yield* settings.roles.config.parse(ConfigProvider.fromUnknown(played)).pipe(
    Effect.mapError(
      () =>
        new BadArgument({
          name: "--roles",
          detail: `Expected a comma-separated list of ${roles.join(", ")}, got ${JSON.stringify(text.value)}`
        })
    )
  )
  return { ...logs, ...played }
})

interface Flags {
  readonly json: boolean
  readonly roles: Option.Option<string>
}

export const serve = Command.make(
  "serve",
  {
    roles: rolesFlag,
    json: Flag.withDescription(json, `Log as JSON, whatever ${settings.logFormat.name} says`)
  },
  Effect.fnUntraced(function* (flags: Flags) {
    const provider = ConfigProvider.orElse(
      ConfigProvider.fromUnknown(yield* fromFlags(flags)),
      yield* ConfigProvider.ConfigProvider
    )
    const { service } = yield* Effect.promise(() => import("./service.ts"))
    yield* service.pipe(Effect.provideService(ConfigProvider.ConfigProvider, provider))
  })
).pipe(Command.withDescription("Start, remind and complete games on time, until stopped"))

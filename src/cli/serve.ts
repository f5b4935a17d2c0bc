/** `kickoff serve`: parses its flags, then loads and runs the service. */
import { ConfigProvider, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { roles, settings } from "../Settings.ts"
import { BadArgument } from "./failures.ts"

const rolesFlag = Flag.String("roles").pipe(
  Flag.withDescription(
    `Parts of the service that this process plays, instead of ${settings.roles.name}: ${roles.join(",")}`
  ),
  Flag.withMetavar("list"),
  Flag.optional
)

/** The environment with the flag's roles in place of the variable's. */
const withRoles = (text: string) =>
  Effect.gen(function* () {
    const flag = ConfigProvider.fromUnknown({ [settings.roles.name]: text })
    if (text.trim() === "") return yield* new BadArgument({ name: "--roles", detail: "Expected at least one role" })
    yield* settings.roles.config.parse(flag).pipe(
      Effect.mapError(
        () =>
          new BadArgument({
            name: "--roles",
            detail: `Expected a comma-separated list of ${roles.join(", ")}, got ${JSON.stringify(text)}`
          })
      )
    )
    return ConfigProvider.orElse(flag, yield* ConfigProvider.ConfigProvider)
  })

export const serve = Command.make(
  "serve",
  { roles: rolesFlag },
  Effect.fnUntraced(function* ({ roles }) {
    const provider = Option.isSome(roles) ? yield* withRoles(roles.value) : yield* ConfigProvider.ConfigProvider
    const { service } = yield* Effect.promise(() => import("./service.ts"))
    yield* service.pipe(Effect.provideService(ConfigProvider.ConfigProvider, provider))
  })
).pipe(Command.withDescription("Start, remind and complete games on time, until stopped"))

/** Lets writes through, unless this process is a shadow: then each of them is refused, whatever it asks for. */
import { Effect, Layer } from "effect"
import { Settings } from "../../Settings.ts"
import { InShadow } from "../api/problems.ts"
import { Writing } from "../api/Writing.ts"

export const layer = Layer.effect(
  Writing,
  Effect.map(Settings, ({ shadow }) =>
    Writing.of((handler) =>
      shadow
        ? Effect.fail(
            new InShadow({
              detail:
                "Another system does the work, and this one records what it would do (KICKOFF_SHADOW): it changes nothing"
            })
          )
        : handler
    )
  )
)

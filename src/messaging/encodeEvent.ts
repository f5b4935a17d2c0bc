/** The bytes of an event on the wire: its envelope as structured JSON. */
import { Effect, Result } from "effect"
import type { CloudEvent } from "../domain/GameEvent.ts"
import { EventRefused } from "./Publisher.ts"

/** Fails when the data is not JSON: that is a fault of this very event. */
export const encodeEvent = (event: CloudEvent): Effect.Effect<Buffer, EventRefused> =>
  Effect.fromResult(
    Result.try({
      try: () => Buffer.from(JSON.stringify(event)),
      catch: (error) => new EventRefused({ detail: `it could not be encoded: ${String(error)}` })
    })
  )

/**
 * Declares who may use a route: a caller with an API key of the route's scope, or anybody where no keys are asked for.
 *
 * Every endpoint of `/v1` stands behind it and carries the scope that it needs; one without a scope is a defect.
 */
import { Context } from "effect"
import { HttpApiMiddleware, HttpApiSecurity, OpenApi } from "effect/http-api"
import type { Scope } from "../../access/apiKey.ts"
import type { Caller } from "../../domain/Caller.ts"
import { Forbidden, TooManyRequests, Unauthorized } from "./problems.ts"

/** The scope that a key needs for a route; said of an endpoint or of its group. */
export class NeededScope extends Context.Service<NeededScope, Scope>()("kickoff/http/api/NeededScope") {}

export class Authentication extends HttpApiMiddleware.Service<Authentication, { provides: Caller }>()(
  "kickoff/http/api/Authentication",
  {
    error: [Unauthorized, Forbidden, TooManyRequests],
    security: {
      api_key: HttpApiSecurity.bearer.pipe(
        HttpApiSecurity.annotate(
          OpenApi.Description,
          "An API key of `kickoff keys create`, as `Authorization: Bearer kickoff_…` and in no other place. Reading " +
            "games needs the scope `read`, planning and changing them `write`, dead letters and pauses need `operate`. A key may " +
            "be limited to guilds: games of others, with all that belongs to them, are not there for it. A service " +
            "that listens on its own machine alone may ask for no keys."
        )
      )
    }
  }
) {}

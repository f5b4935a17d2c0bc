/**
 * Lets requests in: finds out whose key they carry, whether it is used too often, and whether it is good for the route.
 *
 * It comes before anything of the request is read but its head. Where no keys are asked for, only this machine can connect,
 * and a browser on it is kept from doing so on behalf of a page of somebody else.
 */
import { Context, Effect, Layer, Redacted } from "effect"
import { HttpServerRequest } from "effect/http"
import type { HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { RateLimiter } from "effect/persistence"
import type { Scope } from "../../access/apiKey.ts"
import { ApiKeys } from "../../access/ApiKeys.ts"
import { Caller } from "../../domain/Caller.ts"
import { Settings } from "../../Settings.ts"
import { Authentication, NeededScope } from "../api/Authentication.ts"
import { Forbidden, TooManyRequests, Unauthorized } from "../api/problems.ts"
import { isLocalName } from "../exposure.ts"

/** The scope of a route; one that stands behind the middleware without a scope is a defect. */
const neededScope = (endpoint: HttpApiEndpoint.Top, group: HttpApiGroup.Top): Scope =>
  Context.getUnsafe(Context.merge(group.annotations, endpoint.annotations), NeededScope)

/**
 * A page may be given a name that leads to this machine ("DNS rebinding"), and a form may be sent to it from anywhere. A
 * browser tells of the first by `Host` and of the second by `Sec-Fetch-Site`.
 */
const requireOwnPage = Effect.fnUntraced(function* () {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  const { host } = headers
  if (host !== undefined && !isLocalName(host)) {
    yield* new Forbidden({
      detail: "Without API keys only requests to this machine's own name are answered, and Host says another one"
    })
  }
  const site = headers["sec-fetch-site"]
  if (site !== undefined && site !== "same-origin" && site !== "none") {
    yield* new Forbidden({ detail: "Without API keys requests of other sites' pages are not answered" })
  }
})

export const layer = Layer.effect(
  Authentication,
  Effect.gen(function* () {
    const keys = yield* ApiKeys
    const limiter = yield* RateLimiter.RateLimiter
    const { rateLimit } = yield* Settings
    const scopes = new WeakMap<HttpApiEndpoint.Top, Scope>()

    const scopeOf = (endpoint: HttpApiEndpoint.Top, group: HttpApiGroup.Top) => {
      const known = scopes.get(endpoint) ?? neededScope(endpoint, group)
      scopes.set(endpoint, known)
      return known
    }

    return Authentication.of({
      api_key: Effect.fnUntraced(function* (handler, { credential, endpoint, group }) {
        if (!keys.required) {
          yield* requireOwnPage()
          return yield* Effect.provideService(handler, Caller, Caller.anybody)
        }
        const identity = keys.find(Redacted.value(credential))
        if (identity === undefined) {
          return yield* new Unauthorized({ detail: "Expected an API key, as Authorization: Bearer kickoff_…" })
        }
        yield* Effect.mapError(
          limiter.consume({
            algorithm: "token-bucket",
            window: "1 second",
            limit: rateLimit,
            key: identity.caller.name
          }),
          () => new TooManyRequests({ detail: `More than ${rateLimit} requests in a second; try again in one` })
        )
        const scope = scopeOf(endpoint, group)
        if (!identity.scopes.has(scope)) {
          return yield* new Forbidden({ detail: `This needs an API key with the scope ${scope}` })
        }
        return yield* Effect.provideService(handler, Caller, identity.caller)
      })
    })
  })
).pipe(Layer.provide(RateLimiter.layer), Layer.provide(RateLimiter.layerStoreMemory))

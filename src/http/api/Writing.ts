/** Declares that a route changes something, which a service in shadow refuses to do. */
import { HttpApiMiddleware } from "effect/http-api"
import { InShadow } from "./problems.ts"

export class Writing extends HttpApiMiddleware.Service<Writing>()("kickoff/http/api/Writing", { error: InShadow }) {}

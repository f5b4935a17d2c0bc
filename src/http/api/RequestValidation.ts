/** Declares that a request which does not fit its schema is answered with an `InvalidRequest` problem. */
import { HttpApiMiddleware } from "effect/http-api"
import { InvalidRequest } from "./problems.ts"

export class RequestValidation extends HttpApiMiddleware.Service<RequestValidation>()(
  "kickoff/http/api/RequestValidation",
  { error: InvalidRequest }
) {}

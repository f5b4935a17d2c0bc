/** The whole API, and the part of it that processes without the role `api` serve. */
import packageJson from "../../../package.json" with { type: "json" }
import { HttpApi, OpenApi } from "effect/http-api"
import { DeadLettersApi } from "./DeadLettersApi.ts"
import { GamesApi } from "./GamesApi.ts"
import { OperationsApi } from "./OperationsApi.ts"
import { PausesApi } from "./PausesApi.ts"

/** What a process with the role `api` serves. */
export class Api extends HttpApi.make("kickoff")
  .add(GamesApi, DeadLettersApi, PausesApi, OperationsApi)
  .annotate(OpenApi.Title, "Kickoff")
  .annotate(OpenApi.Version, packageJson.version)
  .annotate(OpenApi.Servers, [{ url: "/", description: "Where this description comes from" }])
  .annotate(
    OpenApi.Description,
    "The clock of a game-session platform. Errors are RFC 9457 problems; instants are RFC 3339 with an offset. " +
      "A path that is not here is answered with 404, a method that is not here with 405 and `Allow`; `HEAD` comes with " +
      "`GET`. A request that does not arrive in time gets 408, headers of more than 16 KiB 431. With 401 comes " +
      "`WWW-Authenticate`, with 429 and 503 `Retry-After`."
  ) {}

/** What every process serves. */
export class ProcessApi extends HttpApi.make("kickoff").add(OperationsApi) {}

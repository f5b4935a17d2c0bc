/** Which routes there are: for the `Allow` of a 405, and for labels of metrics that carry no ids. */
import { HttpApi, type HttpApiGroup } from "effect/http-api"

export interface Route {
  readonly method: string
  /** With parameters, like `/v1/games/:id`. */
  readonly template: string
}

/** The routes of a path: the same template, different methods. */
export type MatchPath = (url: string) => ReadonlyArray<Route>

/** The routes of an API and those that stand beside it. */
export const makeMatchPath = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  others: ReadonlyArray<string>
): MatchPath => {
  const routes: Array<Route> = others.map((template) => ({ method: "GET", template }))
  HttpApi.reflect(api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint }) => routes.push({ method: endpoint.method, template: endpoint.path })
  })
  const patterns = routes.map((route) => ({
    route,
    pattern: new RegExp(`^${route.template.replaceAll(/:[a-z_]+/g, "[^/]+").replaceAll(".", "\\.")}$`, "i")
  }))
  return (url) => {
    // The router does not care about doubled and trailing slashes, nor about capitals, and ends at a semicolon as well.
    const path = (url.split(/[?;#]/, 1)[0] ?? "").replaceAll(/\/+/g, "/").replace(/(.)\/$/, "$1")
    return patterns.filter(({ pattern }) => pattern.test(path)).map(({ route }) => route)
  }
}

/** The methods that these routes answer; `HEAD` comes with `GET`. */
export const methodsOf = (routes: ReadonlyArray<Route>): ReadonlyArray<string> =>
  [...new Set(routes.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method])))].toSorted()

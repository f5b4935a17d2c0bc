import { assert, describe, it } from "@effect/vitest"
import { OpenApi } from "effect/http-api"
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Api, ProcessApi } from "../../src/http/api/Api.ts"
import { renderDocs } from "../../src/http/docs.ts"
import { makeMatchPath, methodsOf } from "../../src/http/routes.ts"

const match = makeMatchPath(Api, ["/docs"])

describe("a path", () => {
  it("is known by its template, without ids, query or needless slashes", () => {
    for (const url of [
      "/v1/games/1",
      "/v1/games/1?x=/v1",
      "/v1//games/1/",
      "/V1/Games/1",
      "/v1/games/1;/a",
      "/v1/games/%zz#a"
    ]) {
      assert.deepStrictEqual([...new Set(match(url).map(({ template }) => template))], ["/v1/games/:id"], url)
    }
    assert.deepStrictEqual(match("/v1/games/1/2"), [])
    assert.deepStrictEqual(match("/v2/games"), [])
  })

  it("knows its methods, HEAD wherever there is GET", () => {
    assert.deepStrictEqual(methodsOf(match("/v1/games/1")), ["DELETE", "GET", "HEAD", "PATCH"])
    assert.deepStrictEqual(methodsOf(match("/v1/games/1/cancel")), ["POST"])
    assert.deepStrictEqual(methodsOf(match("/docs")), ["GET", "HEAD"])
  })

  it("is no path of the API in a process without that role", () => {
    assert.deepStrictEqual(makeMatchPath(ProcessApi, [])("/v1/games"), [])
  })
})

describe("the description", () => {
  const { components, paths } = OpenApi.fromApi(Api)
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    (["get", "post", "put", "patch", "delete"] as const).flatMap((method) => {
      const operation = item[method]
      return operation === undefined ? [] : [{ path, name: `${method} ${path}`, operation }]
    })
  )
  const isGuarded = ({ path }: { readonly path: string }) => path.startsWith("/v1/")

  it("says that a key is needed for all of /v1, and for nothing else", () => {
    assert.deepInclude(components.securitySchemes["api_key"], { type: "http", scheme: "Bearer" })
    assert.isAbove(operations.filter(isGuarded).length, 10)
    for (const each of operations) {
      assert.deepStrictEqual(each.operation.security, isGuarded(each) ? [{ api_key: [] }] : [], each.name)
    }
  })

  it("lists for every route what the edge may answer", () => {
    for (const { name, operation } of operations) {
      assert.include(JSON.stringify(operation.responses[400]), "/BadRequest", name)
      assert.include(JSON.stringify(operation.responses[503]), "/ServiceUnavailable", name)
    }
  })

  it("lists every refusal that a client may meet, as a problem", () => {
    for (const { name, operation } of operations.filter(isGuarded)) {
      const refusals = [
        "400",
        "401",
        "403",
        "429",
        "503",
        ...(operation.requestBody === undefined ? [] : ["413", "415"])
      ]
      for (const status of refusals) {
        const content = Object.keys(operation.responses[Number(status)]?.content ?? {})
        assert.deepStrictEqual(content, ["application/problem+json"], `${name} ${status}`)
      }
    }
  })
})

const redocly = fileURLToPath(new URL("../../node_modules/@redocly/cli/bin/cli.js", import.meta.url))

/** What Redocly's recommended rules have to say of a description, as the names of the rules. */
const lint = (description: object): ReadonlyArray<string> => {
  const folder = mkdtempSync(join(tmpdir(), "kickoff-openapi-"))
  try {
    writeFileSync(join(folder, "openapi.json"), JSON.stringify(description))
    // Nobody has decided on a licence yet.
    const options = ["--extends=recommended", "--skip-rule=info-license", "--format=json"]
    const { stdout } = spawnSync(process.execPath, [redocly, "lint", "openapi.json", ...options], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" }
    })
    const { problems } = JSON.parse(stdout) as { readonly problems: ReadonlyArray<{ readonly ruleId: string }> }
    return problems.map(({ ruleId }) => ruleId)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe("the linter of descriptions", () => {
  const description = OpenApi.fromApi(Api)

  it("has neither an error nor a warning for ours, and would have for another", () => {
    assert.deepStrictEqual(lint(description), [])
    assert.include(lint({ ...description, servers: [] }), "no-empty-servers")
  })
})

describe("the documentation page", () => {
  const page = renderDocs(Api, "/openapi.json")

  it("shows every route and links to nothing that is not there", () => {
    for (const path of ["/v1/games/{id}/cancel", "/v1/games/{id}/schedule", "/health/ready", "/metrics"]) {
      assert.include(page, path)
    }
    const ids = new Set([...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id))
    const links = [...page.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id)
    assert.isNotEmpty(links)
    assert.deepStrictEqual(
      links.filter((id) => !ids.has(id)),
      []
    )
  })

  it("is small and needs no script", () => {
    assert.isBelow(page.length, 100_000)
    assert.notInclude(page, "<script")
  })
})

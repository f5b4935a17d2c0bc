/**
 * The documentation page: the OpenAPI description as one small page of HTML, without scripts.
 *
 * Rendered once from the same definitions that serve the routes. The ready-made viewers weigh three megabytes each.
 */
import type { HttpApi, HttpApiGroup } from "effect/http-api"
import { OpenApi } from "effect/http-api"
import { hash } from "node:crypto"

/**
 * The `Content-Security-Policy` of a page: nothing but its own style, and in no frame. What an API's definitions say is
 * escaped; this is for the day when something is not.
 */
export const policyOf = (page: string): string => {
  const hashes = [...page.matchAll(/<style>([^]*?)<\/style>/g)].map(
    ([, text = ""]) => `'sha256-${hash("sha256", text, "base64")}'`
  )
  return `default-src 'none'; style-src ${hashes.join(" ")}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
}

/** Renders an API; `descriptionPath` is where the same is served for machines. */
export const renderDocs = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  descriptionPath: string
): string => {
  const { components, info, paths, tags } = OpenApi.fromApi(api)
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    methods.flatMap((method) => {
      const operation = item[method]
      return operation === undefined ? [] : [{ path, method, operation }]
    })
  )
  const sections = tags.map(
    (tag) =>
      html`<section>
        <h2>${tag.name}</h2>
        <p>${tag.description ?? ""}</p>
        ${raw(
          operations
            .filter(({ operation }) => operation.tags.includes(tag.name))
            .map(renderOperation)
            .join("\n")
        )}
      </section>`
  )
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      html`<details id="${name}">
        <summary><code>${name}</code></summary>
        ${raw(json(schema))}
      </details>`
  )
  return html`<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <title>${info.title} API</title>
      <style>
        ${raw(style)}
      </style>
      <main>
        <h1>${info.title} <small>${info.version}</small></h1>
        <p>${info.description ?? ""} For machines: <a href="${descriptionPath}">${descriptionPath}</a></p>
        ${raw(sections.join("\n"))}
        <section>
          <h2>schemas</h2>
          ${raw(schemas.join("\n"))}
        </section>
      </main>
    </html> `
}

const methods = ["get", "post", "put", "patch", "delete"] as const

interface Described {
  readonly path: string
  readonly method: string
  readonly operation: OpenApi.OpenAPISpecOperation
}

const renderOperation = ({ method, operation, path }: Described): string => {
  const parameters = operation.parameters.map(
    ({ in: place, name, required, schema }) =>
      html`<tr>
        <td><code>${name}</code></td>
        <td>${place}${required ? ", required" : ""}</td>
        <td>${describe(schema)}</td>
      </tr>`
  )
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(
    ([type, content]) => html`<p>Body, <code>${type}</code>: ${raw(reference(content?.schema))}</p>`
  )
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const contents = Object.entries(response.content ?? {}).map(([, content]) => reference(content?.schema))
    return html`<tr>
      <td><code>${status}</code></td>
      <td>${response.description}</td>
      <td>${raw(contents.join(" "))}</td>
    </tr>`
  })
  return html`<article>
    <h3>
      <code><b class="${method}">${method.toUpperCase()}</b> ${path}</code>
    </h3>
    <p>${operation.summary ?? ""}${operation.description === undefined ? "" : `. ${operation.description}`}</p>
    ${raw(parameters.length === 0 ? "" : `<table>${parameters.join("")}</table>`)} ${raw(bodies.join(""))}
    <table>
      ${raw(responses.join(""))}
    </table>
  </article>`
}

const nameOf = (schema: object | undefined): string | undefined =>
  schema !== undefined && "$ref" in schema && typeof schema.$ref === "string"
    ? schema.$ref.split("/").at(-1)
    : undefined

/** A link to a named schema, or to each of several; the schema itself otherwise. */
const reference = (schema: object | undefined): string => {
  const name = nameOf(schema)
  if (name !== undefined) return html`<a href="#${name}"><code>${name}</code></a>`
  if (schema !== undefined && "anyOf" in schema && Array.isArray(schema.anyOf)) {
    return schema.anyOf.map(reference).join(" or ")
  }
  return schema === undefined ? "" : json(schema)
}

const describe = (schema: object): string => {
  if ("description" in schema && typeof schema.description === "string") return schema.description
  if ("enum" in schema && Array.isArray(schema.enum)) return schema.enum.join(", ")
  if ("format" in schema && typeof schema.format === "string") return schema.format
  return "type" in schema && typeof schema.type === "string" ? schema.type : ""
}

const json = (value: unknown): string => html`<pre>${JSON.stringify(value, undefined, 2)}</pre>`

/** Text that is HTML already. */
class Raw {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}
const raw = (text: string): Raw => new Raw(text)

const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" }

/** A template whose values are escaped unless they are {@link Raw}. */
const html = (parts: TemplateStringsArray, ...values: ReadonlyArray<string | Raw>): string =>
  String.raw(
    { raw: parts },
    ...values.map((value) =>
      value instanceof Raw ? value.text : value.replaceAll(/[&<>"]/g, (character) => entities[character] ?? "")
    )
  )

const style = `
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 }
main { max-width: 56rem; margin: 0 auto; padding: 1rem }
article { border-top: 1px solid #8884; padding: .5rem 0 }
h3 { margin: .5rem 0 }
b { color: #0a66c2 } b.post, b.patch { color: #1a7f37 } b.delete { color: #cf222e }
table { border-collapse: collapse; margin: .5rem 0; width: 100% }
td { padding: .15rem .75rem .15rem 0; vertical-align: top }
td:first-child { white-space: nowrap; width: 10rem }
pre { overflow: auto; background: #8882; padding: .5rem }
`

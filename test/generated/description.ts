/** The OpenAPI description as the tests of generated requests read it: what may be asked, and what may be answered. */
import addFormats from "ajv-formats"
import { Ajv2020 } from "ajv/dist/2020.js"
import type { JsonSchema } from "effect"

export interface Parameter {
  readonly name: string
  readonly in: "path" | "query" | "header"
  readonly required: boolean
  readonly schema: JsonSchema.JsonSchema
}

interface DescribedResponse {
  readonly headers?: Readonly<Record<string, { readonly required?: boolean }>>
  readonly content?: Readonly<Record<string, { readonly schema: JsonSchema.JsonSchema }>>
}

interface DescribedOperation {
  readonly parameters: ReadonlyArray<Parameter>
  readonly requestBody?: { readonly content: DescribedResponse["content"] }
  readonly responses: Readonly<Record<string, DescribedResponse>>
}

/** What the tests use of a description; the linter has found it to be one. */
export interface OpenApiDescription {
  readonly paths: Readonly<Record<string, Readonly<Record<string, DescribedOperation>>>>
  readonly components: { readonly schemas: JsonSchema.Definitions }
}

export interface Operation {
  /** Like `GET /v1/games/{id}`. */
  readonly name: string
  readonly method: string
  readonly template: string
  readonly parameters: ReadonlyArray<Parameter>
  /** The schema of its JSON body, if it takes one. */
  readonly body: JsonSchema.JsonSchema | undefined
  readonly responses: DescribedOperation["responses"]
}

export const operationsOf = ({ paths }: OpenApiDescription): ReadonlyArray<Operation> =>
  Object.entries(paths).flatMap(([template, item]) =>
    Object.entries(item).map(([verb, { parameters, requestBody, responses }]) => ({
      name: `${verb.toUpperCase()} ${template}`,
      method: verb.toUpperCase(),
      template,
      parameters,
      body: requestBody?.content?.["application/json"]?.schema,
      responses
    }))
  )

export interface GivenAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly text: string
}

const pointer = (...segments: ReadonlyArray<string>) =>
  segments.map((segment) => `/${encodeURIComponent(segment.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("")

/** A path as the router takes it: it minds neither capitals nor needless slashes, and ends at a semicolon as well. */
const normalize = (url: string) => (url.split(/[?;#]/, 1)[0] ?? "").replaceAll(/\/+/g, "/").replace(/(.)\/$/, "$1")

/** Whether the router can read a path; one that it cannot leads nowhere. */
const isReadable = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return !/[^/]{101}/.test(path)
  } catch {
    return false
  }
}

/** Judges answers. */
export const makeJudge = (description: OpenApiDescription, undescribed: ReadonlyArray<string>) => {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  addFormats.default(ajv)
  ajv.addSchema(description, "openapi")
  const operations = operationsOf(description)
  const patterns = [...new Set(operations.map(({ template }) => template))].map((template) => ({
    template,
    pattern: new RegExp(`^${template.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`, "i")
  }))

  const objectionsToBody = (name: string, schema: string, body: unknown): ReadonlyArray<string> => {
    const validate = ajv.getSchema(`openapi#${schema}`)
    if (validate === undefined) return [`there is no schema for the body of ${name}`]
    if (validate(body) === true) return []
    return (validate.errors ?? []).map(({ instancePath, message }) => `the body of ${name}: ${instancePath} ${message}`)
  }

  const objectionsToProblem = ({ headers, status, text }: GivenAnswer, isHead: boolean): ReadonlyArray<string> => {
    if (headers["content-type"] !== "application/problem+json")
      return [`an error of type ${String(headers["content-type"])}`]
    if (isHead) return text === "" ? [] : ["HEAD with a body"]
    const body = JSON.parse(text)
    return [
      ...["type", "title", "detail"].filter((member) => typeof body[member] !== "string").map((name) => `no ${name}`),
      ...(body.status === status ? [] : [`the status ${body.status} in the body`]),
      ...(/\.[jt]s:\d|node_modules|SELECT |INSERT /.test(text) ? ["it tells of our insides"] : [])
    ]
  }

  const objectionsToDescribed = (operation: Operation, answer: GivenAnswer, isHead: boolean): ReadonlyArray<string> => {
    const { headers, status, text } = answer
    const response = operation.responses[status]
    if (response === undefined) return [`${operation.name} may not answer ${status}`]
    const missing = Object.entries(response.headers ?? {})
      .filter(([name, { required }]) => required === true && headers[name] === undefined)
      .map(([name]) => `${status} without ${name}`)
    const { content } = response
    if (content === undefined || isHead) return text === "" ? missing : [...missing, `${status} with a body`]
    const type = String(headers["content-type"])
    if (content[type] === undefined) return [...missing, `${status} of the type ${type}`]
    if (!type.endsWith("json")) return missing
    const verb = operation.method.toLowerCase()
    const schema = pointer("paths", operation.template, verb, "responses", String(status), "content", type, "schema")
    return [...missing, ...objectionsToBody(`${status}`, schema, JSON.parse(text))]
  }

  /** The operations of a path, and the one that a request is for, if there is one; `HEAD` is `GET`. */
  const find = (method: string, path: string) => {
    const normal = normalize(path)
    const template = patterns.find(({ pattern }) => pattern.test(normal))?.template
    const there = operations.filter((operation) => operation.template === template)
    const operation = isReadable(normal)
      ? there.find((operation) => operation.method === (method === "HEAD" ? "GET" : method))
      : undefined
    return { there, operation }
  }

  /** What is wrong with an answer to a request; empty if nothing is. */
  const objections = (
    { method, path }: { readonly method: string; readonly path: string },
    answer: GivenAnswer
  ): ReadonlyArray<string> => {
    const { status } = answer
    const isHead = method === "HEAD"
    if (status >= 500) return [`${status}: ${answer.text}`]
    if (undescribed.includes(normalize(path)) && status === 200) return []
    const problems = status >= 400 ? objectionsToProblem(answer, isHead) : []
    const { operation, there } = find(method, path)
    if (operation !== undefined) return [...problems, ...objectionsToDescribed(operation, answer, isHead)]
    // A request that cannot be read is refused before anybody asks where it goes.
    if (status === 400 || (status === 404 && (there.length === 0 || !isReadable(normalize(path))))) return problems
    if (status !== 405 || there.some((operation) => operation.method === method)) {
      return [...problems, `${status} for a path or method that is not there`]
    }
    return answer.headers["allow"] === undefined ? [...problems, "405 without Allow"] : problems
  }

  return { find, objections }
}

/**
 * Requests, generated from the OpenAPI description: what it allows, and the same after some damage.
 *
 * A request is data, so it can be shrunk, printed and sent again. What is not damaged must be understood; of what is, only
 * the answer must be one that the description knows.
 */
import { Arbitrary, Array, JsonSchema, Schema, SchemaRepresentation } from "effect"
import type { OpenApiDescription, Operation, Parameter } from "./description.ts"

export type Client = "admin" | "reader" | "writer" | "operator" | "elsewhere"

/** Whose key a request carries, or what it carries instead. */
export type Credential = Client | "none" | "unknown" | "basic" | "malformed" | "twice"

export interface GeneratedRequest {
  readonly operation: string
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly credential: Credential
  /** Its bytes, one character each. */
  readonly body: string | undefined
  /** Whether the description allows it. */
  readonly valid: boolean
}

/** The ids that are there, for a template. */
export type IdsOf = (template: string) => ReadonlyArray<string>

const choice = <const A extends string | number>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.schema(Schema.Literals(values))

const below = (count: number) =>
  Arbitrary.schema(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: count - 1 }))))

/** One of them; those that stand there more than once more often. */
const oneOf = <A>(...options: ReadonlyArray<Arbitrary.Arbitrary<A>>): Arbitrary.Arbitrary<A> =>
  Arbitrary.flatMap(below(options.length), (index) => Array.getUnsafe(options, index))

const anyOf = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(below(values.length), (index) => Array.getUnsafe(values, index))

const int = (minimum: number, maximum: number) =>
  Arbitrary.schema(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum, maximum }))))

// --- what is allowed ------------------------------------------------------------------------------------------------

const two = (value: number) => String(value).padStart(2, "0")

/** Instants in every form that RFC 3339 has; no offset leads out of the years that are allowed. */
const instants: Arbitrary.Arbitrary<string> = Arbitrary.map(
  Arbitrary.all({
    year: oneOf(int(1971, 9998), int(2020, 2030)),
    month: int(1, 12),
    day: int(1, 31),
    hour: int(0, 23),
    minute: int(0, 59),
    second: int(0, 59),
    fraction: choice(["", "", ".5", ".123", ".999999999", ".000"]),
    offset: choice(["Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+23:59"]),
    separator: choice(["T", "T", "t"])
  }),
  ({ day, fraction, hour, minute, month, offset, second, separator, year }) => {
    const lastDay = new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate()
    return (
      `${year}-${two(month)}-${two(Math.min(day, lastDay))}${separator}` +
      `${two(hour)}:${two(minute)}:${two(second)}${fraction}${offset}`
    )
  }
)

/** Values that a schema allows. */
const makeValues = ({ components }: OpenApiDescription) => {
  const valuesOf = (schema: JsonSchema.JsonSchema): Arbitrary.Arbitrary<unknown> => {
    const { $ref, anyOf: options, properties, required } = schema
    if (typeof $ref === "string") return valuesOf(components.schemas[$ref.split("/").at(-1) ?? ""] ?? {})
    if (schema["format"] === "date-time") return instants
    // What stands there are schemas.
    if (Array.isArray(options)) return oneOf(...(options as ReadonlyArray<JsonSchema.JsonSchema>).map(valuesOf))
    if (properties !== undefined) {
      const members = Object.entries(properties as Readonly<Record<string, JsonSchema.JsonSchema>>)
      return recordOf(
        members.map(([name, member]) => ({
          name,
          required: Array.isArray(required) && required.includes(name),
          values: valuesOf(member)
        }))
      )
    }
    const imported = SchemaRepresentation.fromJsonSchemaDocument(JsonSchema.fromSchemaOpenApi3_1(schema), {
      patterns: "apply"
    })
    // No text of JSON has half a character.
    return Arbitrary.map(Arbitrary.schema(imported), (value) =>
      typeof value === "string" ? value.toWellFormed() : value
    )
  }
  return valuesOf
}

interface Member {
  readonly name: string
  readonly required: boolean
  readonly values: Arbitrary.Arbitrary<unknown>
}

const recordOf = (members: ReadonlyArray<Member>): Arbitrary.Arbitrary<Readonly<Record<string, unknown>>> =>
  Arbitrary.map(
    Arbitrary.all(
      members.map(({ required, values }) => Arbitrary.all({ left: required ? int(0, 0) : int(0, 1), value: values }))
    ),
    (drawn) =>
      Object.fromEntries(
        drawn.flatMap(({ left, value }, index) => (left === 1 ? [] : [[members[index]?.name ?? "", value]]))
      )
  )

/** A request before it is written down. */
interface Parts {
  readonly operation: Operation
  readonly method: string
  /** The path's segments, written as they will be sent. */
  readonly segments: ReadonlyArray<string>
  readonly query: ReadonlyArray<readonly [name: string, value: string]>
  readonly headers: Readonly<Record<string, string>>
  readonly credential: Credential
  readonly body: unknown
}

const partsOf = (
  operation: Operation,
  valuesOf: (schema: JsonSchema.JsonSchema) => Arbitrary.Arbitrary<unknown>,
  ids: ReadonlyArray<string>
): Arbitrary.Arbitrary<Parts> => {
  const place = (where: Parameter["in"]) =>
    recordOf(
      operation.parameters
        // A cursor is one that the service gave; all others are damage.
        .filter((parameter) => parameter.in === where && parameter.name !== "cursor")
        .map(({ name, required, schema }) => ({
          name,
          required,
          values:
            where === "path" && name === "id"
              ? oneOf<unknown>(anyOf(ids), anyOf(ids), anyOf(ids), valuesOf(schema))
              : where === "header" && name === "if-match"
                ? oneOf<unknown>(anyOf(['"1"', "*", '"1", "2"', 'W/"1"', '"999999999999999999999"']), valuesOf(schema))
                : valuesOf(schema)
        }))
    )
  return Arbitrary.map(
    Arbitrary.all({
      path: place("path"),
      query: place("query"),
      headers: place("header"),
      body: operation.body === undefined ? Arbitrary.Constant(undefined) : valuesOf(operation.body),
      method: operation.method === "GET" ? choice(["GET", "GET", "GET", "HEAD"]) : Arbitrary.Constant(operation.method)
    }),
    ({ body, headers, method, path, query }) => ({
      operation,
      method,
      segments: operation.template
        .slice(1)
        .split("/")
        .map((segment) => segment.replace(/^\{(\w+)\}$/, (_, name: string) => encodeURIComponent(String(path[name])))),
      query: Object.entries(query).map(([name, value]) => [name, encodeURIComponent(String(value))] as const),
      headers: {
        ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
        ...(body === undefined ? {} : { "content-type": "application/json" })
      },
      credential: "admin" as const,
      body
    })
  )
}

// --- damage ---------------------------------------------------------------------------------------------------------

/** Stands in a body for a number that no double can hold, or none that JavaScript would write. */
const numberMark = "\u0001number:"

const oddValues: ReadonlyArray<unknown> = [
  null,
  true,
  0,
  -1,
  1.5,
  -0,
  1e21,
  2 ** 31,
  2 ** 53,
  `${numberMark}1e400`,
  `${numberMark}-1e400`,
  `${numberMark}123456789012345678901234567890`,
  `${numberMark}1.0`,
  `${numberMark}1E0`,
  "",
  " ",
  "\0",
  "a\0b",
  "\ud800",
  "\udc00\ud800",
  "\ufeff\u202e\u2028\u0000",
  "🎲".repeat(200),
  "🎲".repeat(201),
  "x".repeat(501),
  "x".repeat(4001),
  "'; DROP TABLE game_sessions; --",
  "%00",
  "5",
  "true",
  "infinity",
  "-infinity",
  "now",
  "2040-02-30T00:00:00Z",
  "2040-01-01T00:00:00",
  "2040-01-01T00:00:60Z",
  "2040-01-01T24:00:00Z",
  "2040-01-01T00:00:00+24:00",
  "0000-00-00T00:00:00Z",
  "1969-12-31T23:59:59.9999Z",
  "9999-12-31T23:59:59.999999999Z",
  "+010000-01-01T00:00:00Z",
  "2040-01-01T00:00:00.1234567890Z",
  "SCHEDULED",
  "COMPLETED",
  [],
  [[]],
  [null],
  globalThis.Array.from({ length: 21 }, (_, n) => n + 1),
  globalThis.Array.from({ length: 20 }, () => 1),
  globalThis.Array.from({ length: 5000 }, () => 1),
  {},
  { length: 1 },
  { toJSON: 1, constructor: {}, hasOwnProperty: null }
]

const oddNames = ["id", "version", "status", "__proto__", "constructor", "toString", "", "titel", "a.b", "0", "\ud800"]

const oddBodies = [
  "",
  " ",
  "{",
  "}",
  "nul",
  "null",
  "[]",
  '"text"',
  "0",
  "{}{}",
  '{"title":"a","title":5}',
  '{"title":1e400}',
  '{"a":',
  "\ufeff{}",
  "// {}",
  "{'title': 'a'}",
  "title=a",
  "<game/>",
  "[".repeat(2000),
  '{"a":'.repeat(2000),
  "\u00ff\u00fe",
  '"\u00c3\u0028"',
  '{"title":"\u00ff"}',
  `{"title":"${"x".repeat(65_000)}"}`,
  `{"title":"${"x".repeat(70_000)}"}`,
  " ".repeat(70_000),
  "\u00ff".repeat(70_000)
]

const oddSegments = [
  ".",
  "..",
  "%2e%2e",
  "%2F",
  "%5c",
  "%00",
  "%zz",
  "%",
  "%c0%af",
  "%ff",
  "%F0%9F%8E%B2",
  "'",
  "a;b=c",
  "*",
  "{id}",
  ":id",
  "null",
  "0",
  "-1",
  "00000000-0000-0000-0000-00000000000",
  "00000000-0000-0000-0000-0000000000000",
  "{00000000-0000-0000-0000-000000000000}",
  "ffffffff-ffff-ffff-ffff-ffffffffffff",
  "x".repeat(3000),
  "metrics",
  "METRICS",
  "V1",
  "Games",
  "games",
  "cancel",
  "v2"
]

const oddQueryValues = [
  "",
  "%",
  "%zz",
  "%00",
  "%ff",
  "%F0%9F%8E%B2",
  "+",
  "a%20b",
  "null",
  "0",
  "-1",
  "1e2",
  "1.0",
  "201"
]

const oddTypes = [
  "",
  "text/plain",
  "application/JSON",
  "application/json; charset=utf-16",
  "application/json;charset",
  "application/json, text/plain",
  "application/merge-patch+json",
  "application/x-www-form-urlencoded",
  "multipart/form-data; boundary=x",
  "multipart/form-data",
  "application/octet-stream",
  "json",
  "\u00ff"
]

const oddHeaders: ReadonlyArray<readonly [name: string, values: ReadonlyArray<string>]> = [
  ["if-match", ["", "1", '"', '"1', "W/", "*, *", '"1" "2"', "\u00ff", "x".repeat(3000)]],
  ["idempotency-key", ["", " ", "k".repeat(255), "k".repeat(256), "\u00e9", "a\tb", "same"]],
  ["accept", ["text/html", "*/*;q=0", "", "application/xml", ",", "x".repeat(3000)]],
  ["accept-encoding", ["gzip", "identity;q=0", "*;q=0"]],
  ["content-encoding", ["gzip", "br", "identity", "nonsense"]],
  ["host", ["", "a,b", "evil.example", "[::1]", "a b", "\u00ff"]],
  ["x-http-method-override", ["DELETE"]],
  ["if-none-match", ['"1"', "*"]],
  ["if-modified-since", ["nonsense"]],
  ["range", ["bytes=0-0", "nonsense"]],
  ["traceparent", ["nonsense", "00-00000000000000000000000000000000-0000000000000000-00", "\u00ff"]],
  ["b3", ["nonsense", "0"]],
  ["forwarded", ["for=evil;host=evil;proto=https"]],
  ["x-forwarded-host", ["evil.example"]],
  ["cookie", ["a=b; authorization=Bearer x", "\u00ff", "="]],
  ["origin", ["null", "https://evil.example"]],
  ["sec-fetch-site", ["cross-site"]],
  ["upgrade", ["h2c", "websocket"]],
  ["te", ["trailers"]],
  ["x", ["y".repeat(8000)]]
]

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"]

/** Changes a request; what it does is in its name. */
type Damage = (parts: Parts) => Parts

const text = Arbitrary.schema(Schema.String)
const json: Arbitrary.Arbitrary<unknown> = Arbitrary.schema(Schema.Json)
const value = oneOf<unknown>(anyOf(oddValues), anyOf(oddValues), text, json)

const isRecord = (body: unknown): body is Readonly<Record<string, unknown>> =>
  typeof body === "object" && body !== null && !Array.isArray(body)

/** A body that is sent as it is. */
class Raw {
  readonly bytes: string
  constructor(bytes: string) {
    this.bytes = bytes
  }
}

const changeMember = Arbitrary.map(
  Arbitrary.all({ which: int(0, 9), value }),
  ({ value, which }): Damage =>
    (parts) => {
      const names = isRecord(parts.body) ? Object.keys(parts.body) : []
      const name = names[which % Math.max(names.length, 1)] ?? "title"
      return { ...parts, body: { ...(isRecord(parts.body) ? parts.body : {}), [name]: value } }
    }
)

const dropMember = Arbitrary.map(int(0, 9), (which): Damage => (parts) => {
  if (!isRecord(parts.body)) return parts
  const names = Object.keys(parts.body)
  const dropped = names[which % Math.max(names.length, 1)]
  return { ...parts, body: Object.fromEntries(Object.entries(parts.body).filter(([name]) => name !== dropped)) }
})

const addMember = Arbitrary.map(
  Arbitrary.all({ name: oneOf<string>(choice(oddNames), text), value }),
  ({ name, value }): Damage =>
    (parts) => ({ ...parts, body: { ...(isRecord(parts.body) ? parts.body : {}), [name]: value } })
)

const replaceBody = Arbitrary.map(
  oneOf<unknown>(
    Arbitrary.map(choice(oddBodies), (bytes) => new Raw(bytes)),
    Arbitrary.map(text, (bytes) => new Raw(Buffer.from(bytes).toString("latin1"))),
    json
  ),
  (body): Damage =>
    (parts) => ({ ...parts, body, headers: { "content-type": "application/json", ...parts.headers } })
)

const changeSegment = Arbitrary.map(
  Arbitrary.all({
    which: int(0, 4),
    segment: oneOf<string>(
      choice(oddSegments),
      Arbitrary.map(text, (segment) => encodeURIComponent(segment.toWellFormed()))
    )
  }),
  ({ segment, which }): Damage =>
    (parts) => ({
      ...parts,
      // The first ones lead anywhere, the last one is what an id stands in.
      segments: parts.segments.with(
        which === 0 ? 0 : parts.operation.template.includes("{") ? Math.min(2, parts.segments.length - 1) : -1,
        segment
      )
    })
)

const addSegment = Arbitrary.map(
  Arbitrary.all({ which: int(0, 3), segment: choice(["", "", ...oddSegments]) }),
  ({ segment, which }): Damage =>
    (parts) => ({ ...parts, segments: parts.segments.toSpliced(which, 0, segment) })
)

const changeQuery = Arbitrary.map(
  Arbitrary.all({
    name: choice([
      "limit",
      "cursor",
      "status",
      "from",
      "to",
      "guild_id",
      "state",
      "kind",
      "game_id",
      "limitt",
      "",
      "%",
      "a%5B%5D"
    ]),
    value: oneOf<string>(
      choice(oddQueryValues),
      Arbitrary.map(text, (value) => encodeURIComponent(value.toWellFormed())),
      Arbitrary.map(anyOf(oddValues.filter((value) => typeof value === "string")), (value) =>
        encodeURIComponent(value.toWellFormed())
      )
    ),
    twice: int(0, 3)
  }),
  ({ name, twice, value }): Damage =>
    (parts) => ({
      ...parts,
      query: [...parts.query.filter(([other]) => twice === 0 || other !== name), [name, value] as const]
    })
)

const changeHeader = Arbitrary.flatMap(anyOf([["content-type", oddTypes] as const, ...oddHeaders]), ([name, values]) =>
  Arbitrary.map(choice(values), (value): Damage => (parts) => ({
    ...parts,
    headers: { ...parts.headers, [name]: value }
  }))
)

const changeType = Arbitrary.map(
  oneOf<string | undefined>(Arbitrary.Constant(undefined), choice(oddTypes), choice(oddTypes)),
  (type): Damage =>
    ({ headers: { "content-type": _, ...headers }, ...parts }) => ({
      ...parts,
      headers: { ...headers, ...(type === undefined ? {} : { "content-type": type }) }
    })
)

const changeMethod = Arbitrary.map(choice(methods), (method): Damage => (parts) => ({ ...parts, method }))

const changeCredential = Arbitrary.map(
  choice<Credential>([
    "none",
    "unknown",
    "basic",
    "malformed",
    "twice",
    "reader",
    "writer",
    "operator",
    "elsewhere",
    "elsewhere"
  ]),
  (credential): Damage =>
    (parts) => ({ ...parts, credential })
)

/** What can be done to a request, more often to what its operation takes. */
const damageTo = ({ body, parameters }: Operation): Arbitrary.Arbitrary<Damage> => {
  const takes = (where: Parameter["in"]) => parameters.some((parameter) => parameter.in === where)
  return oneOf(
    ...(body === undefined
      ? []
      : [changeMember, changeMember, changeMember, dropMember, addMember, replaceBody, changeType]),
    ...(takes("path") ? [changeSegment, changeSegment] : []),
    ...(takes("query") ? [changeQuery, changeQuery, changeQuery] : []),
    ...(takes("header") ? [changeHeader] : []),
    addMember,
    replaceBody,
    changeSegment,
    addSegment,
    changeQuery,
    changeHeader,
    changeMethod,
    changeCredential,
    changeCredential
  )
}

// --- writing it down ------------------------------------------------------------------------------------------------

const write = (parts: Parts, valid: boolean): GeneratedRequest => {
  const query = parts.query.map(([name, value]) => `${name}=${value}`).join("&")
  const { body } = parts
  const written =
    body === undefined
      ? undefined
      : body instanceof Raw
        ? body.bytes
        : Buffer.from(
            (JSON.stringify(body) ?? "").replaceAll(/"\\u0001number:([^"]*)"/g, (_, number: string) => number)
          ).toString("latin1")
  return {
    operation: parts.operation.name,
    method: parts.method,
    path: `/${parts.segments.join("/")}${query === "" ? "" : `?${query}`}`,
    headers: parts.headers,
    credential: parts.credential,
    body: written,
    valid
  }
}

/** Requests to a described service: half of them allowed, half damaged in one to three places. */
export const requestsTo = (
  description: OpenApiDescription,
  operations: ReadonlyArray<Operation>,
  idsOf: IdsOf
): Arbitrary.Arbitrary<GeneratedRequest> => {
  const valuesOf = makeValues(description)
  // Where more can be said, more is tried.
  const often = operations.flatMap((operation) => {
    const times = 1 + Math.min(operation.parameters.length, 3) + (operation.body === undefined ? 0 : 4)
    return globalThis.Array.from({ length: times }, () => operation)
  })
  return oneOf(
    ...often.map((operation) =>
      Arbitrary.map(
        Arbitrary.all({
          parts: partsOf(operation, valuesOf, idsOf(operation.template)),
          damages: oneOf<ReadonlyArray<Damage>>(
            Arbitrary.Constant([]),
            Arbitrary.array(damageTo(operation), { minLength: 1, maxLength: 3 })
          )
        }),
        ({ damages, parts }) =>
          write(
            damages.reduce((damaged, apply) => apply(damaged), parts),
            damages.length === 0
          )
      )
    )
  )
}

/** Judges messages by the JSON Schemas in `docs/schemas`, with a validator that knows nothing of Kickoff. */
import addFormats from "ajv-formats"
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { GameEventType } from "../../src/domain/GameEvent.ts"

const ajv = new Ajv2020({ strict: true, allErrors: true })
addFormats.default(ajv)

const validators: ReadonlyMap<string, ValidateFunction> = new Map(
  GameEventType.literals.map((type) => {
    const file = fileURLToPath(new URL(`../../docs/schemas/${type}.json`, import.meta.url))
    return [type, ajv.compile(JSON.parse(readFileSync(file, "utf8")))]
  })
)

/** What a schema has to object to an event, which is that of its type unless given; empty if nothing. */
export const objectionsTo = (
  event: Readonly<Record<string, unknown>>,
  type = String(event["type"])
): ReadonlyArray<string> => {
  const validate = validators.get(type)
  if (validate === undefined) return [`there is no schema of ${type}`]
  validate(event)
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}

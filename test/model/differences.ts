/** Compares what was expected with what was found, by their JSON: the order of members plays no part. */

/** A text that is the same for equal values, whatever the order of their members. */
export const key = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([left], [right]) => (left < right ? -1 : 1)))
      : inner
  )

/** Where two values differ, as lines for a person. */
export const differences = (expected: unknown, found: unknown, path: string): ReadonlyArray<string> => {
  if (key(expected) === key(found)) return []
  const isNested = (value: unknown): value is object => typeof value === "object" && value !== null
  if (!isNested(expected) || !isNested(found)) {
    return [`${path}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`]
  }
  const names = new Set([...Object.keys(expected), ...Object.keys(found)])
  const member = (value: object, name: string): unknown => Object.entries(value).find(([other]) => other === name)?.[1]
  return [...names].flatMap((name) =>
    differences(member(expected, name), member(found, name), path === "" ? name : `${path}.${name}`)
  )
}

/** The shortest of several lists of differences. */
export const nearest = (candidates: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> =>
  candidates.toSorted((left, right) => left.length - right.length)[0] ?? ["nothing explains it"]

/** Entity tags, RFC 9110: a game's tag is its version in quotes. */
import { Schema } from "effect"

/** The strong tag of a version. */
export const toEntityTag = (version: number): string => `"${version}"`

const tag = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/
const conditions = new RegExp(`^[ \\t]*(?:\\*|${tag.source}(?:[ \\t]*,[ \\t]*${tag.source})*)[ \\t]*$`, "u")

/** The header `If-Match`. */
export const IfMatch = Schema.String.annotate({
  description: "Change the game only if it has this entity tag, one of a list of them, or any (`*`)"
}).pipe(
  Schema.check(Schema.isPattern(conditions, { message: 'Expected an entity tag like "3", a list of them, or *' }))
)

/**
 * The versions that satisfy the header; `undefined` if any does. A weak tag satisfies nothing, because `If-Match`
 * compares strongly.
 */
export const toVersions = (ifMatch: string | undefined): ReadonlyArray<number> | undefined =>
  ifMatch === undefined || ifMatch.trim() === "*"
    ? undefined
    : [...ifMatch.matchAll(new RegExp(tag, "g"))].flatMap(([text]) => {
        const version = /^"(\d{1,15})"$/.exec(text)?.[1]
        return version === undefined ? [] : [Number(version)]
      })

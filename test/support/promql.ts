/** Which metrics an expression of PromQL asks for. */

/** Words of the language that stand where a metric could. */
const keywords: ReadonlySet<string> = new Set([
  "and",
  "or",
  "unless",
  "by",
  "without",
  "on",
  "ignoring",
  "group_left",
  "group_right",
  "offset",
  "bool",
  "inf",
  "nan"
])

/** Their names; what is not a metric of ours is a misspelled one, or one of Prometheus itself like `up`. */
export const metricsIn = (expression: string): ReadonlyArray<string> => {
  const bare = expression
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, "")
    .replaceAll(/#.*$/gm, "")
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, "")
    .replaceAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, "")
  return [
    ...new Set(
      [...bare.matchAll(/(?<![\w.$])[A-Za-z_:][\w:]*(?!\w*\s*\()/g)]
        .map(([word]) => word)
        .filter((word) => !keywords.has(word.toLowerCase()))
    )
  ]
}

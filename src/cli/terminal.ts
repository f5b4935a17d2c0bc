/**
 * What commands print: lines on standard output, tables, and text of others made harmless.
 *
 * Colours and cuts at the edge are for a terminal alone, so that a pipe gets everything and nothing else.
 */
import { Effect } from "effect"
import { TerminalCapabilities } from "effect/cli"

export const print = (text: string): Effect.Effect<void> => Effect.sync(() => process.stdout.write(`${text}\n`))

const colours = { red: 31, green: 32, yellow: 33 } as const

export type Paint = (colour: keyof typeof colours, text: string) => string

/** How to colour text: not at all but on a terminal that can show it and is not told otherwise (`NO_COLOR`). */
export const paint: Effect.Effect<Paint> = Effect.map(
  TerminalCapabilities.TerminalCapabilities,
  ({ canColor }) =>
    (colour, text) =>
      canColor ? `\u001B[${colours[colour]}m${text}\u001B[0m` : text
)

/** What the terminal can do, and no colours where there is none, whatever `FORCE_COLOR` says. */
export const capabilities = Effect.map(
  TerminalCapabilities.TerminalCapabilities,
  ({ canAnimate, canColor, canPrompt }) => ({
    canAnimate,
    canColor: canColor && process.stdout.isTTY,
    canPrompt
  })
)

/** Text of games, the database and the broker: what could steer a terminal or break a line is taken out. */
export const plain = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim()

/** The same of what has several lines. */
export const plainLines = (text: string): string => text.replaceAll(/[^\P{Cc}\n]|\p{Cf}/gu, " ")

/** Rows under their headings, each column as wide as it must be; on a terminal cut at its edge. */
export const toTable = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const edge = process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()
    )
    .map((line) => (line.length > edge ? `${line.slice(0, edge - 1)}…` : line))
    .join("\n")
}

/** A reader that went away, like `| head`, must not end the service: its lines are lost, the work goes on. */
export const surviveClosedOutput: Effect.Effect<void> = Effect.sync(() => {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})
})

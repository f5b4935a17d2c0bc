/** Reports as text for a terminal, and as JSON for comparing runs. */
import type { Report, Scenario, Table } from "./Scenario.ts"
import type { Environment } from "./Servers.ts"

/** Three significant digits, no exponent; whole from a hundred on. */
const number = (value: number | null): string => {
  if (value === null) return ""
  if (Number.isInteger(value) || !Number.isFinite(value)) return value.toLocaleString("en-US")
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US")
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}

const table = ({ columns, rows, title }: Table): string => {
  const lines = [["", ...columns], ...rows.map((row) => [row.name, ...row.cells.map(number)])]
  const widths = ["", ...columns].map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)))
  const text = lines.map((line) =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd()
  )
  return [title, ...text.map((line) => `  ${line}`)].join("\n")
}

const list = (values: Readonly<Record<string, string | number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(" · ")

/** What the figures of all scenarios were measured on. */
export const environmentText = (environment: Environment): string => list(environment)

export const reportText = (scenario: Scenario, report: Report): string =>
  [
    `## ${scenario.name}: ${scenario.summary}`,
    list(report.settings),
    ...report.tables.map((each) => `\n${table(each)}`),
    ...(report.notes.length === 0 ? [] : ["", ...report.notes]),
    ...report.violations.map((violation) => `\nVIOLATED: ${violation}`)
  ].join("\n")

export const reportJson = (scenario: Scenario, environment: Environment, measuredAt: string, report: Report): string =>
  `${JSON.stringify({ scenario: scenario.name, measured_at: measuredAt, environment, ...report }, null, 2)}\n`

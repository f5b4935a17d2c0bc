/** Reports as text for a terminal, as Markdown for `RESULTS.md`, and as JSON for comparing runs. */
import type { Report, Scenario, Table } from "./Scenario.ts"
import type { Environment } from "./Servers.ts"
import type { Judged } from "./targets.ts"

/** A scenario that was run, and what came out. */
export interface Outcome {
  readonly scenario: Pick<Scenario, "name" | "summary">
  readonly report: Report
}

/** Three significant digits, no exponent; whole from a hundred on. */
const number = (value: number | null): string => {
  if (value === null) return ""
  if (Number.isInteger(value) || !Number.isFinite(value)) return value.toLocaleString("en-US")
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US")
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}

type Lines = readonly [head: ReadonlyArray<string>, ...rows: ReadonlyArray<ReadonlyArray<string>>]

const linesOf = ({ columns, rows }: Table): Lines => [
  ["", ...columns],
  ...rows.map((row) => [row.name, ...row.cells.map(number)])
]

const linesOfVerdicts = (judged: ReadonlyArray<Judged>): Lines => [
  ["", "figure", "must", "aim", "verdict"],
  ...judged.map(({ figure, target, verdict }) => {
    const limit = (value: number | undefined) =>
      value === undefined ? "" : `${target.better === "more" ? "≥" : "≤"} ${number(value)}`
    return [
      `${target.says}, ${target.unit}`,
      figure === undefined ? "" : number(figure),
      limit(target.must),
      limit(target.aim),
      verdict
    ]
  })
]

const aligned = (lines: Lines): string => {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
        .trimEnd()
    )
    .map((line) => `  ${line}`)
    .join("\n")
}

const markdown = ([head, ...rows]: Lines): string => {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map((_, column) => (column === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n")
}

const list = (values: Readonly<Record<string, string | number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(" · ")

/** What the figures of all scenarios were measured on. */
export const environmentText = (environment: Environment): string => list(environment)

export const reportText = ({ report, scenario }: Outcome): string =>
  [
    `## ${scenario.name}: ${scenario.summary}`,
    list(report.settings),
    ...report.tables.map((table) => `\n${table.title}\n${aligned(linesOf(table))}`),
    ...(report.notes.length === 0 ? [] : ["", ...report.notes]),
    ...report.violations.map((violation) => `\nVIOLATED: ${violation}`)
  ].join("\n")

export const verdictsText = (judged: ReadonlyArray<Judged>): string => `## Targets\n${aligned(linesOfVerdicts(judged))}`

export interface Run {
  readonly environment: Environment
  readonly measuredAt: string
  readonly minutes: number
  readonly outcomes: ReadonlyArray<Outcome>
  readonly judged: ReadonlyArray<Judged>
}

/** `RESULTS.md`: the verdicts, every table, and the log of what was changed, which people keep. */
export const runMarkdown = (run: Run, log: string): string =>
  `${[
    "# Results",
    `Written by \`npm run bench\` on ${run.measuredAt}, within ${run.minutes} minutes; \`results.json\` has the same for ` +
      "programs. Whatever is compared was measured in turn in this one run: compare the ratios, absolute figures are the " +
      "machine's.",
    list(run.environment),
    "## Targets",
    markdown(linesOfVerdicts(run.judged)),
    ...run.outcomes.flatMap(({ report, scenario }) => [
      `## ${scenario.name}`,
      `${scenario.summary[0]?.toUpperCase()}${scenario.summary.slice(1)}.`,
      list(report.settings),
      ...report.tables.flatMap((table) => [`**${table.title}**`, markdown(linesOf(table))]),
      ...report.notes,
      ...report.violations.map((violation) => `**Violated:** ${violation}`)
    ]),
    "## Log",
    log.trim()
  ]
    .filter((part) => part !== "")
    .join("\n\n")}\n`

export const runJson = (run: Run): string =>
  `${JSON.stringify(
    {
      measured_at: run.measuredAt,
      environment: run.environment,
      targets: run.judged.map(({ figure, target, verdict }) => ({ ...target, measured: figure ?? null, verdict })),
      scenarios: Object.fromEntries(run.outcomes.map(({ report, scenario }) => [scenario.name, report]))
    },
    null,
    2
  )}\n`

/** Everything in the repository that is written from the code: each file with what should be in it. */
import { readFileSync } from "node:fs"
import { dashboard } from "./dashboard.ts"
import { eventPages } from "./events.ts"
import { runtimeConfig } from "./runtimeConfig.ts"

export interface Page {
  /** From the repository's root. */
  readonly file: string
  readonly content: string
}

const operations = new URL("../../docs/OPERATIONS.md", import.meta.url)

export const pages = (): ReadonlyArray<Page> => [
  { file: "docs/RUNTIME_CONFIG.md", content: runtimeConfig() },
  {
    file: "docker/grafana/dashboards/kickoff.json",
    content: `${JSON.stringify(dashboard(readFileSync(operations, "utf8")), null, 2)}\n`
  },
  ...eventPages()
]

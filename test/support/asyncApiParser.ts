/**
 * AsyncAPI's own parser.
 *
 * It is as large as half of all that the checkout installs, and one of its packages reports each installation to somebody.
 * So it has a lock file of its own, is installed when it is needed, outside the checkout, and none of its scripts run.
 */
import { copyFile, mkdtemp, rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { run } from "./commands.ts"

export interface Diagnostic {
  /** 0 is an error and 1 a warning; above are hints. */
  readonly severity: number
  readonly message: string
  readonly path: ReadonlyArray<string | number>
}

interface Library {
  readonly Parser: new () => {
    readonly parse: (text: string) => Promise<{ readonly diagnostics: ReadonlyArray<Diagnostic> }>
  }
}

/** Says what is wrong with a document. */
export type ParseAsyncApi = (text: string) => Promise<ReadonlyArray<Diagnostic>>

/** Installs the parser for as long as it is used. */
export const withAsyncApiParser = async (use: (parse: ParseAsyncApi) => Promise<void>): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), "kickoff-asyncapi-"))
  try {
    for (const name of ["package.json", "package-lock.json"]) {
      await copyFile(fileURLToPath(new URL(`asyncapi/${name}`, import.meta.url)), join(folder, name))
    }
    const options = ["--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    await run("npm", ["ci", ...options], { cwd: folder }).catch((error: unknown) => {
      throw new Error("The test of docs/asyncapi.json needs the npm registry, for AsyncAPI's parser", { cause: error })
    })
    // Installed a moment ago, it has no types here.
    const { Parser } = createRequire(join(folder, "package.json"))("@asyncapi/parser") as Library
    const parser = new Parser()
    await use(async (text) => (await parser.parse(text)).diagnostics)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Writes everything that is generated from the code, and says what has changed: `npm run docs`. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { pages } from "./pages.ts"

for (const { content, file } of pages()) {
  const path = fileURLToPath(new URL(`../../${file}`, import.meta.url))
  if (existsSync(path) && readFileSync(path, "utf8") === content) continue
  writeFileSync(path, content)
  process.stdout.write(`${file}\n`)
}

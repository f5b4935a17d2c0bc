#!/usr/bin/env node
/**
 * The process: checks that Node.js is new enough, then loads the command line and runs it.
 *
 * On a Node.js that is too old the pinned one beside the program takes over; so this file must load anywhere, and
 * everything else comes by a dynamic import.
 */
import { fileURLToPath } from "node:url"
import { dieWithParent, handOver, isTooOld, oldestNode, pinnedNode } from "./cli/handover.ts"

const args = process.argv.slice(2)

if (isTooOld(process.versions.node)) {
  const node = pinnedNode(fileURLToPath(new URL("..", import.meta.url)))
  if (node === undefined) {
    process.stderr.write(
      `kickoff: Node.js ${oldestNode} or newer is needed, this is ${process.versions.node}; "npm ci" installs it beside\n`
    )
    process.exit(2)
  }
  handOver(node, fileURLToPath(import.meta.url), args)
} else {
  dieWithParent()
  const { run } = await import("./cli/run.ts")
  run(args)
}

/** What a shell proposes for `kickoff`. The script for bash is run by bash, as it would be at a person's Tab. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Completions } from "effect/cli"
import { spawn } from "node:child_process"
import { loadFor } from "../../src/cli/commands.ts"
import { runProgram, startProcess, toItsEnd } from "../support/service.ts"

const script = Effect.fnUntraced(function* (shell: string) {
  const { code, stderr, stdout } = yield* runProgram({ args: ["--completions", shell] })
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
  return stdout
})

/** Does what readline does: takes the line apart and calls the function that the script has registered. */
const tab = `
eval "$SCRIPT"
read -ra COMP_WORDS <<< "$LINE"
[[ "$LINE" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( \${#COMP_WORDS[@]} - 1 ))
COMP_LINE=$LINE
COMP_POINT=\${#LINE}
registered=$(complete -p kickoff)
[[ $registered =~ -F\\ ([^ ]+) ]] || exit 3
"\${BASH_REMATCH[1]}" kickoff "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "\${COMPREPLY[@]}"`

const proposed = Effect.fnUntraced(function* (line: string) {
  const SCRIPT = yield* script("bash")
  const { code, stderr, stdout } = yield* toItsEnd(
    startProcess(() =>
      spawn("bash", ["--noprofile", "--norc", "-c", tab], { env: { PATH: process.env["PATH"], SCRIPT, LINE: line } })
    )
  )
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
  return stdout.split("\n").filter((word) => word !== "")
})

describe.concurrent("the completions", { timeout: 30_000 }, () => {
  it.live.each<{ readonly line: string; readonly words: ReadonlyArray<string> }>([
    { line: "kickoff pa", words: ["pause"] },
    { line: "kickoff re", words: ["resume"] },
    { line: "kickoff dead-letters ", words: ["list", "show", "replay", "discard"] },
    { line: "kickoff pause ", words: ["status-transition", "notification", "all"] },
    { line: "kickoff pause n", words: ["notification"] },
    { line: "kickoff pause notification --r", words: ["--reason"] },
    { line: "kickoff dead-letters list --state ", words: ["open", "resolved", "all"] },
    { line: "kickoff status --", words: ["--json"] },
    { line: "kickoff status --json --", words: [] }
  ])("propose in bash what may follow: $line", ({ line, words }) =>
    Effect.gen(function* () {
      assert.sameMembers([...(yield* proposed(line))], [...words])
    })
  )

  it.live("propose every command in bash", () =>
    Effect.gen(function* () {
      const { subcommands } = Completions.fromCommand(yield* loadFor("--help"))
      assert.isAbove(subcommands.length, 10)
      assert.sameMembers(
        [...(yield* proposed("kickoff "))],
        subcommands.map(({ name }) => name)
      )
    })
  )

  it.live.each(["zsh", "fish"])("name every command and its flags for %s", (shell) =>
    Effect.gen(function* () {
      const { subcommands } = Completions.fromCommand(yield* loadFor("--help"))
      const text = yield* script(shell)
      for (const { description, flags, name } of subcommands.flatMap((command) => [command, ...command.subcommands])) {
        assert.include(text, `'${name}`, name)
        assert.include(text, description?.replaceAll(":", shell === "zsh" ? "\\:" : ":") ?? "", name)
        for (const flag of flags) assert.include(text, shell === "zsh" ? `--${flag.name}` : `-l ${flag.name}`)
      }
    })
  )

  it.live("are refused for a shell that nobody knows, with exit code 2 and one line", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* runProgram({ args: ["--completions", "cmd"] })
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.match(stderr, /^kickoff: .*completions.*\n$/)
    })
  )
})

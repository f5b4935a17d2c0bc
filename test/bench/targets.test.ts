import { assert, describe, it } from "@effect/vitest"
import { runMarkdown } from "../../bench/print.ts"
import { kindOf } from "../../bench/statements.ts"
import { judge, judgeAll, type Target, targets } from "../../bench/targets.ts"

const atLeast: Target = { says: "rate", figure: "rate", unit: "×", better: "more", must: 0.9, aim: 1.2 }
const atMost: Target = { says: "time", figure: "time", unit: "ms", better: "less", must: 100, aim: 30 }

describe("verdicts", () => {
  it("count a limit that is met exactly as reached", () => {
    assert.strictEqual(judge(atLeast, 0.9), "must reached")
    assert.strictEqual(judge(atLeast, 1.2), "aim reached")
    assert.strictEqual(judge(atMost, 100), "must reached")
    assert.strictEqual(judge(atMost, 30), "aim reached")
  })

  it("know which way is better", () => {
    assert.strictEqual(judge(atLeast, 0.89), "MISSED")
    assert.strictEqual(judge(atLeast, 5), "aim reached")
    assert.strictEqual(judge(atMost, 101), "MISSED")
    assert.strictEqual(judge(atMost, 0), "aim reached")
  })

  it("never count what was not measured as reached", () => {
    assert.strictEqual(judge(atMost, undefined), "not measured")
    assert.strictEqual(judge(atMost, Number.NaN), "not measured")
    assert.isTrue(judgeAll({}).every(({ verdict }) => verdict === "not measured"))
  })

  it("need no aim", () => {
    const target: Target = { says: "time", figure: "time", unit: "ms", better: "less", must: 100 }
    assert.strictEqual(judge(target, 1), "must reached")
  })
})

describe("targets", () => {
  it("have figures of their own, and aims that ask for more than what must be", () => {
    assert.strictEqual(new Set(targets.map(({ figure }) => figure)).size, targets.length)
    for (const target of targets) {
      if (!("aim" in target)) continue
      assert.isTrue(target.better === "more" ? target.aim > target.must : target.aim < target.must, target.says)
    }
  })
})

describe("RESULTS.md", () => {
  it("shows verdicts, tables and violations, and keeps the log as it is", () => {
    const judged = judgeAll({ startup_health: 301 }).filter(({ figure }) => figure !== undefined)
    const log = "| change | before | after |\n| --- | --- | --- |\n| a change | 1 | 2 |"
    const report = {
      settings: { rounds: 3 },
      tables: [{ title: "Times", columns: ["ms"], rows: [{ name: "a | b", cells: [1234.5] }] }],
      notes: ["a note"],
      figures: {},
      violations: ["early"]
    }
    const outcomes = [{ scenario: { name: "some", summary: "what it is" }, report }]
    const text = runMarkdown({ environment: { cores: 2 }, measuredAt: "now", minutes: 1, outcomes, judged }, log)
    assert.include(text, "| kickoff health, ms | 301 | ≤ 300 | ≤ 120 | MISSED |")
    assert.include(text, "| a \\| b | 1,235 |")
    assert.include(text, "**Violated:** early")
    assert.isTrue(text.endsWith(`## Log\n\n${log}\n`))
  })
})

describe("statements", () => {
  it("are told apart by what they ask for", () => {
    assert.strictEqual(kindOf("SELECT pg_try_advisory_lock($1::bigint)"), "lock")
    assert.strictEqual(kindOf("SELECT pg_notify($1, $2)"), "heartbeat")
    assert.strictEqual(kindOf("SELECT $1"), "heartbeat")
    assert.strictEqual(kindOf('SELECT (SELECT "transition_time" FROM "game_status_schedule" LIMIT $1)'), "look")
    assert.strictEqual(kindOf('WITH claimed AS (SELECT FROM "notification_schedule") INSERT INTO outbox'), "look")
    assert.strictEqual(kindOf("SELECT id FROM outbox ORDER BY id LIMIT $1"), "outbox")
    assert.strictEqual(kindOf("DELETE FROM ledger"), "other")
  })
})

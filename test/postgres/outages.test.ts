import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Logger } from "effect"
import { SqlError } from "effect/sql"
import { TestClock } from "effect/testing"
import { makeOutages } from "../../src/postgres/outages.ts"

const away = new SqlError.SqlError({
  reason: new SqlError.ConnectionError({ cause: new Error("connection refused"), message: "connection refused" })
})

describe("a server that is away for a minute", () => {
  it.effect("is tried with pauses of at most two seconds, and said to be away once and to be back once", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        lines.push(`${logLevel}: ${String(message)}`)
      })
      const outages = makeOutages("outbox", Effect.void)
      let isAway = true
      let tries = 0
      const step = Effect.suspend(() => {
        tries++
        return isAway ? Effect.fail(away) : Effect.succeed("done")
      })
      const work = yield* Effect.forkChild(outages.waitOut(step).pipe(Effect.provide(Logger.layer([logger]))))
      yield* TestClock.adjust("1 minute")
      assert.isAtLeast(tries, 25)
      assert.isAtMost(tries, 50)
      isAway = false
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(work), "done")
      assert.lengthOf(lines, 2)
      assert.strictEqual(lines[0], "Warn: outbox is interrupted and tries until it succeeds: connection refused")
      assert.match(lines[1] ?? "", /^Info: outbox goes on after 1m/)
    })
  )

  it.effect("is not tried by all at the same moments", () =>
    Effect.gen(function* () {
      const triesOf = Effect.gen(function* () {
        const tries: Array<number> = []
        const step = Effect.flatMap(Clock.currentTimeMillis, (now) => {
          tries.push(now)
          return Effect.fail(away)
        })
        yield* Effect.forkScoped(makeOutages("outbox", Effect.void).waitOut(step))
        return tries
      })
      const [one, other] = [yield* triesOf, yield* triesOf]
      yield* TestClock.adjust("1 minute")
      assert.isAtLeast(one.length, 25)
      assert.notDeepEqual(one, other)
    }).pipe(Effect.provide(Logger.layer([])))
  )

  it.effect("is said once more, as an error, when it turns out that the role may not log in", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        lines.push(`${logLevel}: ${String(message)}`)
      })
      const refused = new SqlError.SqlError({
        reason: new SqlError.AuthenticationError({
          cause: Object.assign(new Error('password authentication failed for user "kickoff"'), { code: "28P01" })
        })
      })
      const outages = makeOutages("outbox", Effect.void)
      let failure: SqlError.SqlError | undefined = away
      const step = Effect.suspend(() => (failure === undefined ? Effect.void : Effect.fail(failure)))
      const work = yield* Effect.forkChild(outages.waitOut(step).pipe(Effect.provide(Logger.layer([logger]))))
      yield* TestClock.adjust("10 seconds")
      failure = refused
      yield* TestClock.adjust("1 minute")
      failure = undefined
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(work)
      assert.lengthOf(lines, 3)
      assert.strictEqual(
        lines[1],
        'Error: outbox is interrupted and tries until it succeeds: password authentication failed for user "kickoff"; ' +
          "the role has another password than the URL: ALTER ROLE … PASSWORD '…', or change the URL"
      )
      assert.match(lines[2] ?? "", /^Info: outbox goes on after/)
    })
  )

  it.effect("is not mentioned when only one try fails, as after every restart", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const outages = makeOutages("outbox", Effect.void)
      let tries = 0
      const step = Effect.suspend(() => (++tries === 1 ? Effect.fail(away) : Effect.void))
      yield* outages.waitOut(step).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(tries, 2)
      assert.deepStrictEqual(lines, [])
    })
  )
})

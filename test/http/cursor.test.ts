import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Cursor } from "../../src/http/api/cursor.ts"

const encode = Schema.encodeSync(Cursor)
const decode = Schema.decodeUnknownOption(Cursor)

const id = "0195fa10-1c1f-7d5e-8a4e-0123456789ab"

describe("a cursor", () => {
  it("comes back as the place it stands for, to the microsecond, also before 1970 and in distant years", () => {
    for (const scheduled_micros of [0n, 1n, -1n, 1_893_520_800_000_001n, 253_402_300_799_999_999n]) {
      assert.deepStrictEqual(decode(encode({ scheduled_micros, id })), decode(encode({ scheduled_micros, id })))
      const decoded = decode(encode({ scheduled_micros, id }))
      assert.isTrue(decoded._tag === "Some" && decoded.value.scheduled_micros === scheduled_micros)
    }
  })

  it("is refused when nobody here made it", () => {
    const base64 = (text: string) => Buffer.from(text).toString("base64url")
    const forged = [
      "",
      "abc",
      "💥",
      base64(""),
      base64(`_${id}`),
      base64("12_not-a-uuid"),
      base64(`1.5_${id}`),
      base64(`1e9_${id}`),
      base64(`9999999999999999999_${id}`),
      base64(`-9999999999999999999_${id}`),
      base64(`12_${id.toUpperCase()}`),
      base64(`12_${id}'; DROP TABLE game_sessions`),
      base64(`012_${id}`),
      `${base64(`12_${id}`)}=`,
      ` ${base64(`12_${id}`)}`
    ]
    for (const text of forged) assert.isTrue(decode(text)._tag === "None", text)
  })
})

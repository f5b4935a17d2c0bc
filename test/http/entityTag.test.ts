import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { IfMatch, toEntityTag, toVersions } from "../../src/http/api/entityTag.ts"

const accepts = Schema.is(IfMatch)

describe("If-Match", () => {
  it("matches the tag of a version", () => {
    assert.deepStrictEqual(toVersions(toEntityTag(3)), [3])
  })

  it("matches any of a list, whatever the white space", () => {
    assert.deepStrictEqual(toVersions('"3","4" ,\t"17"'), [3, 4, 17])
  })

  it("matches any version as * and when it is absent", () => {
    assert.isUndefined(toVersions("*"))
    assert.isUndefined(toVersions(undefined))
  })

  it("compares strongly: a weak tag matches nothing", () => {
    assert.deepStrictEqual(toVersions('W/"3"'), [])
    assert.deepStrictEqual(toVersions('W/"3", "4"'), [4])
  })

  it("matches nothing with a tag that is no version of ours", () => {
    assert.deepStrictEqual(toVersions('"abc", "", "3.0", "99999999999999999999"'), [])
  })

  it("is refused when it is malformed", () => {
    for (const text of ["", "3", '"3', '3"', '"3" "4"', '"3",', ',"3"', "*, *", '*, "3"', 'w/"3"', "nonsense"]) {
      assert.isFalse(accepts(text), text)
    }
    for (const text of ["*", '"3"', ' "3" ', 'W/"3"', '"3", W/"4"', '""']) assert.isTrue(accepts(text), text)
  })
})

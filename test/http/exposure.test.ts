import { assert, describe, it } from "@effect/vitest"
import { isLocalName, isLoopback } from "../../src/http/exposure.ts"

describe("a server's address", () => {
  it("is that of this machine alone if it is a loopback address or localhost", () => {
    for (const host of [
      "127.0.0.1",
      "127.8.9.10",
      "::1",
      "[::1]",
      "0:0:0:0:0:0:0:1",
      "::ffff:127.0.0.1",
      "localhost",
      "LOCALHOST"
    ]) {
      assert.isTrue(isLoopback(host), host)
    }
  })

  it("is anybody's otherwise, also when a name may lead to this machine today", () => {
    const others = [
      "0.0.0.0",
      "::",
      "[::]",
      "192.168.0.1",
      "128.0.0.1",
      "::ffff:10.0.0.1",
      "fe80::1%lo",
      "0",
      "127.1",
      "2130706433"
    ]
    for (const host of [...others, "localhost.", "localhost.example", "127.0.0.1.example", "kickoff", ""]) {
      assert.isFalse(isLoopback(host), host)
    }
  })
})

describe("the header Host", () => {
  it("says a name of this machine if it is an address or a name that cannot be had on the internet", () => {
    for (const host of [
      "127.0.0.1:3000",
      "localhost",
      "LocalHost:3000",
      "[::1]:3000",
      "10.0.0.5",
      "kickoff:3000",
      "a.localhost",
      ""
    ]) {
      assert.isTrue(isLocalName(host), host)
    }
  })

  it("says another's name otherwise", () => {
    for (const host of [
      "evil.example",
      "evil.example:3000",
      "localhost.evil.example",
      "127.0.0.1.evil.example:80",
      "127.0.0.1@evil.example",
      "a,b.example"
    ]) {
      assert.isFalse(isLocalName(host), host)
    }
  })
})

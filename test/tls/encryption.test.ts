import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { toTlsOptions } from "../../src/tls/certificates.ts"
import { type Encryption, ofBrokerUrl, ofDatabaseUrl } from "../../src/tls/encryption.ts"

const database = (rest: string) => ofDatabaseUrl(new URL(`postgres://kickoff:s3cret@${rest}`))
const broker = (url: string) => ofBrokerUrl(new URL(url))

describe("the encryption of a database's URL", () => {
  const good: ReadonlyArray<readonly [rest: string, encryption: Encryption | undefined]> = [
    ["db/kickoff", undefined],
    ["db/kickoff?sslmode=disable", undefined],
    ["db/kickoff?sslmode=require", { verify: "nothing" }],
    ["db/kickoff?ssl=true", { verify: "nothing" }],
    ["db/kickoff?ssl=true&sslmode=verify-full", { verify: "host" }],
    ["db/kickoff?sslmode=require&sslrootcert=/ca.pem", { verify: "chain", ca: "/ca.pem" }],
    ["db/kickoff?sslmode=verify-ca&sslrootcert=/ca.pem", { verify: "chain", ca: "/ca.pem" }],
    ["db/kickoff?sslmode=verify-full&sslrootcert=/ca.pem", { verify: "host", ca: "/ca.pem" }],
    ["db/kickoff?sslmode=verify-full", { verify: "host" }],
    ["db/kickoff?sslmode=verify-full&sslrootcert=system", { verify: "host", ca: "system" }],
    ["db/kickoff?sslmode=require&channel_binding=prefer", { verify: "nothing" }],
    ["db/kickoff?sslmode=verify-full&sslcert=/c&sslkey=/k", { verify: "host", own: { cert: "/c", key: "/k" } }],
    ["localhost/kickoff?host=/var/run/postgresql&sslmode=verify-full", undefined],
    ["%2Fvar%2Frun%2Fpostgresql/kickoff?sslmode=require", undefined]
  ]
  it.each(good)("of %s is what libpq makes of it", (rest, encryption) => {
    assert.deepStrictEqual(Result.map(database(rest), Option.getOrUndefined), Result.succeed(encryption))
  })

  const bad: ReadonlyArray<readonly [query: string, named: string]> = [
    ["sslmode=prefer", "sslmode"],
    ["sslmode=allow", "sslmode"],
    ["sslmode=", "sslmode"],
    ["sslmode=REQUIRE", "sslmode"],
    ["sslmode=disable&sslmode=require", "sslmode"],
    ["sslmode=require&sslmode=require", "sslmode"],
    ["ssl=1", "ssl"],
    ["ssl=no", "ssl"],
    ["SSLMODE=require", "SSLMODE"],
    ["sslMode=require", "sslMode"],
    ["tls=true", "tls"],
    ["requiressl=1", "requiressl"],
    ["sslnegotiation=direct&sslmode=require", "sslnegotiation"],
    ["sslmode=verify-full&sslcrl=/crl.pem", "sslcrl"],
    ["sslmode=require&channel_binding=require", "channel_binding"],
    ["gssencmode=require", "gssencmode"],
    ["require_auth=scram-sha-256", "require_auth"],
    ["sslrootcert=/ca.pem", "sslmode"],
    ["sslcert=/c&sslkey=/k", "sslmode"],
    ["sslmode=verify-full&sslcert=/c", "sslkey"],
    ["sslmode=verify-full&sslrootcert=", "sslrootcert"],
    ["sslmode=verify-ca", "sslrootcert"],
    ["sslmode=require&sslrootcert=system", "sslmode=verify-full"]
  ]
  it.each(bad)("?%s is refused and named, and not taken for something weaker", (query, named) => {
    const read = database(`db/kickoff?${query}`)
    assert.isTrue(Result.isFailure(read) && read.failure.includes(named), JSON.stringify(read))
  })
})

describe("the encryption of a broker's URL", () => {
  it("is none with amqp://, and one that verifies the broker with amqps://", () => {
    const good: ReadonlyArray<readonly [url: string, encryption: Encryption | undefined]> = [
      ["amqp://broker?heartbeat=5", undefined],
      ["amqps://broker", { verify: "host" }],
      ["amqps://broker/vhost?verify=verify_peer&heartbeat=5", { verify: "host" }],
      ["amqps://broker?cacertfile=/ca.pem", { verify: "host", ca: "/ca.pem" }],
      ["amqps://broker?certfile=/c&keyfile=/k", { verify: "host", own: { cert: "/c", key: "/k" } }]
    ]
    for (const [url, encryption] of good) {
      assert.deepStrictEqual(Result.map(broker(url), Option.getOrUndefined), Result.succeed(encryption), url)
    }
  })

  it.each([
    "amqp://broker?cacertfile=/ca.pem",
    "amqp://broker?verify=verify_peer",
    "amqps://broker?verify=verify_none",
    "amqps://broker?cacertfile=",
    "amqps://broker?cacertfile=/a&cacertfile=/b",
    "amqps://broker?certfile=/c",
    "amqps://broker?server_name_indication=other",
    "amqps://broker?auth_mechanism=external",
    "amqps://broker?CACertFile=/ca.pem"
  ])("%s is refused", (url) => {
    assert.isTrue(Result.isFailure(broker(url)), url)
  })
})

describe("the files that a URL names", () => {
  const withFile = <A>(content: string, use: (file: string) => A): A => {
    const folder = mkdtempSync(join(tmpdir(), "kickoff-tls-"))
    const file = join(folder, "file.pem")
    writeFileSync(file, content)
    try {
      return use(file)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const refusal = (encryption: Encryption) => Effect.runSync(Effect.flip(toTlsOptions(encryption))).message

  it("are named when they cannot be read", () => {
    assert.strictEqual(refusal({ verify: "host", ca: "/no/such.pem" }), "/no/such.pem: cannot be read (ENOENT)")
    assert.strictEqual(
      refusal({ verify: "host", own: { cert: "/no/c", key: "/no/k" } }),
      "/no/c: cannot be read (ENOENT)"
    )
  })

  it("are named, and not shown, when they hold no certificate; an empty list of CAs would be one that nobody wanted", () => {
    for (const content of ["", "s3cret", "-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"]) {
      const message = withFile(content, (file) => refusal({ verify: "host", ca: file }))
      assert.match(message, /file\.pem: Expected certificates in PEM format$/)
      assert.notInclude(message, "s3cret")
    }
  })

  it("are not needed for the CAs of the machine and those of Node.js", () => {
    for (const ca of [{}, { ca: "system" }]) {
      const { checkServerIdentity, rejectUnauthorized } = Effect.runSync(toTlsOptions({ verify: "host", ...ca }))
      assert.deepStrictEqual(
        { checkServerIdentity, rejectUnauthorized },
        { checkServerIdentity: undefined, rejectUnauthorized: true }
      )
    }
  })
})

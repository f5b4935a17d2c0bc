/**
 * What the URL of a server says of encryption: libpq's parameters for PostgreSQL, RabbitMQ's own for the broker.
 *
 * Whatever is said and cannot be done is refused. To ignore it would mean to connect in clear, or to whoever answers,
 * where the URL asks for the opposite.
 */
import { Option, Result } from "effect"

/** How a connection is encrypted. */
export interface Encryption {
  /** What the server must prove: nothing, that a trusted CA signed its certificate, or also that it is that host's. */
  readonly verify: "nothing" | "chain" | "host"
  /** The file of the CAs that are trusted, or `system` for those of the machine; else those that Node.js comes with. */
  readonly ca?: string
  /** The files of our own certificate and its key, for servers that ask for one. */
  readonly own?: { readonly cert: string; readonly key: string }
}

/** None is a connection in clear. */
export type EncryptionOrNone = Option.Option<Encryption>

/** What is wrong with a URL, to be read after "Expected a URL". */
export type Objection = string

const databaseParameters: ReadonlySet<string> = new Set(["sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"])

/** Spellings that libpq, or other drivers, take for a word on encryption or on who the server is. */
const isAboutEncryption = (name: string) => /^(ssl|tls|requiressl$|channel_?binding$|gssenc|require_?auth$)/i.test(name)

const databaseModes = ["disable", "require", "verify-ca", "verify-full"] as const

const both = (
  params: URLSearchParams,
  cert: string,
  key: string
): Result.Result<Pick<Encryption, "own">, Objection> => {
  const [certFile, keyFile] = [params.get(cert), params.get(key)]
  if (certFile === null && keyFile === null) return Result.succeed({})
  return certFile === null || keyFile === null
    ? Result.fail(`with both or none of its parameters ${cert} and ${key}`)
    : Result.succeed({ own: { cert: certFile, key: keyFile } })
}

const repeated = (params: URLSearchParams): string | undefined =>
  [...params.keys()].find((name) => isAboutEncryption(name) && params.getAll(name).length > 1)

/**
 * The encryption of a `postgres://` URL, with the meaning that libpq gives its parameters: `require` encrypts and
 * verifies nothing unless `sslrootcert` is there, `verify-ca` verifies the CA, `verify-full` also the host's name. On a
 * Unix socket it means nothing.
 *
 * `allow` and `prefer` are refused: they give way to whoever in between says that the server cannot encrypt.
 */
export const ofDatabaseUrl = (url: URL): Result.Result<EncryptionOrNone, Objection> =>
  Result.gen(function* () {
    const params = url.searchParams
    const unknown = [...params].find(
      ([name, value]) =>
        isAboutEncryption(name) &&
        !databaseParameters.has(name) &&
        !(name === "channel_binding" && /^(prefer|disable)$/.test(value))
    )
    if (unknown !== undefined) return yield* Result.fail(`without its parameter ${unknown[0]}, which is not supported`)
    const twice = repeated(params)
    if (twice !== undefined) return yield* Result.fail(`with its parameter ${twice} only once`)
    const ssl = params.get("ssl")
    if (ssl !== null && ssl !== "true")
      return yield* Result.fail("with its parameter ssl=true, or sslmode instead of it")

    const own = yield* both(params, "sslcert", "sslkey")
    const ca = params.get("sslrootcert")
    const said = params.get("sslmode")
    const mode = databaseModes.find((each) => each === (said ?? (ssl === "true" ? "require" : "disable")))
    if (mode === undefined)
      return yield* Result.fail(`with one of ${databaseModes.join(", ")} as its parameter sslmode`)
    if (said === null && ssl === null && (ca !== null || own.own !== undefined)) {
      return yield* Result.fail("with its parameter sslmode where others speak of certificates")
    }
    if (ca === "") return yield* Result.fail("with a file as its parameter sslrootcert")
    if (ca === "system" && mode !== "verify-full") {
      return yield* Result.fail(
        "with sslmode=verify-full where sslrootcert=system, because anybody has a certificate of those CAs"
      )
    }
    if (mode === "verify-ca" && ca === null) {
      return yield* Result.fail("with its parameter sslrootcert where sslmode=verify-ca")
    }
    const host = params.get("host") ?? decodeURIComponent(url.hostname)
    if (mode === "disable" || host.startsWith("/")) return Option.none()
    const verify = mode === "verify-full" ? "host" : mode === "verify-ca" || ca !== null ? "chain" : "nothing"
    return Option.some({ verify, ...(ca === null ? {} : { ca }), ...own })
  })

const brokerParameters: ReadonlySet<string> = new Set(["cacertfile", "certfile", "keyfile", "verify"])

/** Those, and what RabbitMQ's own clients and others take for a word on encryption or on who the broker is. */
const isAboutBrokerEncryption = (name: string) =>
  /^(ca_?cert|cert_?file$|key_?file$|verify|ssl|tls|server_name|depth$|password$|fail_if_no_peer|auth_mechanism$)/i.test(
    name
  )

/** The encryption of an `amqp://` URL, which is none, or of an `amqps://` one, where the broker is always verified. */
export const ofBrokerUrl = (url: URL): Result.Result<EncryptionOrNone, Objection> =>
  Result.gen(function* () {
    const params = url.searchParams
    const named = [...params.keys()].find(isAboutBrokerEncryption)
    if (url.protocol !== "amqps:") {
      if (named === undefined) return Option.none()
      return yield* Result.fail(`without its parameter ${named}, or one that starts with amqps://`)
    }
    const unknown = [...params.keys()].find((name) => isAboutBrokerEncryption(name) && !brokerParameters.has(name))
    if (unknown !== undefined) return yield* Result.fail(`without its parameter ${unknown}, which is not supported`)
    const twice = [...brokerParameters].find((name) => params.getAll(name).length > 1)
    if (twice !== undefined) return yield* Result.fail(`with its parameter ${twice} only once`)
    const verify = params.get("verify")
    if (verify !== null && verify !== "verify_peer")
      return yield* Result.fail("with verify_peer as its parameter verify")
    const own = yield* both(params, "certfile", "keyfile")
    const ca = params.get("cacertfile")
    if (ca === "") return yield* Result.fail("with a file as its parameter cacertfile")
    return Option.some({ verify: "host" as const, ...(ca === null ? {} : { ca }), ...own })
  })

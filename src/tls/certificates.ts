/**
 * Turns what a URL says of encryption into what Node.js wants, and what Node.js says of a certificate into plain words.
 *
 * The files are read when a client is made, so that a bad one is found at the start. Node.js itself takes a file without
 * any certificate for an empty list of CAs.
 */
import { Effect, Schema } from "effect"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Tls from "node:tls"
import type { Encryption } from "./encryption.ts"

/** A file that the URL names cannot be used. */
export class CertificateUnusable extends Schema.TaggedError<CertificateUnusable>()("CertificateUnusable", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.detail}`
  }
}

const attempt = <A>(file: string, body: () => A, describe: (error: unknown) => string) =>
  Effect.try({ try: body, catch: (error) => new CertificateUnusable({ file, detail: describe(error) }) })

const read = (file: string) =>
  attempt(
    file,
    () => readFileSync(file),
    (error) => (error instanceof Error && "code" in error ? `cannot be read (${String(error.code)})` : "cannot be read")
  )

const readCertificates = (file: string) =>
  Effect.tap(read(file), (pem) =>
    attempt(
      file,
      () => new X509Certificate(pem),
      () => "Expected certificates in PEM format"
    )
  )

/** The options for `tls.connect`, next to those that say where to. */
export type TlsOptions = Pick<Tls.ConnectionOptions, "secureContext" | "rejectUnauthorized" | "checkServerIdentity">

/** Reads the files. */
export const toTlsOptions = Effect.fnUntraced(function* ({
  ca,
  own,
  verify
}: Encryption): Effect.fn.Return<TlsOptions, CertificateUnusable> {
  const trusted =
    ca === undefined ? undefined : ca === "system" ? Tls.getCACertificates("system") : yield* readCertificates(ca)
  const identity = own === undefined ? {} : { cert: yield* readCertificates(own.cert), key: yield* read(own.key) }
  if (own !== undefined) {
    yield* attempt(
      own.key,
      () => createPrivateKey(identity.key ?? ""),
      () => "Expected a private key in PEM format without a passphrase"
    )
  }
  const secureContext = yield* attempt(
    own?.cert ?? ca ?? "",
    () => Tls.createSecureContext({ ca: trusted, ...identity }),
    (error) => `cannot be used: ${error instanceof Error ? error.message : String(error)}`
  )
  return {
    secureContext,
    rejectUnauthorized: verify !== "nothing",
    ...(verify === "host" ? {} : { checkServerIdentity: () => undefined })
  }
})

const refusals: Readonly<Record<string, string>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "is not signed by a CA that is trusted here",
  UNABLE_TO_GET_ISSUER_CERT: "is not signed by a CA that is trusted here",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "is not signed by a CA that is trusted here",
  SELF_SIGNED_CERT_IN_CHAIN: "is not signed by a CA that is trusted here",
  DEPTH_ZERO_SELF_SIGNED_CERT: "is signed by itself and not trusted here",
  CERT_SIGNATURE_FAILURE: "is not signed by the CA that it names",
  CERT_NOT_YET_VALID: "is not valid yet",
  CERT_HAS_EXPIRED: "has expired",
  INVALID_PURPOSE: "is not made for servers",
  ERR_TLS_CERT_ALTNAME_INVALID: "is for another host"
}

/** Why a server's certificate was refused; none if the error is about something else. */
export const describeRefusal = (error: unknown): string | undefined => {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined
  const refusal = refusals[error.code]
  if (refusal === undefined) return undefined
  const names = "reason" in error && typeof error.reason === "string" ? ` (${error.reason.trim()})` : ""
  return `the server's certificate ${refusal}${names}`
}

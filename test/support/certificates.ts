/**
 * Certificates for the tests of encryption: a CA, a server's certificate for `localhost` alone, a client's, and another CA.
 *
 * They are made anew by openssl in each run, so no key lies in the repository. The folder goes with the scope.
 */
import { Effect, type Scope } from "effect"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { promisify } from "node:util"
import { aptInstall } from "./apt.ts"

export interface Certificates {
  /** Signed the server's and the client's certificate. */
  readonly ca: string
  /** Signed nothing. */
  readonly otherCa: string
  readonly server: { readonly cert: string; readonly key: string }
  readonly client: { readonly cert: string; readonly key: string }
}

const run = promisify(execFile)

const findOpenssl = () =>
  [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin"]
    .map((folder) => join(folder, "openssl"))
    .find(existsSync)

const make = async (folder: string): Promise<Certificates> => {
  const openssl =
    findOpenssl() ??
    (await aptInstall(["openssl"], "The tests of encryption need openssl."), findOpenssl() ?? "openssl")
  const file = (name: string) => join(folder, name)
  const key = (name: string) => [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    file(name)
  ]
  const makeCa = (name: string) =>
    run(openssl, [
      "req",
      "-x509",
      ...key(`${name}.key`),
      "-out",
      file(`${name}.pem`),
      "-days",
      "2",
      "-subj",
      `/CN=${name}`
    ])
  const sign = async (name: string, extension: string) => {
    await writeFile(file(`${name}.ext`), extension)
    await run(openssl, ["req", "-new", ...key(`${name}.key`), "-out", file(`${name}.csr`), "-subj", `/CN=kickoff`])
    const signing = [
      "-CA",
      file("ca.pem"),
      "-CAkey",
      file("ca.key"),
      "-CAcreateserial",
      "-extfile",
      file(`${name}.ext`)
    ]
    await run(openssl, [
      "x509",
      "-req",
      "-in",
      file(`${name}.csr`),
      ...signing,
      "-days",
      "2",
      "-out",
      file(`${name}.pem`)
    ])
    return { cert: file(`${name}.pem`), key: file(`${name}.key`) }
  }
  await Promise.all([makeCa("ca"), makeCa("other")])
  const server = await sign("server", "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")
  const client = await sign("client", "extendedKeyUsage=clientAuth\n")
  // RabbitMQ runs under an account of its own.
  await chmod(folder, 0o755)
  await Promise.all((await readdir(folder)).map((name) => chmod(file(name), 0o644)))
  return { ca: file("ca.pem"), otherCa: file("other.pem"), server, client }
}

export const makeCertificates: Effect.Effect<Certificates, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "kickoff-certificates-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
).pipe(Effect.flatMap((folder) => Effect.promise(() => make(folder))))

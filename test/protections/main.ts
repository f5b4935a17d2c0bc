/**
 * `npm run test:protections`: takes out each protection of `docs/reliability.md` in a copy of the project and demands that
 * the tests it names fail there. Exit 1 if one passes, or could not be run.
 *
 * The same tests are run first as they are: what fails anyway proves nothing.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Clock, Console, Duration, Effect, Option, Ref, Result } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import packageJson from "../../package.json" with { type: "json" }
import { embeddedBinaries, find15, startPostgres } from "../support/postgres.ts"
import { makeBroker } from "../support/rabbitmq.ts"
import { makeCopy, root } from "./Copy.ts"
import { ProofError } from "./ProofError.ts"
import type { Protection, Tests } from "./Protection.ts"
import { protections } from "./protections.ts"
import { judge, type Verdict } from "./verdict.ts"

/** Starts a server that stops with the scope. */
const server = <S extends { readonly stop: () => Promise<void> }>(name: string, start: () => Promise<S>) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: start,
      catch: (error) => new ProofError({ detail: `${name} could not be started: ${String(error)}` })
    }),
    ({ stop }) => Effect.promise(stop)
  )

/** Servers for all runs, as variables that the set-up of the tests knows. */
const startServers = Effect.gen(function* () {
  const older = find15()
  const [newest, broker, debian] = yield* Effect.all(
    [
      server("PostgreSQL", async () => startPostgres(await embeddedBinaries())),
      server("RabbitMQ", () => makeBroker()),
      older === undefined ? Effect.undefined : server("PostgreSQL 15", () => startPostgres(older))
    ],
    { concurrency: "unbounded" }
  )
  return {
    TEST_POSTGRES_URL: newest.url,
    RABBITMQ_URL: broker.url,
    ...(debian === undefined ? {} : { TEST_POSTGRES15_URL: debian.url })
  }
})

/** All tests of some protections, each once. */
const union = (chosen: ReadonlyArray<Protection>): Tests => {
  const titles = new Map<string, Set<string>>()
  for (const { caughtBy } of chosen) {
    for (const [file, tests] of Object.entries(caughtBy)) {
      titles.set(file, new Set([...(titles.get(file) ?? []), ...tests]))
    }
  }
  return Object.fromEntries([...titles].map(([file, tests]) => [file, [...tests]]))
}

interface Proof {
  readonly protection: Protection
  readonly seconds: number
  /** What became of its tests, or why they could not be run. */
  readonly verdicts: Result.Result<ReadonlyArray<Verdict>, ProofError>
}

const holds = ({ verdicts }: Proof): boolean =>
  Result.isSuccess(verdicts) && verdicts.success.every(({ outcome }) => outcome === "failed")

const secondsSince = (began: number) => Effect.map(Clock.currentTimeMillis, (now) => Math.round((now - began) / 1000))

const prove = Effect.fnUntraced(function* (
  protection: Protection,
  untouched: string,
  servers: Readonly<Record<string, string>>
) {
  const began = yield* Clock.currentTimeMillis
  const verdicts = yield* makeCopy(untouched, protection.takenOut).pipe(
    Effect.flatMap((folder) => judge(folder, protection.caughtBy, servers, { workers: 1 })),
    Effect.scoped,
    Effect.result
  )
  return { protection, verdicts, seconds: yield* secondsSince(began) }
})

const numbers = ({ pitfalls }: Protection): string => pitfalls.map((pitfall) => `#${pitfall}`).join(" ")

/** What the tests said, a line for each, or why they could not be run. */
const remarks = ({ verdicts }: Proof): ReadonlyArray<string> =>
  Result.isFailure(verdicts)
    ? [verdicts.failure.message]
    : verdicts.success.map(({ file, outcome, said, test }) => `${outcome}: ${file}: ${test}: ${said}`)

const table = (proofs: ReadonlyArray<Proof>): string =>
  [
    ["pitfalls", "protection that was taken out", "tests that failed", "time"],
    ["---", "---", "---", "---:"],
    ...proofs.map((proof) => [
      numbers(proof.protection),
      proof.protection.name,
      holds(proof) && Result.isSuccess(proof.verdicts)
        ? proof.verdicts.success.map(({ file, test }) => `${file}: ${test}`).join("; ")
        : `NOT PROVEN: ${remarks(proof).join("; ")}`,
      `${proof.seconds} s`
    ])
  ]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`)
    .join("\n")

const testProtections = Command.make(
  "test:protections",
  {
    only: Flag.String("only").pipe(
      Flag.withDescription("Numbers of pitfalls, separated by commas; all unless given"),
      Flag.optional
    ),
    workers: Flag.Int("workers").pipe(
      Flag.withDescription("How many protections are taken out at the same time, each in a copy of its own"),
      Flag.withDefault(2)
    )
  },
  Effect.fnUntraced(function* ({ only, workers }) {
    const began = yield* Clock.currentTimeMillis
    const wanted = Option.map(only, (text) => text.split(",").map(Number))
    const chosen = protections.filter(
      ({ pitfalls }) => Option.isNone(wanted) || pitfalls.some((pitfall) => wanted.value.includes(pitfall))
    )
    if (chosen.length === 0) yield* new ProofError({ detail: "No protection is about these pitfalls" })
    const servers = yield* startServers

    yield* Console.error("The tests as they are …")
    // All are made of one copy: somebody may work on the project meanwhile.
    const untouched = yield* makeCopy(root, [])
    const before = yield* judge(untouched, union(chosen), servers, { workers, patience: Duration.minutes(15) })
    const ill = before.filter(({ outcome }) => outcome !== "passed")
    if (ill.length > 0) {
      const lines = ill.map(({ file, outcome, said, test }) => `${outcome}: ${file} > ${test} (${said})`)
      yield* new ProofError({ detail: `Not every test passes as it is:\n${lines.join("\n")}` })
    }
    yield* Console.error(`${before.length} tests pass, after ${yield* secondsSince(began)} s`)

    const done = yield* Ref.make(0)
    const proofs = yield* Effect.forEach(
      chosen,
      (protection) =>
        Effect.tap(prove(protection, untouched, servers), (proof) =>
          Effect.gen(function* () {
            const count = yield* Ref.updateAndGet(done, (n) => n + 1)
            yield* Console.error(
              [
                `${count}/${chosen.length} ${holds(proof) ? "caught" : "NOT PROVEN"} in ${proof.seconds} s: ` +
                  `${numbers(protection)} ${protection.name}`,
                ...remarks(proof)
              ].join("\n  ")
            )
          })
        ),
      { concurrency: workers }
    )
    yield* Console.log(table(proofs))
    const failed = proofs.filter((proof) => !holds(proof)).length
    const pitfalls = new Set(proofs.filter(holds).flatMap(({ protection }) => protection.pitfalls)).size
    yield* Console.error(
      `${proofs.length - failed} of ${proofs.length} protections are proven, of ${pitfalls} pitfalls, ` +
        `in ${yield* secondsSince(began)} s`
    )
    if (failed > 0) yield* new ProofError({ detail: `${failed} protections are not proven` })
  }, Effect.scoped)
).pipe(Command.withDescription("Take out each protection and demand that its tests fail"))

testProtections.pipe(
  Command.run({ version: packageJson.version }),
  // What is wrong with a call has been said with the help.
  Effect.tapCause((cause) => {
    const error = Cause.squash(cause)
    if (CliError.isCliError(error) || Cause.hasInterruptsOnly(cause)) return Effect.void
    return Console.error(`test:protections: ${error instanceof ProofError ? error.message : Cause.pretty(cause)}`)
  }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)

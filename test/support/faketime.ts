/**
 * A process whose clock is wrong, by libfaketime.
 *
 * Only the time of day is wrong: timers and everything else that is measured by the monotonic clock stay right, as when an
 * operator sets a clock.
 */
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { aptInstall } from "./apt.ts"

const howToGetOne =
  "A wrong process clock needs libfaketime. Install it (apt-get install libfaketime, dnf install libfaketime)."

/** Where distributions put it: in a folder of its own, which may be below the one of the architecture. */
const find = (): string | undefined =>
  ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
    .flatMap((folder) => (existsSync(folder) ? [folder, ...readdirSync(folder).map((name) => join(folder, name))] : []))
    .map((folder) => join(folder, "faketime/libfaketimeMT.so.1"))
    .find((file) => existsSync(file))

/** The library; installs it where that can be done. */
export const findFaketime = async (): Promise<string> => {
  if (find() === undefined) await aptInstall(["libfaketime"], howToGetOne)
  const library = find()
  if (library === undefined) throw new Error(howToGetOne)
  return library
}

/** The environment of a process whose clock is wrong by so many seconds. */
export const wrongClock = (library: string, seconds: number): NodeJS.ProcessEnv => ({
  LD_PRELOAD: library,
  FAKETIME: `${seconds < 0 ? "" : "+"}${seconds}s`,
  FAKETIME_DONT_FAKE_MONOTONIC: "1"
})

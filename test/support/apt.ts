/** Installs what the tests need and the machine lacks, where that is possible: as root on Debian or Ubuntu. */
import { accessSync, constants } from "node:fs"
import { rm, writeFile } from "node:fs/promises"
import { run } from "./commands.ts"

const aptGet = "/usr/bin/apt-get"
const policy = "/usr/sbin/policy-rc.d"

export const canInstall = (): boolean => {
  try {
    accessSync(aptGet, constants.X_OK)
    return process.getuid?.() === 0
  } catch {
    return false
  }
}

/** Installs packages; `howToGetOne` is what a person is told when that fails. */
export const aptInstall = async (names: ReadonlyArray<string>, howToGetOne: string): Promise<void> => {
  if (!canInstall()) throw new Error(howToGetOne)
  const apt = (...args: ReadonlyArray<string>) =>
    run(aptGet, ["-qq", "-o", "DPkg::Lock::Timeout=300", ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    })
  // Without it a package may start its server for the whole machine.
  const ours = await writeFile(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755, flag: "wx" }).then(
    () => true,
    () => false
  )
  try {
    // The lists may be old or absent; with old ones the installation can still work.
    const updated = await apt("update").then(
      () => "",
      (error: unknown) => `${String(error)}\n`
    )
    await apt("install", "-y", "--no-install-recommends", ...names).catch((error: unknown) => {
      throw new Error(`${howToGetOne}\napt-get could not install it:\n${updated}${String(error)}`, { cause: error })
    })
  } finally {
    if (ours) await rm(policy, { force: true })
  }
}

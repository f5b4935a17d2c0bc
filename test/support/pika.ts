/** A Python that has pika, RabbitMQ's client: one that is there, or Debian's. */
import { aptInstall } from "./apt.ts"
import { run } from "./commands.ts"

const howToGetOne =
  "The tests of the Python example need Python 3 with pika: apt-get install python3-pika, or pip install pika."

/** Debian's own first: a package of it is for no other one. */
const find = async (): Promise<string | undefined> => {
  for (const python of ["/usr/bin/python3", "python3"]) {
    const hasPika = await run(python, ["-c", "import pika"]).then(
      () => true,
      () => false
    )
    if (hasPika) return python
  }
  return undefined
}

/** The program to run; installs it where that can be done. */
export const findPython = async (): Promise<string> => {
  if ((await find()) === undefined) await aptInstall(["python3-pika"], howToGetOne)
  const python = await find()
  if (python === undefined) throw new Error(howToGetOne)
  return python
}

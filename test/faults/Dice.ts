/**
 * Choices that a seed repeats. Each part of the suite has dice of its own, so that how fast one of them is does not
 * change what another chooses.
 */
export class Dice {
  #state: number

  constructor(seed: number, owner: string) {
    this.#state = Buffer.from(owner).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), seed | 0)
  }

  /** From 0 to less than 1; the generator is mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  between(low: number, high: number): number {
    return low + this.next() * (high - low)
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  /** Removes one of them and returns it. */
  draw<A>(from: Array<A>): A | undefined {
    return from.splice(Math.floor(this.next() * from.length), 1)[0]
  }

  shuffled<A>(items: ReadonlyArray<A>): ReadonlyArray<A> {
    const left = [...items]
    return items.flatMap(() => {
      const drawn = this.draw(left)
      return drawn === undefined ? [] : [drawn]
    })
  }
}

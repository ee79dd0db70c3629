// A set of whole numbers as ranges: which entries of a talk are known.

export class Ranges {
  /** Sorted, neither touching nor overlapping; both ends are in it. */
  private list: [from: number, to: number][] = []

  /** The lowest number; null if there is none. */
  get lowest(): number | null {
    return this.list[0]?.[0] ?? null
  }

  /** The highest number; null if there is none. */
  get highest(): number | null {
    return this.list.at(-1)?.[1] ?? null
  }

  has(number: number): boolean {
    return this.list.some(([from, to]) => from <= number && number <= to)
  }

  /** Adds `from` to `to`, both included. */
  add(from: number, to = from): void {
    if (to < from) return
    const last = this.list.at(-1)
    if (last && from === last[1] + 1) {
      last[1] = to
      return
    }
    const before = this.list.filter(([, end]) => end < from - 1)
    const after = this.list.filter(([start]) => start > to + 1)
    const touching = this.list.slice(before.length, this.list.length - after.length)
    const low = Math.min(from, ...touching.map(([start]) => start))
    const high = Math.max(to, ...touching.map(([, end]) => end))
    this.list = [...before, [low, high], ...after]
  }

  /** Forgets everything below `number`. */
  dropBelow(number: number): void {
    this.list = this.list
      .filter(([, to]) => to >= number)
      .map(([from, to]) => [Math.max(from, number), to])
  }

  /** The last hole between the lowest and the highest number, both ends missing; null if none. */
  get hole(): { from: number; to: number } | null {
    const [before, after] = [this.list.at(-2), this.list.at(-1)]
    return before && after ? { from: before[1] + 1, to: after[0] - 1 } : null
  }
}

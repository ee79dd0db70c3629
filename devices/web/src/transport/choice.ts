// Which way to the broker is tried next. Each failure moves on to the next worse one, and around; the
// one that worked last is begun with, and a better one is looked for now and then. Time is an
// argument; knows no connection.

import { PATHS, type Path } from './transport'

/** Time between two looks for a better path, in ms: a minute of a worse one is bearable. */
export const LOOK_EVERY = 60_000

/** What ends sooner than this, in ms, does not work: some proxies let a connection begin. */
const LASTING = 5000

export class PathChoice {
  private at = 0
  private failures = 0
  private lookAt = 0
  private since = 0
  private turn = 0

  constructor(
    private readonly paths: readonly Path[] = PATHS,
    private readonly lookEvery = LOOK_EVERY,
  ) {}

  /** What to try now. */
  get path(): Path {
    return this.paths[this.at] ?? 'websocket'
  }

  /** The path that was tried does not work. */
  failed(): void {
    this.failures += 1
    this.at = (this.at + 1) % this.paths.length
  }

  /** `path` works. */
  works(path: Path, now: number): void {
    this.at = Math.max(0, this.paths.indexOf(path))
    this.since = now
    this.lookAt = now + this.lookEvery
  }

  /** The path that worked does not any more: it is the first to be tried, unless it never lasts. */
  dropped(now: number): void {
    if (now - this.since < LASTING) this.failed()
    else this.failures = 0
  }

  /** Wait before the next attempt, in ms: none while there are paths that were not tried. */
  delay(random: number): number {
    // It may be that everyone lost the broker at once.
    if (this.failures === 0) return Math.round(1 + random * 500)
    if (this.failures % this.paths.length !== 0) return 0
    const round = this.failures / this.paths.length - 1
    const step = Math.min(500 * 2 ** Math.min(Math.max(round, 0), 10), 15_000)
    return Math.round(step * (0.75 + 0.5 * random))
  }

  /** A better path to be tried beside the one that works; null if it is not yet time. */
  better(now: number): Path | null {
    if (this.at === 0 || now < this.lookAt) return null
    this.lookAt = now + this.lookEvery
    return this.paths[this.lookFrom()] ?? null
  }

  /** When to ask for a better path again; null if there is none. */
  get nextLook(): number | null {
    return this.at === 0 ? null : this.lookAt
  }

  /** The network changed, or the page was woken up: everything is worth a try. */
  retryNow(): void {
    this.lookAt = 0
  }

  /** All the better ones in turn, so that one which hangs does not hide another. */
  private lookFrom(): number {
    this.turn = (this.turn + 1) % this.at
    return this.turn
  }
}

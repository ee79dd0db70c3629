// Markers that only grow (read, delivered), on their way to the broker: of each the largest, gathered for
// a moment, because who reads a flood would publish one for every screen.

/** How long markers are gathered, in ms: soon enough for who waits to see that one was read. */
const GATHER = 250

export class Markers {
  private readonly waiting = new Map<string, number>()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly publish: (topic: string, text: string) => void) {}

  /** The topic's number is at least this. */
  raise(topic: string, seq: number): void {
    this.waiting.set(topic, Math.max(seq, this.waiting.get(topic) ?? 0))
    this.timer ??= setTimeout(() => this.flush(), GATHER)
  }

  /** Publishes what waits. */
  flush(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    for (const [topic, seq] of this.waiting) this.publish(topic, String(seq))
    this.waiting.clear()
  }
}

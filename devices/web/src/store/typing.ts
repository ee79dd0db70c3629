// Who is typing, and when to say that we are. Time is an argument.

/** Our own signal is repeated at most this often, in ms. */
export const SIGNAL_EVERY = 2000
/** A signal of someone else is believed for this long, in ms: two signals, so one may be lost. */
export const SHOWN_FOR = 4000

/** Decides whether a keystroke is worth a message. */
export class TypingSignal {
  private last = -Infinity

  /** True if the room should be told now. */
  keystroke(now: number): boolean {
    if (now - this.last < SIGNAL_EVERY) return false
    this.last = now
    return true
  }

  /** The text was sent: the next keystroke begins a new one. */
  reset(): void {
    this.last = -Infinity
  }
}

/** The others who are typing. */
export class TypingOthers {
  private readonly until = new Map<string, number>()

  /** `name` signalled. */
  seen(name: string, now: number): void {
    this.until.set(name, now + SHOWN_FOR)
  }

  /** `name` sent what was typed. */
  spoke(name: string): void {
    this.until.delete(name)
  }

  /** Names to show, in the order in which they began. */
  names(now: number): string[] {
    for (const [name, until] of this.until) if (until <= now) this.until.delete(name)
    return [...this.until.keys()]
  }

  /** When the list changes by itself, or null. */
  nextChange(): number | null {
    return this.until.size === 0 ? null : Math.min(...this.until.values())
  }
}

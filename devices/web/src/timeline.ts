// The messages of a room in the order of the room.
//
// Sorted by `seq`, each seq once. Own messages are shown before they have one: they stand at the
// end until the acknowledgement or the message itself, coming back, brings their number. Entries
// are replaced, never changed. Knows no connection and no clock.

/** How far an own message got; messages of others are always `received`. */
export type Delivery = 'pending' | 'sent' | 'failed' | 'received'

/** One line of the conversation. */
export interface Entry {
  /** Stable while the entry changes, for rendering. */
  readonly key: number
  /** Number within the room; null while unknown. */
  readonly seq: number | null
  /** Identity given by the broker; tells two lives of a journal apart. */
  readonly id: string | null
  /** Identity given by this page to an own message. */
  readonly cid: string | null
  readonly from: string
  readonly text: string
  /** Milliseconds since the Unix epoch. */
  readonly ts: number
  readonly mine: boolean
  readonly delivery: Delivery
  /** Why a message failed. */
  readonly reason: string | null
}

/** What the broker says about a message, as far as it says it. */
export interface Stamp {
  seq: number | null
  id: string | null
  ts: number | null
}

/** A message as it arrives. */
export interface Arrival extends Stamp {
  cid: string | null
  from: string
  text: string
}

/** Entries kept in memory: far more than anyone scrolls back, small for a phone. */
export const MAX_ENTRIES = 1000

export class Timeline {
  private list: Entry[] = []
  private lastKey = 0
  private delivered = 0

  constructor(private readonly me: string) {}

  /** All entries in order. */
  get entries(): readonly Entry[] {
    return this.list
  }

  /**
   * The highest seq that was *delivered*. Acknowledgements do not count: the number of an own
   * message may be ahead of messages of others that are still to come.
   */
  get lastDelivered(): number {
    return this.delivered
  }

  /** Own messages without an acknowledgement, oldest first. */
  get unsent(): Entry[] {
    return this.list.filter((e) => e.delivery === 'pending').sort((a, b) => a.key - b.key)
  }

  /** Shows an own message before it is sent. */
  compose(cid: string, text: string, now: number): void {
    this.insert({
      ...{ seq: null, id: null, cid, from: this.me, text, ts: now },
      ...{ mine: true, delivery: 'pending', reason: null },
    })
  }

  /** The broker has stored the message `cid`. */
  acknowledge(cid: string, stamp: Stamp): void {
    const entry = this.own(cid)
    if (!entry) return
    const twin = this.bySeq(stamp.seq)
    if (twin && twin.key !== entry.key) {
      // It came back without our cid before its acknowledgement did.
      this.list = this.list.filter((e) => e.key !== entry.key)
      this.replace(twin, { delivery: 'sent', cid })
      return
    }
    this.replace(entry, { ...known(stamp), delivery: 'sent', reason: null })
  }

  /** The broker did not take the message `cid`. */
  refuse(cid: string, reason: string): void {
    const entry = this.own(cid)
    if (entry?.delivery === 'pending') this.replace(entry, { delivery: 'failed', reason })
  }

  /** The person wants the failed message `cid` to be sent again: it moves to the end. */
  revive(cid: string): void {
    const entry = this.own(cid)
    if (entry?.delivery !== 'failed') return
    this.list = this.list.filter((e) => e.key !== entry.key)
    this.insert({ ...entry, delivery: 'pending', reason: null })
  }

  /** A message arrived, for the first time or again. */
  receive(arrival: Arrival): void {
    const { seq } = arrival
    const present = this.bySeq(seq)
    if (present && present.id && arrival.id && present.id !== arrival.id) {
      // The same number for another message: the room's history has begun anew.
      this.list = this.list.filter((e) => e.seq === null)
      this.delivered = 0
    } else if (present) {
      this.delivered = Math.max(this.delivered, seq ?? 0)
      if (present.delivery === 'pending') this.replace(present, { delivery: 'sent' })
      return
    }
    this.delivered = Math.max(this.delivered, seq ?? 0)

    const mine = arrival.from === this.me
    const own = mine && arrival.cid ? this.own(arrival.cid) : undefined
    if (own) {
      // A message without number that is already known as sent is a repetition.
      this.replace(own, { ...known(arrival), delivery: 'sent', reason: null })
      return
    }
    this.insert({
      ...{ seq, id: arrival.id, cid: arrival.cid, from: arrival.from, text: arrival.text },
      ...{ ts: arrival.ts ?? Date.now(), mine, delivery: mine ? 'sent' : 'received', reason: null },
    })
  }

  private own(cid: string): Entry | undefined {
    return this.list.find((e) => e.mine && e.cid === cid)
  }

  private bySeq(seq: number | null): Entry | undefined {
    return seq === null ? undefined : this.list.find((e) => e.seq === seq)
  }

  private insert(entry: Omit<Entry, 'key'>): void {
    this.lastKey += 1
    this.arrange([...this.list, { ...entry, key: this.lastKey }])
  }

  private replace(entry: Entry, change: Partial<Entry>): void {
    this.arrange(this.list.map((e) => (e.key === entry.key ? { ...e, ...change } : e)))
  }

  private arrange(list: Entry[]): void {
    list.sort((a, b) => {
      const [x, y] = [a.seq ?? Infinity, b.seq ?? Infinity]
      return x === y ? a.key - b.key : x - y
    })
    const surplus = list.length - MAX_ENTRIES
    this.list = surplus > 0 ? list.filter((e, i) => i >= surplus || e.delivery === 'pending') : list
  }
}

/** The parts of a stamp that say something. */
function known(stamp: Stamp): Partial<Entry> {
  return {
    ...(stamp.seq === null ? {} : { seq: stamp.seq }),
    ...(stamp.id === null ? {} : { id: stamp.id }),
    ...(stamp.ts === null ? {} : { ts: stamp.ts }),
  }
}

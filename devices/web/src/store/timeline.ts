// The messages of a talk in the order of the talk.
//
// Sorted by `seq`, each seq once. Own messages are shown before they have one: they stand at the end
// until the acknowledgement, or the message itself, coming back, brings their number. Entries are
// replaced, never changed. Numbers of a talk have no gaps, so a missing one is seen: `hole`. Knows
// no connection and no clock.

import type { Stamp } from '../wire/arrival'
import type { EntryKind } from '../wire/topics'
import { fold, inOrder, plain, type Change, type Delivery, type Entry, type Sent, type Shape } from './entry'
import { Ranges } from './ranges'

/** An entry of the talk as it arrives, live or from history. */
export interface Incoming extends Stamp {
  kind: EntryKind
  target: number | null
  from: string
  text: string | null
  size: number
  cid: string | null
  /** How history has it: what it became, up to which number. */
  became?: { shape: Shape; upTo: number }
}

/** What this person sends. */
export interface Draft {
  cid: string
  kind: EntryKind
  target: number | null
  text: string
  now: number
}

/** Entries of one talk in memory: scrolling back further forgets the other end. */
export const MAX_ENTRIES = 12_000
/** Changes held for messages that are not in memory. */
const MAX_LOOSE_CHANGES = 2000

export class Timeline {
  /** Entries with a number, in order. */
  private list: Entry[] = []
  /** Own messages without one, in the order written. */
  private waiting: Entry[] = []
  private readonly bySeq = new Map<number, Entry>()
  /** By the number of the message. */
  private readonly changes = new Map<number, Change[]>()
  private known = new Ranges()
  private lastKey = 0
  private all: readonly Entry[] | null = null
  /** True if history has nothing before the first entry. */
  reachedStart = false

  constructor(private readonly me: string) {}

  /** All entries in order. */
  get entries(): readonly Entry[] {
    this.all ??= this.waiting.length === 0 ? this.list.slice() : [...this.list, ...this.waiting]
    return this.all
  }

  /** The message with this number, if it is in memory. */
  find(seq: number): Entry | undefined {
    return this.bySeq.get(seq)
  }

  /** The highest number that is known, of a message or a change; 0 if there is none. */
  get head(): number {
    return this.known.highest ?? 0
  }

  /** The number from which on everything was asked for; null if nothing is known. */
  get lowest(): number | null {
    return this.known.lowest
  }

  /** Numbers that must exist and did not come; null if there are none. */
  get hole(): { from: number; to: number } | null {
    return this.known.hole
  }

  /** The last own message that can be edited. */
  get lastOwn(): Entry | null {
    return this.list.findLast((e) => e.mine && !e.recalled && e.text !== null) ?? null
  }

  /** The last message of anyone. */
  get last(): Entry | null {
    return this.waiting.at(-1) ?? this.list.at(-1) ?? null
  }

  /** Messages of others after number `seq`. */
  after(seq: number): Entry[] {
    return this.list.filter((e) => !e.mine && !e.recalled && e.seq !== null && e.seq > seq)
  }

  /** Shows something of our own before it is sent. */
  compose(draft: Draft): void {
    const { cid, kind, target, text, now } = draft
    if (isChange(kind) && target !== null) {
      this.addChange(target, { kind, from: this.me, text, seq: null, cid, ts: now })
      return
    }
    this.wait({
      ...{ key: this.nextKey(), seq: null, id: null, cid, from: this.me, ts: now, mine: true },
      ...{ delivery: 'pending', reason: null, replyTo: target, base: plain(text), reflected: 0 },
      size: new TextEncoder().encode(text).length,
    })
  }

  /** The broker has stored what has this `cid`. */
  acknowledge(cid: string, stamp: Stamp): void {
    if (stamp.seq !== null) this.known.add(stamp.seq)
    const entry = this.waiting.find((e) => e.cid === cid)
    if (entry) {
      this.unwait(entry)
      // It may have come back before.
      if (stamp.seq === null || !this.bySeq.has(stamp.seq)) {
        this.insert({ ...entry, ...said(stamp), delivery: 'sent', reason: null })
      }
      return
    }
    this.renumber(cid, (change) => ({ ...change, seq: stamp.seq ?? change.seq ?? this.head }))
  }

  /** The broker did not take what has this `cid`. */
  refuse(cid: string, reason: string): void {
    const entry = this.waiting.find((e) => e.cid === cid)
    if (entry) this.rewait(entry, 'failed', reason)
    else this.renumber(cid, () => null)
  }

  /** The person wants the failed message `cid` to be sent again: it moves to the end. */
  revive(cid: string): void {
    const entry = this.waiting.find((e) => e.cid === cid)
    if (entry?.delivery !== 'failed') return
    this.unwait(entry)
    this.wait({ ...entry, delivery: 'pending', reason: null })
  }

  /** The person does not want to send the message `cid` any more. */
  discard(cid: string): void {
    const entry = this.waiting.find((e) => e.cid === cid)
    if (entry) this.unwait(entry)
  }

  /** Something arrived, for the first time or again. */
  receive(incoming: Incoming): void {
    const { seq, kind, target, from } = incoming
    const isNew = seq === null || !this.known.has(seq)
    if (seq !== null) this.known.add(seq)
    if (isChange(kind)) {
      if (target !== null && incoming.text !== null) this.receiveChange(kind, target, incoming, isNew)
      return
    }
    const mine = from === this.me
    const own = mine && incoming.cid ? this.waiting.find((e) => e.cid === incoming.cid) : undefined
    if (own) this.unwait(own)
    const present = seq === null ? undefined : this.bySeq.get(seq)
    const { shape = plain(incoming.text), upTo = seq ?? 0 } = incoming.became ?? {}
    if (present) {
      // History may know better what became of it.
      if (upTo > present.reflected) this.replace({ ...present, base: shape, reflected: upTo })
      return
    }
    this.insert({
      ...{ key: own?.key ?? this.nextKey(), seq, id: incoming.id, cid: incoming.cid, from, size: incoming.size },
      ...{ ts: incoming.ts ?? 0, mine, delivery: mine ? 'sent' : 'received', reason: null },
      ...{ replyTo: kind === 'reply' ? target : null, base: shape, reflected: upTo },
    })
  }

  /** Everything from `from` to `to` was asked for, and what there is has been received. */
  cover(from: number, to: number): void {
    this.known.add(from, to)
  }

  /** The lowest number that there still is; `head + 1` if there is none. */
  startsAt(first: number): void {
    const lowest = this.lowest
    if (lowest !== null && lowest < first) this.known.dropBelow(Math.min(first, this.head))
    this.reachedStart = (this.lowest ?? first) <= first
  }

  /** Forgets the oldest entries beyond `limit`. */
  trim(limit: number): void {
    const surplus = this.list.length - limit
    if (surplus <= 0) return
    for (const entry of this.list.slice(0, surplus)) {
      if (entry.seq === null) continue
      this.bySeq.delete(entry.seq)
      this.changes.delete(entry.seq)
    }
    this.list = this.list.slice(surplus)
    const first = this.list.find((e) => e.seq !== null)?.seq
    if (first != null) this.known.dropBelow(first)
    this.reachedStart = false
    this.all = null
  }

  /** Forgets everything but what waits to be sent: the talk may have begun anew. */
  reset(): void {
    this.list = []
    this.bySeq.clear()
    this.changes.clear()
    this.known = new Ranges()
    this.reachedStart = false
    this.all = null
  }

  private receiveChange(kind: Change['kind'], target: number, incoming: Incoming, isNew: boolean): void {
    const { seq, from, cid, ts } = incoming
    if (from === this.me && cid && this.renumber(cid, (change) => ({ ...change, seq: seq ?? change.seq }))) return
    if (!isNew) return
    this.addChange(target, { kind, from, text: incoming.text ?? '', seq, cid, ts: ts ?? 0 })
  }

  private addChange(target: number, change: Change): void {
    const present = this.changes.get(target) ?? []
    // Known already by its acknowledgement.
    if (change.seq !== null && present.some((other) => other.seq === change.seq)) return
    this.changes.set(target, [...present, change].sort(inOrder))
    this.reshape(target)
    this.boundLooseChanges()
  }

  /** Changes the change `cid`, or takes it away; false if there is none. */
  private renumber(cid: string, to: (change: Change) => Change | null): boolean {
    for (const [target, changes] of this.changes) {
      const at = changes.findIndex((change) => change.cid === cid)
      const found = changes[at]
      if (!found || found.from !== this.me) continue
      const next = to(found)
      const rest = changes.filter((_, i) => i !== at)
      this.changes.set(target, next ? [...rest, next].sort(inOrder) : rest)
      this.reshape(target)
      return true
    }
    return false
  }

  private boundLooseChanges(): void {
    if (this.changes.size <= MAX_LOOSE_CHANGES) return
    for (const target of this.changes.keys()) {
      if (this.bySeq.has(target)) continue
      this.changes.delete(target)
      return
    }
  }

  private reshape(seq: number): void {
    const entry = this.bySeq.get(seq)
    if (entry) this.replace(entry)
  }

  private shaped(sent: Sent): Entry {
    return fold(sent, sent.seq === null ? [] : (this.changes.get(sent.seq) ?? []))
  }

  private nextKey(): number {
    this.lastKey += 1
    return this.lastKey
  }

  private wait(sent: Sent): void {
    this.waiting = [...this.waiting, fold(sent, [])]
    this.all = null
  }

  private rewait(entry: Entry, delivery: Delivery, reason: string | null): void {
    this.waiting = this.waiting.map((e) => (e.key === entry.key ? { ...e, delivery, reason } : e))
    this.all = null
  }

  private unwait(entry: Entry): void {
    this.waiting = this.waiting.filter((e) => e.key !== entry.key)
    this.all = null
  }

  private insert(sent: Sent): void {
    const entry = this.shaped(sent)
    if (entry.seq !== null) this.bySeq.set(entry.seq, entry)
    const at = entry.seq === null ? this.list.length : this.place(entry.seq)
    if (at === this.list.length) this.list.push(entry)
    else this.list.splice(at, 0, entry)
    this.all = null
  }

  private replace(sent: Sent): void {
    const entry = this.shaped(sent)
    if (entry.seq === null) return
    const at = this.place(entry.seq) - 1
    if (this.list[at]?.key !== entry.key) return
    this.bySeq.set(entry.seq, entry)
    this.list[at] = entry
    this.all = null
  }

  /** Behind the last entry whose number is at most `seq`. */
  private place(seq: number): number {
    let [low, high] = [0, this.list.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.numberAt(middle) <= seq) low = middle + 1
      else high = middle
    }
    return low
  }

  /** An entry without a number stands where it arrived: it has that of the one before it. */
  private numberAt(at: number): number {
    for (let i = at; i >= 0; i -= 1) {
      const seq = this.list[i]?.seq
      if (seq != null) return seq
    }
    return 0
  }
}

function isChange(kind: EntryKind): kind is Change['kind'] {
  return kind === 'edit' || kind === 'recall' || kind === 'react'
}

/** The parts of a stamp that say something. */
function said(stamp: Stamp): Partial<Sent> {
  return {
    ...(stamp.seq === null ? {} : { seq: stamp.seq, reflected: stamp.seq }),
    ...(stamp.id === null ? {} : { id: stamp.id }),
    ...(stamp.ts === null ? {} : { ts: stamp.ts }),
  }
}

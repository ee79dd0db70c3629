// All talks of this person: the messages of each as far as they are in memory, and its last one.
//
// Memory is bounded: talks that nobody looked at for long keep only their last message; they are
// read again when they are opened. Knows no connection.

import type { Arrival } from '../wire/arrival'
import type { EntryKind, TalkKey } from '../wire/topics'
import type { Shape } from './entry'
import { MAX_ENTRIES, Timeline, type Incoming } from './timeline'

/** The last message of a talk, for a list. */
export interface Preview {
  seq: number
  from: string
  text: string | null
  ts: number
}

export interface Talk {
  readonly key: TalkKey
  readonly timeline: Timeline
  preview: Preview | null
  /** True if the end of the talk is in the timeline, and what comes live follows it. */
  isCurrent: boolean
  /** Order of last use. */
  used: number
}

/** An entry of a talk: what the topic says of an arrival. */
export interface EntryPlace {
  talk: TalkKey
  from: string
  kind: EntryKind
  target: number | null
}

/** Talks whose messages stay in memory. */
const FULL_TALKS = 20
/** Messages that a talk keeps which nobody looks at. */
const FEW = 200

export class Talks {
  private readonly talks = new Map<TalkKey, Talk>()
  private uses = 0

  constructor(private readonly me: string) {}

  get keys(): TalkKey[] {
    return [...this.talks.keys()]
  }

  find(key: TalkKey): Talk | undefined {
    return this.talks.get(key)
  }

  get(key: TalkKey): Talk {
    const known = this.talks.get(key)
    if (known) return known
    const talk: Talk = { key, timeline: new Timeline(this.me), preview: null, isCurrent: false, used: 0 }
    this.talks.set(key, talk)
    return talk
  }

  /** The talk is looked at; others may have to go from memory. */
  use(key: TalkKey): Talk {
    const talk = this.get(key)
    this.uses += 1
    talk.used = this.uses
    const full = [...this.talks.values()].filter((t) => t.used > 0).sort((a, b) => b.used - a.used)
    for (const old of full.slice(FULL_TALKS)) {
      old.used = 0
      old.timeline.trim(FEW)
    }
    return talk
  }

  /** An entry arrived live, or again; true if it is a new message of somebody else. */
  arrived(place: EntryPlace, arrival: Arrival, became?: { shape: Shape; upTo: number }): boolean {
    const talk = this.get(place.talk)
    const { seq, id, ts, cid, text, size } = arrival
    const before = talk.timeline.head
    const incoming: Incoming = { ...place, seq, id, ts, cid, text, size }
    talk.timeline.receive(became ? { ...incoming, became } : incoming)
    if (!became) talk.timeline.trim(talk.used > 0 ? MAX_ENTRIES : FEW)
    const isMessage = place.kind === 'message' || place.kind === 'reply'
    if (isMessage) this.preview(talk, place.from, arrival, became?.shape)
    else this.refreshPreview(talk)
    return isMessage && place.from !== this.me && (seq === null || seq > before)
  }

  /** The last message of a talk that is not in memory. */
  remember(key: TalkKey, preview: Preview): void {
    this.get(key).preview = preview
  }

  forget(key: TalkKey): void {
    this.talks.delete(key)
  }

  /** Everything may have begun anew. */
  reset(): void {
    for (const talk of this.talks.values()) {
      talk.timeline.reset()
      talk.isCurrent = false
    }
  }

  private preview(talk: Talk, from: string, { seq, text, ts }: Arrival, shape?: Shape): void {
    if (seq !== null && seq < (talk.preview?.seq ?? 0)) return
    talk.preview = { seq: seq ?? 0, from, ts: ts ?? 0, text: shape ? shape.text : text }
  }

  /** The last message may have been edited or recalled. */
  private refreshPreview(talk: Talk): void {
    const last = talk.preview && talk.timeline.find(talk.preview.seq)
    if (last && talk.preview) talk.preview = { ...talk.preview, text: last.recalled ? '' : last.text }
  }
}

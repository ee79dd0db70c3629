// How far everyone has read, and what is unread for this person.
//
// Unread is derived: the broker's count at a number of the talk, and the messages that came after
// that number. A read marker only grows.

import type { TalkKey } from '../wire/topics'

/** What is unread in one talk. */
export interface Unread {
  messages: number
  mentions: number
}

interface Counted {
  /** The counts are right up to this number of the talk. */
  upTo: number
  unread: Unread
  /** Those of them that were counted here, the last ones. */
  recent: readonly { seq: number; mentionsMe: boolean }[]
}

/** Messages counted here that the broker's count may not know of yet. */
const MAX_RECENT = 500

const NONE: Unread = { messages: 0, mentions: 0 }

export class Receipts {
  private readonly reads = new Map<TalkKey, Map<string, number>>()
  private readonly deliveries = new Map<TalkKey, number>()
  private readonly counts = new Map<TalkKey, Counted>()

  constructor(private readonly me: string) {}

  /** `user` has read the talk up to `seq`; true if that is news. */
  read(talk: TalkKey, user: string, seq: number): boolean {
    const users = this.reads.get(talk) ?? new Map<string, number>()
    this.reads.set(talk, users)
    if (seq <= (users.get(user) ?? 0)) return false
    users.set(user, seq)
    return true
  }

  readUpTo(talk: TalkKey, user = this.me): number {
    return this.reads.get(talk)?.get(user) ?? 0
  }

  /** Others who have read at least up to `seq`, by name. */
  readers(talk: TalkKey, seq: number): string[] {
    return [...(this.reads.get(talk) ?? [])]
      .filter(([user, upTo]) => user !== this.me && upTo >= seq)
      .map(([user]) => user)
      .sort((a, b) => a.localeCompare(b))
  }

  /** A device of the other one has the talk up to `seq`. */
  delivered(talk: TalkKey, seq: number): void {
    this.deliveries.set(talk, Math.max(seq, this.deliveries.get(talk) ?? 0))
  }

  wasDelivered(talk: TalkKey, seq: number): boolean {
    return (this.deliveries.get(talk) ?? 0) >= seq
  }

  unread(talk: TalkKey): Unread {
    return this.counts.get(talk)?.unread ?? NONE
  }

  /** The broker's count, at number `upTo` of the talk, for who has read up to `read`. */
  counted(talk: TalkKey, upTo: number, read: number, unread: Unread): void {
    // More was read here meanwhile: it counted what is read by now.
    if (read < this.readUpTo(talk)) return
    const recent = (this.counts.get(talk)?.recent ?? []).filter(({ seq }) => seq > upTo)
    this.counts.set(talk, {
      upTo: recent.at(-1)?.seq ?? upTo,
      unread: {
        messages: unread.messages + recent.length,
        mentions: unread.mentions + recent.filter(({ mentionsMe }) => mentionsMe).length,
      },
      recent,
    })
  }

  /** A message of somebody else came; history that comes again is not counted again. */
  arrived(talk: TalkKey, seq: number, mentionsMe: boolean): void {
    const { upTo, unread, recent } = this.counts.get(talk) ?? { upTo: 0, unread: NONE, recent: [] }
    if (seq <= upTo || seq <= this.readUpTo(talk)) return
    this.counts.set(talk, {
      upTo: seq,
      unread: { messages: unread.messages + 1, mentions: unread.mentions + (mentionsMe ? 1 : 0) },
      recent: [...recent.slice(1 - MAX_RECENT), { seq, mentionsMe }],
    })
  }

  /** This person has read up to `seq`, after which there is `rest`. */
  caughtUp(talk: TalkKey, seq: number, rest: Unread): void {
    const upTo = Math.max(seq, this.counts.get(talk)?.upTo ?? 0)
    this.counts.set(talk, { upTo, unread: rest, recent: [] })
  }

  forget(talk: TalkKey): void {
    this.reads.delete(talk)
    this.counts.delete(talk)
  }
}

/** True if a text addresses `user`: `@user`, not within a longer name. */
export function mentions(text: string, user: string): boolean {
  for (let at = text.indexOf(`@${user}`); at >= 0; at = text.indexOf(`@${user}`, at + 1)) {
    const next = text.slice(at + 1 + user.length).match(/^[\p{L}\p{N}_]/u)
    const before = at > 0 && /\w/.test(text[at - 1] ?? '')
    if (!next && !before) return true
  }
  return false
}

// One message of a talk as it is shown: what was sent, and what has become of it since.
//
// Edits, withdrawals and reactions are entries of the same talk with numbers of their own. History
// gives a message as it is by then (`reflected`: up to which number); what comes live is put on top,
// in the order of its numbers, so that it does not matter what arrives first or twice.

/** How far an own message got; messages of others are always `received`. */
export type Delivery = 'pending' | 'sent' | 'failed' | 'received'

/** Something that happened to a message. */
export interface Change {
  readonly kind: 'edit' | 'recall' | 'react'
  readonly from: string
  readonly text: string
  /** Null while it is our own, on its way. */
  readonly seq: number | null
  readonly cid: string | null
  readonly ts: number
}

export interface Reaction {
  readonly emoji: string
  readonly users: readonly string[]
}

/** What became of a message: the text that counts, and what was done to it. */
export interface Shape {
  /** Null if the payload is no text. */
  readonly text: string | null
  readonly edited: boolean
  readonly recalled: boolean
  readonly reactions: readonly Reaction[]
}

/** A message as it was sent. */
export interface Sent {
  /** Stable while the entry changes, for rendering. */
  readonly key: number
  /** Number within the talk; null while unknown. */
  readonly seq: number | null
  /** Identity given by the broker. */
  readonly id: string | null
  /** Identity given by this page to an own message. */
  readonly cid: string | null
  readonly from: string
  /** Bytes of the payload as sent. */
  readonly size: number
  /** Milliseconds since the Unix epoch. */
  readonly ts: number
  readonly mine: boolean
  readonly delivery: Delivery
  /** Why a message failed. */
  readonly reason: string | null
  /** The message that this one answers. */
  readonly replyTo: number | null
  /** As it was sent, or as history had it at `reflected`. */
  readonly base: Shape
  /** Changes up to this number are in `base`. */
  readonly reflected: number
}

/** One line of a conversation. */
export interface Entry extends Sent, Shape {}

export const plain = (text: string | null): Shape => ({
  text,
  edited: false,
  recalled: false,
  reactions: [],
})

/** A message with what happened to it. */
export function fold(sent: Sent, changes: readonly Change[]): Entry {
  let { text, edited, recalled } = sent.base
  let reactions = sent.base.reactions
  for (const change of changes) {
    if (change.seq !== null && change.seq <= sent.reflected) continue
    if (change.kind === 'react') reactions = react(reactions, change.from, change.text)
    else if (change.kind === 'recall') recalled = true
    else if (change.from === sent.from) [text, edited] = [change.text, true]
  }
  return { ...sent, text: recalled ? '' : text, edited, recalled, reactions: recalled ? [] : reactions }
}

/** One person has one reaction to a message; an empty one takes it back. */
function react(reactions: readonly Reaction[], user: string, emoji: string): Reaction[] {
  const others = reactions
    .map((reaction) => ({ ...reaction, users: reaction.users.filter((name) => name !== user) }))
    .filter((reaction) => reaction.users.length > 0)
  if (emoji === '') return others
  const same = others.find((reaction) => reaction.emoji === emoji)
  if (!same) return [...others, { emoji, users: [user] }]
  return others.map((reaction) =>
    reaction === same ? { ...reaction, users: [...reaction.users, user] } : reaction,
  )
}

/** The order of changes: by number, our own on their way last. */
export function inOrder(a: Change, b: Change): number {
  return (a.seq ?? Infinity) - (b.seq ?? Infinity) || 0
}

// Topics that this page and the broker share: where a message belongs, and what it is.
//
// A *talk* is what has one order of messages: a room, or two people. Its key is `chat/{room}` or
// `dm/{peer}`, so that a key never means two things. Nothing here knows connections.

/** A conversation, by its key. */
export type TalkKey = `chat/${string}` | `dm/${string}`

/** What an entry of a talk is; all but the first two change the message `target`. */
export type EntryKind = 'message' | 'reply' | 'edit' | 'recall' | 'react'

/** What a topic means to the person `me`. */
export type Place =
  | { what: 'entry'; talk: TalkKey; from: string; kind: EntryKind; target: number | null }
  | { what: 'typing'; talk: TalkKey; from: string }
  | { what: 'read' | 'delivered'; talk: TalkKey; user: string }
  | { what: 'room'; room: string }
  | { what: 'member' | 'ban' | 'mute' | 'invite'; room: string; user: string }
  | { what: 'presence'; user: string }
  | { what: 'inbox' }
  | { what: 'answer' }

const CHANGES = new Set(['reply', 'edit', 'recall', 'react'])
const MARKS = new Set(['member', 'ban', 'mute', 'invite'])

/** Longest name of a person or room, in bytes of UTF-8, as the broker has it. */
export const MAX_NAME_BYTES = 128
/** Joins the two names of a direct room; no chosen name has it. */
const JOINT = '&'

export const roomTalk = (room: string): TalkKey => `chat/${room}`
export const directTalk = (peer: string): TalkKey => `dm/${peer}`

/** The room of a talk; null for two people without one. */
export function roomOf(talk: TalkKey): string | null {
  return talk.startsWith('chat/') ? talk.slice(5) : null
}

/** The other one of a talk of two; null for a room that is not direct. */
export function peerOf(talk: TalkKey, me: string): string | null {
  if (talk.startsWith('dm/')) return talk.slice(3)
  const names = talk.slice(5).split(JOINT)
  if (names.length !== 2) return null
  const [one, other] = names.map((name) => name.replaceAll('%26', '&').replaceAll('%25', '%'))
  if (one === me) return other ?? null
  return other === me ? (one ?? null) : null
}

/** Where `me` publishes a new entry of a talk. */
export function entryTopic(talk: TalkKey, me: string, kind: EntryKind, target: number | null): string {
  const base = `${talk}/${me}`
  return kind === 'message' || target === null ? base : `${base}/${kind}/${target}`
}

/** Where `me` says that they type. */
export const typingTopic = (talk: TalkKey, me: string) =>
  talk.startsWith('chat/') ? `typing/${talk.slice(5)}/${me}` : null

/** Where `me` says how far they have read. */
export const readTopic = (talk: TalkKey, me: string) =>
  talk.startsWith('chat/') ? `read/${talk.slice(5)}/${me}` : `${talk}/${me}/read`

/** Where `me` says how far a direct talk has come to one of their devices. */
export const deliveredTopic = (talk: TalkKey, me: string) =>
  talk.startsWith('dm/') ? `${talk}/${me}/delivered` : null

/** What a topic means to `me`; null for anything this page has no use for. */
export function placeOf(topic: string, me: string): Place | null {
  const [space, first, second, third, fourth, ...rest] = topic.split('/')
  if (!space || !first || rest.length > 0) return null
  if (space === 'chat' || space === 'dm') {
    if (!second) return null
    const talk = space === 'chat' ? roomTalk(first) : dmTalk(first, second, me)
    if (!talk) return null
    if (third === undefined) return { what: 'entry', talk, from: second, kind: 'message', target: null }
    if (space === 'dm' && fourth === undefined && (third === 'read' || third === 'delivered')) {
      return { what: third, talk, user: second }
    }
    if (!CHANGES.has(third) || !fourth || !/^\d{1,15}$/.test(fourth)) return null
    return { what: 'entry', talk, from: second, kind: third as EntryKind, target: Number(fourth) }
  }
  if (fourth !== undefined) return null
  if (space === 'typing' && second && third === undefined) {
    return { what: 'typing', talk: roomTalk(first), from: second }
  }
  if (space === 'read' && second && third === undefined) {
    return { what: 'read', talk: roomTalk(first), user: second }
  }
  if (space === 'room') {
    if (second === undefined) return { what: 'room', room: first }
    if (!third || !MARKS.has(second)) return null
    return { what: second as 'member' | 'ban' | 'mute' | 'invite', room: first, user: third }
  }
  if (space === 'user' && third === undefined) {
    if (second === 'presence') return { what: 'presence', user: first }
    if (second === 'inbox' && first === me) return { what: 'inbox' }
    if (second === 'reply' && first === me) return { what: 'answer' }
  }
  return null
}

/** `dm/{to}/{from}`: both directions are one talk. */
function dmTalk(to: string, from: string, me: string): TalkKey | null {
  if (from === me) return directTalk(to)
  return to === me ? directTalk(from) : null
}

/** Why `name` cannot be one level of a topic: a key of the table of strings; null if it can. */
export function nameProblem(name: string): 'name_missing' | 'name_long' | 'name_characters' | 'name_start' | null {
  if (name === '') return 'name_missing'
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return 'name_long'
  if (/[/+#&\u0000-\u001f\u007f-\u009f]/.test(name)) return 'name_characters'
  if (/^[$.]/.test(name)) return 'name_start'
  return null
}

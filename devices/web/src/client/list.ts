// The list of talks: which there are, in which order, with what to say about each.

import { peerOf, roomOf, roomTalk, type TalkKey } from '../wire/topics'
import type { RoomKind } from '../store/rooms'
import type { Preview } from '../store/talks'
import type { Client } from './client'

export interface TalkItem {
  key: TalkKey
  title: string
  /** The other one in a talk of two. */
  peer: string | null
  kind: RoomKind | null
  preview: Preview | null
  unread: number
  mentions: number
}

/** What a talk is called. */
export function titleOf(client: Client, key: TalkKey): string {
  const peer = peerOf(key, client.me)
  if (peer !== null) return peer
  const room = roomOf(key) ?? ''
  return client.rooms.record(room)?.title || room
}

/** All talks, the one with the newest message first. */
export function talkList(client: Client): TalkItem[] {
  const keys = new Set<TalkKey>(client.places.all)
  if (client.view.managed) {
    for (const key of keys) if (roomOf(key) !== null) keys.delete(key)
    for (const room of client.rooms.joined) keys.add(roomTalk(room))
  } else {
    for (const key of client.talks.keys) if (client.talk(key)?.preview && !client.places.hasLeft(key)) keys.add(key)
  }
  for (const key of client.talks.keys) {
    if (key.startsWith('dm/') && client.talk(key)?.preview && !client.places.hasLeft(key)) keys.add(key)
  }
  if (client.view.open) keys.add(client.view.open)
  return [...keys].map((key) => itemOf(client, key)).sort(newestFirst)
}

function itemOf(client: Client, key: TalkKey): TalkItem {
  const room = roomOf(key)
  const { messages, mentions } = client.receipts.unread(key)
  // What one looks at is read in a moment.
  const isSeen = key === client.view.open && document.hasFocus()
  return {
    ...{ key, title: titleOf(client, key), peer: peerOf(key, client.me) },
    kind: room === null ? 'direct' : (client.rooms.record(room)?.kind ?? null),
    preview: client.talk(key)?.preview ?? null,
    unread: isSeen ? 0 : messages,
    mentions: isSeen ? 0 : mentions,
  }
}

function newestFirst(a: TalkItem, b: TalkItem): number {
  return (b.preview?.ts ?? 0) - (a.preview?.ts ?? 0) || a.title.localeCompare(b.title)
}

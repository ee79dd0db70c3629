// What the broker says about all talks of a person at once: what is unread, and what was said last.

import { arrivalFromJson, whole } from '../wire/arrival'
import { directTalk, roomTalk, type TalkKey } from '../wire/topics'
import type { Unread } from '../store/receipts'
import type { Preview } from '../store/talks'

export interface Overview {
  key: TalkKey
  head: number
  read: number
  unread: Unread
  last: Preview | null
}

export interface DirectOverview extends Overview {
  /** How far the other one has got it, and has read it. */
  delivered: number
  readByPeer: number
}

type Json = Record<string, unknown>

const listOf = (value: unknown): Json[] => (Array.isArray(value) ? (value as Json[]) : [])
const nameIn = (json: Json, field: string) => (typeof json[field] === 'string' ? [json[field]] : [])

export function overviewFromJson(json: Json): { rooms: Overview[]; direct: DirectOverview[] } {
  return {
    rooms: listOf(json['rooms']).flatMap((one) => nameIn(one, 'room').map((room) => overview(roomTalk(room), one))),
    direct: listOf(json['direct']).flatMap((one) =>
      nameIn(one, 'with').map((peer) => ({
        ...overview(directTalk(peer), one),
        delivered: whole(one['peer_delivered']) ?? 0,
        readByPeer: whole(one['peer_read']) ?? 0,
      })),
    ),
  }
}

/** How to ask for what did not fit into an answer; null if everything did. */
export function nextOverview(json: Json): Json | null {
  if (json['more'] !== true && json['more_direct'] !== true) return null
  const after = listOf(json['rooms']).at(-1)?.['room']
  const afterDirect = listOf(json['direct']).at(-1)?.['with']
  // Of what is complete nothing comes again: no name is behind the last there can be.
  const behindAll = '\u{10ffff}'
  return {
    after: json['more'] === true && typeof after === 'string' ? after : behindAll,
    after_direct: json['more_direct'] === true && typeof afterDirect === 'string' ? afterDirect : behindAll,
  }
}

function overview(key: TalkKey, json: Json): Overview {
  return {
    key,
    head: whole(json['head']) ?? 0,
    read: whole(json['read']) ?? 0,
    unread: { messages: whole(json['unread']) ?? 0, mentions: whole(json['mentions']) ?? 0 },
    last: previewFromJson(json['last']),
  }
}

function previewFromJson(json: unknown): Preview | null {
  const arrival = arrivalFromJson(json)
  if (!arrival || arrival.seq === null) return null
  const edited = (json as Json)['edited'] as Json | undefined
  const isRecalled = Boolean((json as Json)['recalled'])
  const words = typeof edited?.['payload'] === 'string' ? edited['payload'] : arrival.text
  return { seq: arrival.seq, from: arrival.from ?? '', ts: arrival.ts ?? 0, text: isRecalled ? '' : words }
}

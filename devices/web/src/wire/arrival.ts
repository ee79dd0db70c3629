// A message as it arrives, the same from MQTT, from a stream of events and from history.

/** What the broker says about a message, as far as it says it. */
export interface Stamp {
  /** Number within the talk. */
  seq: number | null
  /** Identity; tells two lives of a journal apart. */
  id: string | null
  /** Milliseconds since the Unix epoch. */
  ts: number | null
}

/** A message of any topic. */
export interface Arrival extends Stamp {
  topic: string
  /** Null where the topic does not say it and the broker did not. */
  from: string | null
  /** Null if the bytes are no text. */
  text: string | null
  /** Bytes of the payload. */
  size: number
  cid: string | null
  /** Users it speaks of, as its sender says. */
  mentions: readonly string[]
  /** Position after it, for what is kept. */
  cursor: string | null
  /** A retained message that was there before. */
  retained: boolean
}

/** User properties as the MQTT library gives them: a name that occurs twice has a list. */
export type UserProperties = Record<string, string | string[]> | undefined

/** The value of a user property; the last one, because the broker adds its own at the end. */
export function property(properties: UserProperties, name: string): string | null {
  const value = properties?.[name]
  return (Array.isArray(value) ? value.at(-1) : value) ?? null
}

/** All values of a user property. */
export function allOf(properties: UserProperties, name: string): readonly string[] {
  const value = properties?.[name] ?? []
  return Array.isArray(value) ? value : [value]
}

/** What the broker says in user properties. */
export function stampOf(properties: UserProperties): Stamp {
  return {
    seq: whole(property(properties, 'seq')) || null,
    id: property(properties, 'id'),
    ts: whole(property(properties, 'ts')),
  }
}

/** The text of a payload; null if it is none. */
export function textOf(payload: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
  } catch {
    return null
  }
}

/** A message in JSON, as history, events and long polls have it; null if it is none. */
export function arrivalFromJson(value: unknown): Arrival | null {
  if (typeof value !== 'object' || value === null) return null
  const json = value as Record<string, unknown>
  const string = (name: string) => (typeof json[name] === 'string' ? json[name] : null)
  const topic = string('topic')
  if (topic === null) return null
  const text = string('payload')
  const encoded = string('payload_base64')
  return {
    topic,
    from: string('from'),
    text: text ?? (encoded === null ? '' : null),
    size: encoded === null ? new TextEncoder().encode(text ?? '').length : Math.floor((encoded.length * 3) / 4),
    seq: whole(json['seq']) || null,
    id: string('id'),
    ts: whole(json['ts']),
    cid: string('cid'),
    mentions: Array.isArray(json['mentions']) ? json['mentions'].filter((name): name is string => typeof name === 'string') : [],
    cursor: string('cursor'),
    retained: json['retain'] === true || json['retained'] === true,
  }
}

/** A whole number from 0 on, written or as such. */
export function whole(value: unknown): number | null {
  if (typeof value === 'string') return /^\d{1,16}$/.test(value) ? safe(Number(value)) : null
  return typeof value === 'number' ? safe(value) : null
}

function safe(number: number): number | null {
  return Number.isSafeInteger(number) && number >= 0 ? number : null
}

/** A JSON object in a text; null for anything else. */
export function objectIn(text: string | null): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text ?? '')
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}

// Names, topics and addresses: the words that this page and the broker share.

import type { Stamp } from './timeline'

/** Messages shown when entering a room. */
const HISTORY = 50
/** Longest name of a person or room, in characters. */
export const MAX_NAME = 64

/** Why `name` cannot be one level of a topic, or null if it can. */
export function nameProblem(name: string): string | null {
  if (name === '') return 'Please enter a name.'
  if (name.length > MAX_NAME) return `At most ${MAX_NAME} characters.`
  if (/[/+#\u0000-\u001f\u007f-\u009f]/.test(name)) return 'The characters / + # cannot be used.'
  if (name.startsWith('$')) return 'A name cannot start with $.'
  return null
}

/** What to subscribe to: the last messages at first, later everything after the last one seen. */
export function historyFilter(room: string, lastDelivered: number): string {
  const from = lastDelivered > 0 ? `seq/${lastDelivered + 1}` : `last/${HISTORY}`
  return `$replay/${from}/chat/${room}/+`
}

export const messageTopic = (room: string, name: string) => `chat/${room}/${name}`
export const typingTopic = (room: string, name: string) => `typing/${room}/${name}`

/** Kind and sender of a topic of this room; null for anything else. */
export function readTopic(topic: string, room: string): { kind: 'chat' | 'typing'; from: string } | null {
  const [kind, where, from, ...rest] = topic.split('/')
  if ((kind !== 'chat' && kind !== 'typing') || where !== room || !from || rest.length > 0) return null
  return { kind, from }
}

/** User properties as the MQTT library gives them: a name that occurs twice has a list. */
export type UserProperties = Record<string, string | string[]> | undefined

/** The value of a user property; the last one, because the broker adds its own at the end. */
export function property(properties: UserProperties, name: string): string | null {
  const value = properties?.[name]
  return (Array.isArray(value) ? value.at(-1) : value) ?? null
}

/** What the broker says about a message. */
export function readStamp(properties: UserProperties): Stamp {
  const whole = (name: string) => {
    const text = property(properties, name)
    const number = text !== null && /^\d+$/.test(text) ? Number(text) : NaN
    return Number.isSafeInteger(number) ? number : null
  }
  return { seq: whole('seq') || null, id: property(properties, 'id'), ts: whole('ts') }
}

/** The broker's address: where this page came from, or what `?ws=` says. */
export function brokerUrl(location: Pick<Location, 'protocol' | 'host' | 'search'>): string {
  const override = new URLSearchParams(location.search).get('ws')
  if (override && /^wss?:\/\//.test(override)) return override
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`
}

/** The room in the address bar, '' if there is none. */
export function roomFromHash(hash: string): string {
  try {
    return decodeURIComponent(hash.replace(/^#/, '')).trim()
  } catch {
    return ''
  }
}

/** Wait before attempt `attempt` (0, 1, 2, ...) to reconnect, in ms; `random` is in 0..1. */
export function retryDelay(attempt: number, random: number): number {
  const step = Math.min(500 * 2 ** Math.min(attempt, 10), 15_000)
  return Math.round(step * (0.75 + 0.5 * random))
}

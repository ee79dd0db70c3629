// The broker over HTTP, for the ways that have no connection of their own to send on: what is
// published and asked over MQTT elsewhere becomes a request.

import { whole, type Stamp } from '../wire/arrival'
import { ANSWER_WITHIN, Lost, Refused, sentence, type Credentials, type How } from './transport'

type Json = Record<string, unknown>

/** A request: what, where, and the body if there is one. */
export interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  body?: Json
}

const part = (text: unknown) => encodeURIComponent(String(text))

/** The request that publishes on a topic; null where there is none, and nothing is missed. */
export function publishing(topic: string, text: string, { cid, mentions = [] }: How): Call | null {
  const [space, place, , kind, target] = topic.split('/')
  if (space === 'read') return { method: 'PUT', path: `/v1/rooms/${part(place)}/read`, body: { seq: Number(text) } }
  if (space !== 'chat' && space !== 'dm') return null
  if (space === 'dm' && (kind === 'read' || kind === 'delivered')) return null
  const messages = `/v1/${space === 'dm' ? 'dm' : 'rooms'}/${part(place)}/messages`
  const reaction = `${messages}/${target}/reactions`
  switch (kind) {
    case 'edit':
      return { method: 'PATCH', path: `${messages}/${target}`, body: { text } }
    case 'recall':
      return { method: 'DELETE', path: `${messages}/${target}` }
    case 'react':
      // One person has one reaction: which one is taken back does not matter.
      return text === '' ? { method: 'DELETE', path: `${reaction}/-` } : { method: 'PUT', path: `${reaction}/${part(text)}` }
    default: {
      const about = kind === 'reply' ? { reply_to: Number(target) } : {}
      const said = mentions.length > 0 ? { mentions } : {}
      return { method: 'POST', path: messages, body: { text, ...(cid === undefined ? {} : { cid }), ...about, ...said } }
    }
  }
}

/** The request that asks a service for something; null where there is none. */
export function asking(method: string, fields: Json, me: string): Call | null {
  const { room, user, seconds } = fields
  const here = `/v1/rooms/${part(room)}`
  const query = (names: readonly string[]) => {
    const given = names.filter((name) => fields[name] !== undefined).map((name) => `${name}=${part(fields[name])}`)
    return given.length > 0 ? `?${given.join('&')}` : ''
  }
  const pick = (...names: string[]) => Object.fromEntries(names.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])))
  const limited = seconds === undefined ? {} : { seconds }
  switch (method) {
    case 'history': {
      const place = fields['with'] === undefined ? here : `/v1/dm/${part(fields['with'])}`
      return { method: 'GET', path: `${place}/messages${query(['before', 'after', 'around', 'limit'])}` }
    }
    case 'presence': {
      const path = `/v1/users/${part(me)}/presence`
      return Object.keys(fields).length === 0 ? { method: 'GET', path } : { method: 'PUT', path, body: fields }
    }
    case 'unread':
      return { method: 'GET', path: `/v1/unread${query(['after', 'after_direct'])}` }
    case 'list':
      return { method: 'GET', path: `/v1/rooms${query(['public', 'after', 'limit'])}` }
    case 'create':
      return { method: 'POST', path: '/v1/rooms', body: pick('room', 'title', 'kind', 'with') }
    case 'join':
    case 'leave':
    case 'archive':
    case 'unarchive':
      return { method: 'POST', path: `${here}/${method}` }
    case 'transfer':
      return { method: 'POST', path: `${here}/transfer`, body: { user } }
    case 'delete':
      return { method: 'DELETE', path: here }
    case 'rename':
      return { method: 'PATCH', path: here, body: pick('title') }
    case 'slow':
      return { method: 'PATCH', path: here, body: { slow_s: seconds } }
    case 'role':
      return { method: 'PUT', path: `${here}/members/${part(user)}`, body: pick('role') }
    case 'kick':
      return { method: 'DELETE', path: `${here}/members/${part(user)}` }
    case 'invite':
    case 'uninvite':
      return { method: method === 'invite' ? 'PUT' : 'DELETE', path: `${here}/invitations/${part(user)}` }
    case 'ban':
    case 'mute':
      return { method: 'PUT', path: `${here}/${method}s/${part(user)}`, body: limited }
    case 'unban':
    case 'unmute':
      return { method: 'DELETE', path: `${here}/${method.slice(2)}s/${part(user)}` }
    default:
      return null
  }
}

/** Somebody's requests. */
export class Rest {
  constructor(
    private readonly base: string,
    private readonly credentials: Credentials,
  ) {}

  /** @throws {Refused} for good, {Lost} for now. */
  async publish(topic: string, text: string, how: How): Promise<Stamp> {
    const call = publishing(topic, text, how)
    const json = call ? await this.call(call) : {}
    return { seq: whole(json['seq']) || null, id: typeof json['id'] === 'string' ? json['id'] : null, ts: whole(json['ts']) }
  }

  /** @throws {Refused} for good, {Lost} for now. */
  ask(method: string, fields: Json): Promise<Json> {
    const call = asking(method, fields, this.credentials.user)
    return call ? this.call(call) : Promise.reject(new Refused('unknown_method', 'not over HTTP'))
  }

  private async call({ method, path, body }: Call): Promise<Json> {
    const content: RequestInit = body === undefined ? {} : { body: JSON.stringify(body) }
    const type: Record<string, string> = body === undefined ? {} : { 'Content-Type': 'application/json' }
    const response = await this.fetch(path, { method, ...content, headers: type, signal: AbortSignal.timeout(ANSWER_WITHIN) })
    const json = (await response.json().catch(() => ({}))) as Json
    if (response.ok) return json
    throw problemOf(response, json)
  }

  /** A request with the token. @throws {Lost} if there is no answer. */
  async fetch(path: string, init: RequestInit & { headers?: Record<string, string> }): Promise<Response> {
    const { token } = this.credentials
    const headers = { ...init.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) }
    try {
      // The cookie may be that of somebody else in another tab.
      return await fetch(`${this.base}${path}`, { ...init, headers, credentials: 'omit', cache: 'no-store' })
    } catch (error) {
      throw new Lost(sentence(error))
    }
  }
}

/** What a failed request means. */
export function problemOf(response: Pick<Response, 'status'>, json: Json): Error {
  const { code, text } = (json['error'] ?? {}) as Json
  // A proxy on the way, or a broker that cannot now.
  if (response.status >= 500 || code === undefined) return new Lost(`HTTP ${response.status}`)
  return new Refused(String(code), String(text ?? code))
}

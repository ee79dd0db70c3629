// Long polling for what comes, and requests for what goes: each answer says where the next begins. A
// poll tells what happens, not what is; so what is, is asked for at the beginning.

import { arrivalFromJson, type Arrival, type Stamp } from '../wire/arrival'
import { filterQuery } from './events'
import { Rest, problemOf } from './rest'
import { Lost, Refused, sentence, type How, type Listener, type Options, type Transport } from './transport'

/** Seconds that the broker waits for news: less than what proxies take for a dead request. */
const WAIT_S = 20
/** Time for an answer beyond that, in ms. */
const PATIENCE = 10_000
/** Between two requests after one that failed, in ms; after as many in a row the path is given up. */
const BREATH = 500
const MAX_FAILURES = 2

export function openPoll(base: string, options: Options, listener: Listener): Transport {
  return new PollTransport(base, options, listener)
}

class PollTransport implements Transport {
  readonly path = 'poll'
  private readonly rest: Rest
  private request: AbortController | null = null
  private cursor: string | null
  private filters: string
  private isOver = false
  private isOnline = false
  private failures = 0

  constructor(
    base: string,
    private readonly options: Options,
    private readonly listener: Listener,
  ) {
    this.rest = new Rest(base, options)
    this.cursor = options.cursor
    this.filters = filterQuery(options.filters)
    void this.run()
  }

  publish(topic: string, text: string, how: How): Promise<Stamp> {
    return this.rest.publish(topic, text, how)
  }

  whisper(): void {
    // As with a stream of events.
  }

  ask(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    return this.rest.ask(method, fields)
  }

  listenTo(filters: readonly string[]): void {
    const wanted = filterQuery(filters)
    if (wanted === this.filters) return
    const before = this.filters
    this.filters = wanted
    // The request under way is for other filters: its answer would be good, but late.
    this.request?.abort()
    if (this.isOnline) void this.tellMembers(filters, before)
  }

  close(): void {
    this.isOver = true
    this.request?.abort()
  }

  private async run(): Promise<void> {
    while (!this.isOver) {
      const filters = this.filters
      try {
        const json = await this.poll()
        this.failures = 0
        if (this.isOver) return
        this.take(json)
      } catch (error) {
        if (this.isOver) return
        if (filters !== this.filters) continue
        this.failures += 1
        const denied = error instanceof Refused && error.code === 'unauthorized'
        if (denied || !this.isOnline || this.failures >= MAX_FAILURES) return this.end(sentence(error), denied)
        await new Promise((resolve) => setTimeout(resolve, BREATH))
      }
    }
  }

  private async poll(): Promise<Record<string, unknown>> {
    const request = (this.request = new AbortController())
    // The first answer comes at once: then it is known that this path works.
    const wait = this.isOnline ? WAIT_S : 0
    const late = setTimeout(() => request.abort(), wait * 1000 + PATIENCE)
    try {
      const since = `since=${this.cursor ?? 'now'}&wait=${wait}`
      const response = await this.rest.fetch(`/v1/poll?${this.filters}&${since}`, { signal: request.signal })
      const json = (await response.json().catch(() => null)) as Record<string, unknown> | null
      if (response.status === 401) throw new Refused('unauthorized', 'signed out')
      if (!response.ok) throw problemOf(response, json ?? {})
      if (json === null) throw new Lost('no answer')
      return json
    } finally {
      clearTimeout(late)
    }
  }

  private take(json: Record<string, unknown>): void {
    if (json['reset'] === true || json['gap'] !== undefined) this.listener.reset('trimmed')
    const messages = Array.isArray(json['messages']) ? json['messages'] : []
    for (const message of messages) {
      const arrival = arrivalFromJson(message)
      if (arrival) this.listener.arrived(arrival)
    }
    if (typeof json['cursor'] === 'string') {
      this.cursor = json['cursor']
      this.listener.positioned(this.cursor)
    }
    if (this.isOnline) return
    this.isOnline = true
    void this.tellRooms()
    this.listener.online()
  }

  /** What a subscription would bring as retained messages: the rooms that this person is in. */
  private async tellRooms(): Promise<void> {
    try {
      const { rooms } = await this.rest.ask('list', {})
      for (const room of Array.isArray(rooms) ? (rooms as Record<string, unknown>[]) : []) {
        const name = String(room['room'])
        const owner = room['role'] === 'owner' ? this.options.user : ''
        this.tell(`room/${name}`, { owner, ...room })
        this.tell(`room/${name}/member/${this.options.user}`, { role: room['role'] })
      }
      await this.tellMembers(this.options.filters, '')
    } catch {
      // It comes as it changes.
    }
  }

  /** The same for who is in a room that is listened to as a whole. */
  private async tellMembers(filters: readonly string[], before: string): Promise<void> {
    for (const filter of filters) {
      const room = /^room\/([^/+#]+)\/#$/.exec(filter)?.[1]
      if (room === undefined || before.includes(encodeURIComponent(filter))) continue
      try {
        const response = await this.rest.fetch(`/v1/rooms/${encodeURIComponent(room)}/members?limit=1000`, {})
        const json = (await response.json()) as Record<string, unknown>
        for (const member of Array.isArray(json['members']) ? (json['members'] as Record<string, unknown>[]) : []) {
          this.tell(`room/${room}/member/${String(member['user'])}`, member)
        }
      } catch {
        // It comes as it changes.
      }
    }
  }

  private tell(topic: string, json: Record<string, unknown>): void {
    if (this.isOver) return
    const arrival: Arrival | null = arrivalFromJson({ topic, payload: JSON.stringify(json), retained: true })
    if (arrival) this.listener.arrived(arrival)
  }

  private end(why: string, denied: boolean): void {
    if (this.isOver) return
    this.close()
    this.listener.lost(why, denied)
  }
}

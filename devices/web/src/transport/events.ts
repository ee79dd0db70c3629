// Server-Sent Events for what comes, and requests for what goes. The stream is read with fetch, because
// EventSource cannot show a token, and hides why it failed.

import { arrivalFromJson, objectIn, type Stamp } from '../wire/arrival'
import { Rest, problemOf } from './rest'
import { EventParser, type StreamEvent } from './stream'
import { KEPT, Refused, sentence, type How, type Listener, type Options, type Transport } from './transport'

/** Time for the stream to begin, in ms: then another path is tried. */
const OPEN_WITHIN = 8000
/** Silence after which the stream is taken for dead, in ms: several heartbeats. */
const SILENCE = 60_000
/** How long changes of what is listened to are gathered, in ms, before the stream is opened anew. */
const SETTLE = 150
/** Filters of one stream, as the broker has it. */
const MAX_FILTERS = 50

export function openEvents(base: string, options: Options, listener: Listener): Transport {
  return new EventsTransport(base, options, listener)
}

/** What is listened to, as a query. Filters that name one person could be refused, and all with them. */
export function filterQuery(filters: readonly string[]): string {
  const shared = filters.map((filter) => (/^user\/[^/]+\/presence$/.test(filter) ? 'user/+/presence' : filter))
  const all = [...new Set([...KEPT, ...shared])].slice(0, MAX_FILTERS)
  return all.map((filter) => `filter=${encodeURIComponent(filter)}`).join('&')
}

class EventsTransport implements Transport {
  readonly path = 'events'
  private readonly rest: Rest
  private stream: AbortController | null = null
  private cursor: string | null
  private filters: string
  private isOver = false
  private isOnline = false
  private watchdog: ReturnType<typeof setTimeout> | undefined
  private settling: ReturnType<typeof setTimeout> | undefined

  constructor(
    base: string,
    options: Options,
    private readonly listener: Listener,
  ) {
    this.rest = new Rest(base, options)
    this.cursor = options.cursor
    this.filters = filterQuery(options.filters)
    void this.open()
  }

  publish(topic: string, text: string, how: How): Promise<Stamp> {
    return this.rest.publish(topic, text, how)
  }

  whisper(): void {
    // Who types is not told: a request for each would cost more than it is worth.
  }

  ask(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    return this.rest.ask(method, fields)
  }

  /** A stream has one list of filters: with another, it goes on from where it was. */
  listenTo(filters: readonly string[]): void {
    const wanted = filterQuery(filters)
    if (wanted === this.filters) return
    this.filters = wanted
    clearTimeout(this.settling)
    this.settling = setTimeout(() => void this.open(), SETTLE)
  }

  close(): void {
    this.isOver = true
    clearTimeout(this.watchdog)
    clearTimeout(this.settling)
    this.stream?.abort()
  }

  private async open(): Promise<void> {
    if (this.isOver) return
    this.stream?.abort()
    const stream = (this.stream = new AbortController())
    this.watch(OPEN_WITHIN)
    try {
      const since = this.cursor === null ? '' : `&since=${this.cursor}`
      const response = await this.rest.fetch(`/v1/events?${this.filters}${since}`, {
        headers: { Accept: 'text/event-stream' },
        signal: stream.signal,
      })
      if (!response.ok || !response.body) throw await failure(response)
      await this.read(response.body, stream)
      this.end(stream, 'the stream ended')
    } catch (error) {
      this.end(stream, sentence(error), error instanceof Refused && error.code === 'unauthorized')
    }
  }

  private async read(body: ReadableStream<Uint8Array>, stream: AbortController): Promise<void> {
    const parser = new EventParser()
    const text = new TextDecoder()
    const reader = body.getReader()
    for (;;) {
      const { done, value } = await reader.read()
      if (done || this.stream !== stream) return
      this.watch(SILENCE)
      for (const event of parser.take(text.decode(value, { stream: true }))) this.happened(event)
      if (!this.isOnline && !this.isOver) {
        this.isOnline = true
        this.listener.online()
      }
    }
  }

  private happened({ name, data, id }: StreamEvent): void {
    if (this.isOver) return
    const json = objectIn(data)
    if (name === 'reset' || name === 'gap') this.listener.reset(name)
    if (name === 'end') throw new Error(String(json?.['text'] ?? 'the stream ended'))
    const arrival = name === 'message' ? arrivalFromJson(json) : null
    if (arrival) this.listener.arrived(arrival)
    if (id === null) return
    this.cursor = id
    this.listener.positioned(id)
  }

  private watch(ms: number): void {
    clearTimeout(this.watchdog)
    const stream = this.stream
    this.watchdog = setTimeout(() => stream && this.end(stream, 'silence'), ms)
  }

  private end(stream: AbortController, why: string, denied = false): void {
    // One that was given up for another list of filters.
    if (this.isOver || this.stream !== stream) return
    this.close()
    this.listener.lost(why, denied)
  }
}

async function failure(response: Response): Promise<Error> {
  const json = (await response.json().catch(() => ({}))) as Record<string, unknown>
  const error = problemOf(response, json)
  return response.status === 401 ? new Refused('unauthorized', error.message) : error
}

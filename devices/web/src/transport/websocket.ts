// MQTT 5 over WebSocket: a clean session. Nothing is lost for that, because the broker's journal is
// the memory: a new connection reads on from the cursors.

import type { IClientPublishOptions, IPublishPacket, MqttClient } from 'mqtt'
import { allOf, objectIn, property, stampOf, textOf, type Arrival, type Stamp, type UserProperties } from '../wire/arrival'
import { newTabClientId, randomId, tabClientId } from '../store/ids'
import { ANSWER_WITHIN, KEPT, Lost, Refused, sentence, withinTime, type How, type Listener, type Options, type Transport } from './transport'

/** Time for a connection to come about, in ms: then another path is tried. */
const CONNECT_TIMEOUT = 8000
/** Keep Alive in seconds: browsers run timers of hidden pages about once a minute. */
const KEEP_ALIVE = 60
/** DISCONNECT reason: another connection uses this client id (a duplicated tab). */
const SESSION_TAKEN_OVER = 0x8e
/** CONNACK and DISCONNECT reasons after which the same credentials are of no use. */
const DENIED = new Set([0x86, 0x87, 0x8a, 0x8c, 0xa0])
/** PUBACK reason: nobody has a subscription for it; of a request: nobody answers such. */
const NOBODY_LISTENS = 0x10

interface Waiting {
  resolve(stored: { stamp: Stamp; reason: number }): void
  reject(error: Error): void
}

interface Explained {
  userProperties?: UserProperties
  reasonString?: string
}

interface Acknowledged {
  messageId?: number
  reasonCode?: number
  properties?: Explained
}

export function openWebSocket(url: string, options: Options, listener: Listener): Transport {
  return new WebSocketTransport(url, options, listener)
}

class WebSocketTransport implements Transport {
  readonly path = 'websocket'
  private client: MqttClient | null = null
  private isOver = false
  private filters = new Set<string>()
  /** By packet identifier. */
  private readonly unacknowledged = new Map<number, Waiting>()
  /** By the id of the request. */
  private readonly unanswered = new Map<string, (answer: Record<string, unknown>) => void>()
  private why = ''
  private denied = false

  constructor(
    private readonly url: string,
    private readonly options: Options,
    private readonly listener: Listener,
  ) {
    void this.connect()
  }

  async publish(topic: string, text: string, { retain = false, cid, mentions = [] }: How): Promise<Stamp> {
    const userProperties: Record<string, string | string[]> = {}
    if (cid !== undefined) userProperties['cid'] = cid
    if (mentions.length > 0) userProperties['mention'] = [...mentions]
    // The library does not send a packet whose User Properties are there and empty.
    const isSaid = Object.keys(userProperties).length > 0
    const properties = { payloadFormatIndicator: true, ...(isSaid ? { userProperties } : {}) }
    const { stamp } = await withinTime(this.send(topic, text, { retain, properties }), ANSWER_WITHIN)
    return stamp
  }

  whisper(topic: string, text: string): void {
    if (this.client?.connected) this.client.publish(topic, text, { qos: 0 })
  }

  async ask(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    const { user } = this.options
    const id = randomId()
    const answered = new Promise<Record<string, unknown>>((resolve) => this.unanswered.set(id, resolve))
    try {
      const sent = this.send(`user/${user}/request/${method}`, JSON.stringify({ id, ...fields }), {})
      const heard = sent.then(({ reason }) => {
        if (reason === NOBODY_LISTENS) throw new Refused('unknown_method', 'nobody answers this here')
        return answered
      })
      const answer = await withinTime(Promise.race([answered, heard]), ANSWER_WITHIN)
      if (answer['ok'] === true) return answer
      const { code, text } = (answer['error'] ?? {}) as Record<string, unknown>
      throw new Refused(String(code ?? 'refused'), String(text ?? ''))
    } finally {
      this.unanswered.delete(id)
    }
  }

  listenTo(filters: readonly string[]): void {
    if (!this.client?.connected) {
      this.options.filters = filters
      return
    }
    const wanted = new Set(filters)
    const gone = [...this.filters].filter((filter) => !wanted.has(filter))
    const fresh = filters.filter((filter) => !this.filters.has(filter))
    this.filters = wanted
    if (gone.length > 0) this.client.unsubscribe(gone)
    if (fresh.length > 0) this.client.subscribe(fresh, { qos: 1 }, () => undefined)
  }

  close(): void {
    const client = this.client
    this.over('closed')
    // A DISCONNECT, where there is somebody to hear it.
    client?.end(!client.connected)
  }

  private async connect(): Promise<void> {
    try {
      const { default: mqtt } = await import('mqtt')
      if (this.isOver) return
      const { user, token } = this.options
      this.attach(
        mqtt.connect(this.url, {
          ...{ protocolVersion: 5, clientId: tabClientId(), username: user, clean: true, keepalive: KEEP_ALIVE },
          ...(token === null ? {} : { password: token }),
          connectTimeout: CONNECT_TIMEOUT,
          // Connecting again is done by whoever has the cursors by then.
          ...{ reconnectPeriod: 0, resubscribe: false, queueQoSZero: false },
        }),
      )
    } catch (error) {
      this.fail(sentence(error))
    }
  }

  private attach(client: MqttClient): void {
    this.client = client
    const current = (handle: () => void) => {
      if (!this.isOver) handle()
    }
    client.on('connect', () => current(() => this.subscribe(client)))
    client.on('message', (_topic, _payload, packet) => current(() => this.message(packet)))
    client.on('packetreceive', (packet) => {
      if (packet.cmd === 'puback') current(() => this.acknowledged(packet as Acknowledged))
      if (packet.cmd === 'connack') this.denied ||= DENIED.has(packet.reasonCode ?? packet.returnCode ?? 0)
    })
    client.on('disconnect', (packet) => {
      if (packet.reasonCode === SESSION_TAKEN_OVER) newTabClientId()
      else this.denied ||= DENIED.has(packet.reasonCode ?? 0)
      this.why = packet.properties?.reasonString ?? this.why
    })
    client.on('error', (error) => {
      this.why = sentence(error)
      client.end(true)
    })
    client.on('close', () => current(() => this.fail(this.why)))
  }

  /** All in one: then one position counts for all that is kept. */
  private subscribe(client: MqttClient, from = this.options.cursor ?? 'now'): void {
    this.filters = new Set(this.options.filters)
    const kept = KEPT.map((filter) => `$replay/after/${from}/${filter}`)
    const all = [...kept, ...this.filters, `user/${this.options.user}/reply`]
    client.subscribe(all, { qos: 1 }, (_error, _granted, packet) => {
      if (this.isOver) return
      const { granted = [], properties } = (packet ?? {}) as { granted?: number[]; properties?: Explained }
      if (kept.some((_, at) => (granted[at] ?? 0x80) >= 0x80)) {
        // Others may be refused, such as presence of who hides it.
        const why = properties?.reasonString ?? 'refused'
        if (from === 'now' || !why.startsWith('reset')) return this.fail(why)
        this.listener.reset(why)
        return this.subscribe(client, 'now')
      }
      const user = properties?.userProperties
      if (property(user, 'gap') !== null) this.listener.reset('trimmed')
      const cursor = property(user, 'cursor')
      if (cursor !== null) this.listener.positioned(cursor)
      this.listener.online()
    })
  }

  private message(packet: IPublishPacket): void {
    const arrival = arrivalOf(packet)
    if (arrival.topic === `user/${this.options.user}/reply`) {
      const answer = objectIn(arrival.text)
      const id = answer?.['id']
      if (answer && typeof id === 'string') this.unanswered.get(id)?.(answer)
      return
    }
    if (property(packet.properties?.userProperties as UserProperties, 'trimmed') !== null) this.listener.reset('trimmed')
    this.listener.arrived(arrival)
  }

  private send(topic: string, text: string, options: IClientPublishOptions): Promise<{ stamp: Stamp; reason: number }> {
    const client = this.client
    if (this.isOver || !client?.connected) return Promise.reject(new Lost('not connected'))
    return new Promise((resolve, reject) => {
      client.publish(topic, text, { ...options, qos: 1 }, (error) => {
        // Refusals come as acknowledgements; this is a packet that was not written.
        if (error && !client.connected) reject(new Lost(sentence(error)))
      })
      this.unacknowledged.set(client.getLastMessageId(), { resolve, reject })
    })
  }

  private acknowledged({ messageId, reasonCode = 0, properties }: Acknowledged): void {
    const waiting = this.unacknowledged.get(messageId ?? 0)
    if (!waiting) return
    this.unacknowledged.delete(messageId ?? 0)
    if (reasonCode < 0x80) {
      waiting.resolve({ stamp: stampOf(properties?.userProperties), reason: reasonCode })
      return
    }
    const text = properties?.reasonString ?? `0x${reasonCode.toString(16)}`
    waiting.reject(new Refused(`0x${reasonCode.toString(16)}`, text))
  }

  private fail(why: string): void {
    const client = this.client
    if (!this.over(why)) return
    client?.end(true)
    this.listener.lost(why, this.denied)
  }

  /** False if it was over before. */
  private over(why: string): boolean {
    if (this.isOver) return false
    this.isOver = true
    this.client = null
    for (const { reject } of this.unacknowledged.values()) reject(new Lost(why))
    this.unacknowledged.clear()
    return true
  }
}

function arrivalOf({ topic, payload, retain, properties }: IPublishPacket): Arrival {
  const user = properties?.userProperties as UserProperties
  const bytes = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload
  return {
    ...{ topic, text: textOf(bytes), size: bytes.length, retained: retain === true },
    ...{ ...stampOf(user), from: property(user, 'from'), cid: property(user, 'cid'), cursor: property(user, 'cursor') },
    mentions: allOf(user, 'mention'),
  }
}

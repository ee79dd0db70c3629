// The connection of one person to one room, over MQTT 5.
//
// Each connection is a clean session; nothing is lost for that, because the room itself is the
// memory: after a reconnect the subscription starts behind the last message delivered, and own
// messages without an acknowledgement are published again under the same `cid`, by which the broker
// recognises them. `view` is what there is to see; all rules of order are in `timeline.ts`.

import mqtt, { type MqttClient } from 'mqtt'
import { shallowReactive } from 'vue'
import { Timeline, type Entry } from './timeline'
import {
  historyFilter,
  messageTopic,
  property,
  readStamp,
  readTopic,
  retryDelay,
  typingTopic,
} from './topics'
import { TypingOthers, TypingSignal } from './typing'

export type State = 'connecting' | 'online' | 'offline'

export interface View {
  state: State
  /** Why the last connection ended, for people; '' if it did not. */
  problem: string
  /** When the next attempt comes, ms since the epoch; null if none is planned. */
  retryAt: number | null
  entries: readonly Entry[]
  /** Others who are typing. */
  typing: string[]
}

export interface ChatOptions {
  url: string
  name: string
  room: string
}

/** Own messages under way at once: far below every broker's Receive Maximum. */
const WINDOW = 16
/** Time for a connection to come about, in ms. */
const CONNECT_TIMEOUT = 10_000
/** Keep Alive in seconds: browsers run timers of hidden pages about once a minute. */
const KEEP_ALIVE = 60
/** DISCONNECT reason: another connection uses this client id (a duplicated tab). */
const SESSION_TAKEN_OVER = 0x8e

export class Chat {
  readonly view: View = shallowReactive<View>({
    ...{ state: 'connecting', problem: '', retryAt: null, entries: [], typing: [] },
  })
  private readonly timeline: Timeline
  private readonly others = new TypingOthers()
  private readonly signal = new TypingSignal()
  private client: MqttClient | null = null
  private attempt = 0
  private retryTimer: number | undefined
  private typingTimer: number | undefined
  private publishTimer: number | undefined
  /** cid of messages under way on the present connection, by packet identifier. */
  private underWay = new Map<number, string>()

  constructor(private readonly options: ChatOptions) {
    this.timeline = new Timeline(options.name)
    window.addEventListener('online', this.retryNow)
    document.addEventListener('visibilitychange', this.retryWhenSeen)
    this.connect()
  }

  /** Sends a message, now or as soon as there is a connection. */
  send(text: string): void {
    this.timeline.compose(randomId(), text, Date.now())
    this.signal.reset()
    this.show()
    this.publishUnsent()
  }

  /** Sends a message again that the broker refused. */
  sendAgain(cid: string): void {
    this.timeline.revive(cid)
    this.show()
    this.publishUnsent()
  }

  /** A key was pressed in the message field. */
  keystroke(): void {
    if (this.view.state !== 'online' || !this.signal.keystroke(Date.now())) return
    const { room, name } = this.options
    this.client?.publish(typingTopic(room, name), '1', { qos: 0 })
  }

  /** Tries to connect at once if a retry is pending. */
  readonly retryNow = (): void => {
    if (this.view.state === 'offline') this.connect()
  }

  /** Leaves the room for good. */
  close(): void {
    window.removeEventListener('online', this.retryNow)
    document.removeEventListener('visibilitychange', this.retryWhenSeen)
    clearTimeout(this.retryTimer)
    clearTimeout(this.typingTimer)
    clearTimeout(this.publishTimer)
    const client = this.client
    this.client = null
    client?.end(client.connected ? false : true)
  }

  private readonly retryWhenSeen = (): void => {
    if (document.visibilityState === 'visible') this.retryNow()
  }

  private connect(): void {
    clearTimeout(this.retryTimer)
    this.view.state = 'connecting'
    this.view.retryAt = null
    let client: MqttClient
    try {
      client = mqtt.connect(this.options.url, {
        protocolVersion: 5,
        clientId: tabClientId(),
        username: this.options.name,
        clean: true,
        keepalive: KEEP_ALIVE,
        connectTimeout: CONNECT_TIMEOUT,
        // Connecting again is done here, with the position as it is by then.
        reconnectPeriod: 0,
        resubscribe: false,
        queueQoSZero: false,
      })
    } catch (error) {
      this.lost(sentence(error))
      return
    }
    this.client = client
    // Whatever an older connection still has to say is of no interest.
    const current = (handle: () => void) => {
      if (this.client === client) handle()
    }
    let reason = ''
    client.on('connect', () => current(() => this.subscribe(client)))
    client.on('message', (topic, payload, packet) =>
      current(() => this.receive(topic, payload, packet.properties?.userProperties)),
    )
    client.on('packetreceive', (packet) => {
      if (packet.cmd !== 'puback' || packet.messageId === undefined) return
      const { messageId, reasonCode = 0, properties } = packet
      current(() => this.acknowledged(messageId, reasonCode, properties?.userProperties))
    })
    client.on('disconnect', (packet) => {
      if (packet.reasonCode === SESSION_TAKEN_OVER) newTabClientId()
      reason = packet.properties?.reasonString ?? reason
    })
    client.on('error', (error) => {
      reason = sentence(error)
      client.end(true)
    })
    client.on('close', () => current(() => this.lost(reason)))
  }

  private subscribe(client: MqttClient): void {
    const { room } = this.options
    const history = historyFilter(room, this.timeline.lastDelivered)
    const filters = { [history]: { qos: 1 as const }, [typingTopic(room, '+')]: { qos: 0 as const } }
    client.subscribe(filters, (error) => {
      if (this.client !== client) return
      if (error) {
        this.lost(`The room cannot be entered: ${sentence(error)}`)
        return
      }
      this.attempt = 0
      this.view.state = 'online'
      this.view.problem = ''
      this.publishUnsent()
    })
  }

  private lost(reason: string): void {
    const client = this.client
    this.client = null
    client?.end(true)
    this.underWay.clear()
    clearTimeout(this.retryTimer)
    const wait = retryDelay(this.attempt, Math.random())
    this.attempt += 1
    this.view.state = 'offline'
    this.view.problem = reason
    this.view.retryAt = Date.now() + wait
    this.retryTimer = window.setTimeout(() => this.connect(), wait)
  }

  private receive(topic: string, payload: Uint8Array, properties: Parameters<typeof readStamp>[0]): void {
    const place = readTopic(topic, this.options.room)
    if (!place) return
    if (place.kind === 'typing') {
      if (place.from === this.options.name) return
      this.others.seen(place.from, Date.now())
      this.showTyping()
      return
    }
    const text = new TextDecoder().decode(payload)
    const cid = property(properties, 'cid')
    this.timeline.receive({ ...readStamp(properties), cid, from: place.from, text })
    this.others.spoke(place.from)
    this.showTyping()
    this.show()
  }

  private publishUnsent(): void {
    const client = this.client
    if (!client || this.view.state !== 'online') return
    const sending = new Set(this.underWay.values())
    for (const { cid, text } of this.timeline.unsent) {
      if (this.underWay.size >= WINDOW) return
      if (cid === null || sending.has(cid)) continue
      const { room, name } = this.options
      const properties = { payloadFormatIndicator: true, userProperties: { cid } }
      client.publish(messageTopic(room, name), text, { qos: 1, properties })
      this.underWay.set(client.getLastMessageId(), cid)
    }
  }

  private acknowledged(packetId: number, code: number, properties: Parameters<typeof readStamp>[0]): void {
    const cid = this.underWay.get(packetId)
    if (cid === undefined) return
    this.underWay.delete(packetId)
    if (code >= 0x80) {
      this.timeline.refuse(cid, property(properties, 'reason') ?? `refused (0x${code.toString(16)})`)
    } else {
      this.timeline.acknowledge(cid, readStamp(properties))
    }
    this.show()
    // After the library has freed the identifier.
    clearTimeout(this.publishTimer)
    this.publishTimer = window.setTimeout(() => this.publishUnsent(), 0)
  }

  private show(): void {
    this.view.entries = this.timeline.entries
  }

  private showTyping(): void {
    clearTimeout(this.typingTimer)
    const now = Date.now()
    this.view.typing = this.others.names(now)
    const change = this.others.nextChange()
    if (change !== null) this.typingTimer = window.setTimeout(() => this.showTyping(), change - now)
  }
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** 16 random bytes in hex; `crypto.randomUUID` is missing on pages served without TLS. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
}

const CLIENT_ID = 'tidings.client-id'

function tabClientId(): string {
  return sessionStorage.getItem(CLIENT_ID) ?? newTabClientId()
}

/** A duplicated tab inherits the storage of the first one and has to find its own id. */
function newTabClientId(): string {
  const id = `web-${randomId()}`
  sessionStorage.setItem(CLIENT_ID, id)
  return id
}

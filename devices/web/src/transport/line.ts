// One lasting line to the broker over changing transports: connects, falls back, comes back to a
// better path, and resumes from the cursors. Whoever uses it sees one stream of messages, in which a
// message may come twice and none is missing.

import { shallowReactive } from 'vue'
import { later } from '../wire/cursor'
import type { Arrival, Stamp } from '../wire/arrival'
import { PathChoice } from './choice'
import { Lost, type Credentials, type How, type Open, type Options, type Path, type Transport } from './transport'

export interface LineView {
  state: 'connecting' | 'online' | 'offline'
  /** The path that works; null if none does. */
  path: Path | null
  /** Why the last connection ended; '' if it did not. */
  problem: string
  /** When the next attempt comes, ms since the epoch; null if none is planned. */
  retryAt: number | null
}

export interface LineListener {
  online(): void
  offline(): void
  arrived(arrival: Arrival): void
  reset(why: string): void
  /** The credentials do not count any more. */
  denied(why: string): void
}

/** Between two looks at the clock, in ms. */
const TICK = 5000
/** A longer time than this between two looks means that the machine slept: hidden pages look once a minute. */
const SLEPT = 90_000

export class Line {
  readonly view: LineView = shallowReactive<LineView>({ state: 'connecting', path: null, problem: '', retryAt: null })
  /** Where reading goes on. */
  private cursor: string | null = null
  private current: Transport | null = null
  /** Being opened, beside the current one or instead of it. */
  private next: Transport | null = null
  private filters: readonly string[] = []
  private retryTimer: number | undefined
  private ticker: number | undefined
  private lastTick = Date.now()
  private isClosed = false

  constructor(
    private readonly open: Record<Path, Open>,
    private readonly credentials: Credentials,
    private readonly listener: LineListener,
    private readonly choice = new PathChoice(),
  ) {}

  start(filters: readonly string[]): void {
    this.filters = filters
    window.addEventListener('online', this.networkChanged)
    document.addEventListener('visibilitychange', this.seen)
    this.ticker = window.setInterval(() => this.tick(), TICK)
    this.connect()
  }

  close(): void {
    this.isClosed = true
    window.removeEventListener('online', this.networkChanged)
    document.removeEventListener('visibilitychange', this.seen)
    clearInterval(this.ticker)
    clearTimeout(this.retryTimer)
    this.next?.close()
    this.current?.close()
    this.next = this.current = null
  }

  publish(topic: string, text: string, options: How): Promise<Stamp> {
    return this.current?.publish(topic, text, options) ?? Promise.reject(new Lost('offline'))
  }

  whisper(topic: string, text: string): void {
    this.current?.whisper(topic, text)
  }

  ask(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    return this.current?.ask(method, fields) ?? Promise.reject(new Lost('offline'))
  }

  listenTo(filters: readonly string[]): void {
    this.filters = filters
    this.current?.listenTo(filters)
    this.next?.listenTo(filters)
  }

  /** Tries at once if an attempt is pending. */
  readonly retryNow = (): void => {
    if (this.view.state !== 'offline' || this.isClosed) return
    clearTimeout(this.retryTimer)
    this.connect()
  }

  private readonly networkChanged = (): void => {
    this.choice.retryNow()
    if (this.current) this.startAnew('the network changed')
    else this.retryNow()
  }

  private readonly seen = (): void => {
    if (document.visibilityState !== 'visible') return
    this.tick()
    this.retryNow()
  }

  private tick(): void {
    const now = Date.now()
    const slept = now - this.lastTick > SLEPT
    this.lastTick = now
    if (slept && this.current) {
      // The other end is gone or not; asking would take longer than connecting.
      this.startAnew('the machine slept')
      return
    }
    if (!this.current || this.next) return
    const better = this.choice.better(now)
    if (better) this.next = this.openPath(better)
  }

  private startAnew(why: string): void {
    const old = this.current
    this.current = null
    old?.close()
    this.wentOff(why)
    this.connect()
  }

  private connect(): void {
    if (this.isClosed || this.next) return
    this.view.state = 'connecting'
    this.view.retryAt = null
    this.next = this.openPath(this.choice.path)
  }

  private openPath(path: Path): Transport {
    let transport: Transport | null = null
    const isOurs = () => transport !== null && (transport === this.current || transport === this.next)
    const options: Options = { ...this.credentials, cursor: this.cursor, filters: this.filters }
    transport = this.open[path](options, {
      online: () => isOurs() && this.works(transport as Transport),
      arrived: (arrival) => isOurs() && this.arrived(arrival),
      positioned: (cursor) => isOurs() && this.positioned(cursor),
      reset: (why) => isOurs() && this.reset(why),
      lost: (why, denied) => isOurs() && this.lost(transport as Transport, why, denied),
    })
    return transport
  }

  private works(transport: Transport): void {
    if (transport !== this.next) return
    const old = this.current
    this.current = transport
    this.next = null
    old?.close()
    transport.listenTo(this.filters)
    this.choice.works(transport.path, Date.now())
    Object.assign(this.view, { state: 'online', path: transport.path, problem: '', retryAt: null })
    this.listener.online()
  }

  private lost(transport: Transport, why: string, denied: boolean): void {
    if (transport === this.next) {
      this.next = null
      // One that was only looked for beside a working one.
      if (this.current) return
      this.choice.failed()
    } else {
      this.current = null
      this.next?.close()
      this.next = null
      this.choice.dropped(Date.now())
      this.wentOff(why)
    }
    if (denied) {
      this.close()
      this.listener.denied(why)
      return
    }
    this.tryLater(why)
  }

  private tryLater(why: string): void {
    const wait = this.choice.delay(Math.random())
    if (wait === 0) {
      this.connect()
      return
    }
    Object.assign(this.view, { state: 'offline', path: null, problem: why, retryAt: Date.now() + wait })
    this.retryTimer = window.setTimeout(() => this.connect(), wait)
  }

  private wentOff(why: string): void {
    Object.assign(this.view, { state: 'connecting', path: null, problem: why })
    this.listener.offline()
  }

  private arrived(arrival: Arrival): void {
    this.listener.arrived(arrival)
    // After it was taken: what was not is read again.
    if (arrival.cursor !== null) this.positioned(arrival.cursor)
  }

  private positioned(cursor: string): void {
    this.cursor = later(this.cursor, cursor)
  }

  private reset(why: string): void {
    this.cursor = null
    this.listener.reset(why)
  }
}

// This person at this broker: what arrives goes into the stores, what the person does goes out. The
// page reads the stores, and looks again when a number in `view` changes.

import { shallowReactive } from 'vue'
import { objectIn, whole, type Arrival } from '../wire/arrival'
import { deliveredTopic, entryTopic, peerOf, placeOf, readTopic, roomOf, typingTopic, type EntryKind, type TalkKey } from '../wire/topics'
import { randomId } from '../store/ids'
import { Outbox, WINDOW } from '../store/outbox'
import { People } from '../store/presence'
import { Receipts, mentions } from '../store/receipts'
import { Rooms } from '../store/rooms'
import { Talks, type Talk } from '../store/talks'
import { TypingOthers, TypingSignal } from '../store/typing'
import { Line, type LineView } from '../transport/line'
import type { PathChoice } from '../transport/choice'
import { Refused, sentence, type Credentials, type Open, type Path } from '../transport/transport'
import { History } from './history'
import { nextOverview, overviewFromJson } from './overview'
import { Markers } from './markers'
import { Places } from './places'
import { Sender } from './sender'

/** Numbers that change with what they stand for. */
export interface ClientView {
  talks: number
  rooms: number
  people: number
  typing: number
  /** The talk that is looked at. */
  open: TalkKey | null
  /** True if the broker manages rooms; null while unknown. */
  managed: boolean | null
  /** History of the open talk is being read. */
  loading: boolean
  /** The session is over: the credentials do not count. */
  denied: string | null
}

/** Something for the person to know, shown for a while: a text of the broker. */
export type Notice = (text: string) => void
/** An event of the person's inbox, as the broker writes it. */
export type Happened = (event: Record<string, unknown>) => void
/** A message of somebody else, for who listens rather than looks. */
export type Heard = (talk: TalkKey, from: string, text: string) => void

export interface ClientOptions {
  credentials: Credentials
  open: Record<Path, Open>
  choice?: PathChoice
  /** What lasts as long as the tab, and as long as the browser; null if there is none. */
  tab: Storage | null
  browser: Storage | null
  notice: Notice
  happened: Happened
  heard: Heard
}

/** What came is shown together, at most this often, in ms: one frame or two. */
const SHOW_EVERY = 25
/** How long a missing number is waited for before history is asked, in ms. */
const HOLE_PATIENCE = 400
/** Answers about what is unread that are asked for, of 100 rooms each. */
const MAX_OVERVIEWS = 10
/** People whose presence is asked for: as many as are in view. */
const MAX_WATCHED = 150

export class Client {
  readonly view: ClientView = shallowReactive<ClientView>({
    ...{ talks: 0, rooms: 0, people: 0, typing: 0, open: null, managed: null, loading: false, denied: null },
  })
  readonly me: string
  readonly rooms: Rooms
  readonly people = new People()
  readonly receipts: Receipts
  readonly talks: Talks
  readonly places: Places
  readonly history: History
  private readonly outbox: Outbox
  private readonly sender: Sender
  private readonly line: Line
  private readonly others = new Map<TalkKey, TypingOthers>()
  private readonly signal = new TypingSignal()
  private readonly dirty = new Set<'talks' | 'rooms' | 'people' | 'typing'>()
  private showTimer: ReturnType<typeof setTimeout> | undefined
  private typingTimer: ReturnType<typeof setTimeout> | undefined
  private holeTimer: ReturnType<typeof setTimeout> | undefined
  /** What is lost is said again by the next marker, which is higher. */
  private readonly markers = new Markers((topic, text) => void this.line.publish(topic, text, { retain: true }).catch(() => undefined))
  private readonly watched = new Map<string, readonly string[]>()
  private filters = ''

  constructor(private readonly options: ClientOptions) {
    const me = (this.me = options.credentials.user)
    this.rooms = new Rooms(me)
    this.receipts = new Receipts(me)
    this.talks = new Talks(me)
    this.places = new Places(options.browser, me)
    this.history = new History(me, this.talks, (method, fields) => this.line.ask(method, fields))
    this.outbox = new Outbox(options.tab, me)
    this.sender = new Sender(me, this.outbox, {
      // Requests overtake each other, packets of one connection do not.
      window: () => (this.line.view.path === 'websocket' ? WINDOW : 1),
      publish: (topic, text, how) => this.line.publish(topic, text, how),
      sent: ({ talk, cid }, stamp) => this.change('talks', () => this.talks.get(talk).timeline.acknowledge(cid, stamp)),
      refused: ({ talk, cid, kind }, why) => {
        this.change('talks', () => this.talks.get(talk).timeline.refuse(cid, why))
        if (kind !== 'message' && kind !== 'reply') options.notice(why)
      },
    })
    for (const { cid, talk, kind, target, text, at } of this.outbox.all) {
      this.talks.get(talk).timeline.compose({ cid, kind, target, text, now: at })
    }
    this.line = new Line(
      options.open,
      options.credentials,
      {
        online: () => void this.online(),
        offline: () => this.outbox.allBack(),
        arrived: (arrival) => this.arrived(arrival),
        reset: () => this.reset(),
        denied: (why) => (this.view.denied = why),
      },
      options.choice,
    )
    this.line.start(this.wantedFilters())
    window.addEventListener('pagehide', this.leaving)
  }

  /** A page that goes has no time to gather. */
  private readonly leaving = (): void => this.markers.flush()

  get connection(): LineView {
    return this.line.view
  }

  retryNow(): void {
    this.line.retryNow()
  }

  close(): void {
    for (const timer of [this.showTimer, this.typingTimer, this.holeTimer]) clearTimeout(timer)
    window.removeEventListener('pagehide', this.leaving)
    this.markers.flush()
    this.sender.close()
    this.line.close()
  }

  // ---- Talks

  peerOf(key: TalkKey): string | null {
    return peerOf(key, this.me)
  }

  /** Looks at a talk, or at none. */
  async open(key: TalkKey | null): Promise<void> {
    this.markers.flush()
    this.view.open = key
    this.listen()
    if (key === null) return
    const talk = this.talks.use(key)
    if (roomOf(key) !== null && this.view.managed === false) this.places.visit(key)
    this.show('talks', 'typing')
    if (!talk.isCurrent && this.line.view.state === 'online') await this.read(() => this.history.latest(talk))
  }

  /** Leaves a place that is only a name, or a talk of two, from the list. */
  hide(key: TalkKey): void {
    this.places.leave(key)
    this.talks.forget(key)
    this.show('talks')
  }

  loadOlder(key: TalkKey): Promise<void> {
    return this.read(() => this.history.older(this.talks.get(key)))
  }

  reach(key: TalkKey, seq: number): Promise<void> {
    return this.read(() => this.history.reach(this.talks.get(key), seq))
  }

  // ---- Sending

  /** Sends now, or as soon as there is a connection. */
  send(talk: TalkKey, kind: EntryKind, target: number | null, text: string): void {
    const [cid, now] = [randomId(), Date.now()]
    const parcel = { cid, talk, kind, target, text, at: now }
    this.outbox.add(parcel)
    this.signal.reset()
    if (roomOf(talk) === null) this.places.visit(talk)
    this.change('talks', () => this.talks.get(talk).timeline.compose({ cid, kind, target, text, now }))
    if (this.line.view.state === 'online') this.sender.send()
  }

  sendAgain(talk: TalkKey, cid: string): void {
    this.outbox.again(cid)
    this.change('talks', () => this.talks.get(talk).timeline.revive(cid))
    this.sender.send()
  }

  discard(talk: TalkKey, cid: string): void {
    this.outbox.done(cid)
    this.change('talks', () => this.talks.get(talk).timeline.discard(cid))
  }

  /** A key was pressed in the message field. */
  keystroke(talk: TalkKey): void {
    const topic = typingTopic(talk, this.me)
    if (topic && this.line.view.state === 'online' && this.signal.keystroke(Date.now())) this.line.whisper(topic, '1')
  }

  typing(talk: TalkKey): string[] {
    return this.others.get(talk)?.names(Date.now()) ?? []
  }

  /** This person has seen the talk up to `seq`. */
  markRead(key: TalkKey, seq: number): void {
    const talk = this.talks.get(key)
    if (!this.receipts.read(key, this.me, seq)) return
    const rest = talk.timeline.after(seq)
    const mentioned = rest.filter((entry) => mentions(entry.text ?? '', this.me)).length
    this.receipts.caughtUp(key, Math.max(seq, talk.timeline.head), { messages: rest.length, mentions: mentioned })
    this.show('talks')
    this.markers.raise(readTopic(key, this.me), seq)
  }

  // ---- Rooms

  /** Asks for something about rooms; a refusal is told to the person, and false. */
  async request(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown> | null> {
    try {
      return await this.line.ask(method, fields)
    } catch (error) {
      this.options.notice(sentence(error))
      return null
    }
  }

  /** Changes what others see of this person's presence, or asks for it; null if nobody knows. */
  async presence(change: { state?: string; visible_to?: string }): Promise<Record<string, unknown> | null> {
    try {
      return await this.line.ask('presence', change)
    } catch (error) {
      if (Object.keys(change).length > 0) this.options.notice(sentence(error))
      return null
    }
  }

  /** People whose presence is of interest now, to one part of the page. */
  watch(part: 'list' | 'panel', users: readonly string[]): void {
    this.watched.set(part, users)
    this.listen()
  }

  // ---- What comes

  private async online(): Promise<void> {
    this.outbox.allBack()
    this.history.wake()
    this.sender.send()
    const open = this.view.open
    await Promise.all([this.findOutAboutRooms(), this.overview(), open ? this.open(open) : null])
    this.mendHoles()
  }

  private async findOutAboutRooms(): Promise<void> {
    try {
      const { managed } = await this.line.ask('list', { limit: 1 })
      this.view.managed = managed !== false
    } catch (error) {
      if (error instanceof Refused || this.view.managed === null) this.view.managed = false
    }
  }

  /** What is unread and what was said last, as the broker has it; without it, counting begins here. */
  private async overview(): Promise<void> {
    try {
      let next: Record<string, unknown> | null = {}
      for (let page = 0; next && page < MAX_OVERVIEWS; page += 1) {
        const answer: Record<string, unknown> = await this.line.ask('unread', next)
        this.take(overviewFromJson(answer))
        next = nextOverview(answer)
      }
    } catch {
      // Then it is counted from here on.
    }
  }

  private take({ rooms, direct }: ReturnType<typeof overviewFromJson>): void {
    for (const { key, head, read, unread, last } of [...rooms, ...direct]) {
      if (last && this.talks.get(key).preview === null) this.talks.remember(key, last)
      this.receipts.counted(key, head, read, unread)
      this.receipts.read(key, this.me, read)
    }
    for (const { key, last, delivered, readByPeer } of direct) {
      const topic = deliveredTopic(key, this.me)
      // What was written while nobody was here has come now.
      if (topic && last && last.from !== this.me) this.markers.raise(topic, last.seq)
      this.receipts.delivered(key, delivered)
      this.receipts.read(key, key.slice(3), readByPeer)
    }
    this.show('talks')
  }

  private arrived(arrival: Arrival): void {
    const place = placeOf(arrival.topic, this.me)
    if (!place) return
    switch (place.what) {
      case 'entry':
        return this.entryArrived(place, arrival)
      case 'typing':
        return this.typingArrived(place.talk, place.from, arrival.text === '')
      case 'read': {
        if (this.receipts.read(place.talk, place.user, whole(arrival.text) ?? 0)) this.readElsewhere(place.talk, place.user)
        return
      }
      case 'delivered':
        if (place.user !== this.me) this.receipts.delivered(place.talk, whole(arrival.text) ?? 0)
        return this.show('talks')
      case 'room':
        return this.change('rooms', () => this.rooms.apply(place.room, 'room', '', arrival.text))
      case 'member':
      case 'ban':
      case 'mute':
      case 'invite':
        return this.change('rooms', () => this.rooms.apply(place.room, place.what, place.user, arrival.text))
      case 'presence':
        return this.change('people', () => this.people.apply(place.user, arrival.text))
      case 'inbox':
        return this.inboxArrived(arrival)
      default:
        return
    }
  }

  private entryArrived(place: { talk: TalkKey; from: string; kind: EntryKind; target: number | null }, arrival: Arrival): void {
    const isNews = this.talks.arrived(place, arrival)
    this.others.get(place.talk)?.spoke(place.from)
    if (isNews) {
      const text = arrival.text ?? ''
      if (arrival.seq !== null) this.receipts.arrived(place.talk, arrival.seq, arrival.mentions.includes(this.me) || mentions(text, this.me))
      if (place.talk === this.view.open) this.options.heard(place.talk, place.from, text)
      const delivered = deliveredTopic(place.talk, this.me)
      if (delivered && arrival.seq !== null) this.markers.raise(delivered, arrival.seq)
      if (place.talk.startsWith('dm/') || this.view.managed === false) this.places.returned(place.talk)
    }
    this.show('talks', 'typing')
    if (this.talks.get(place.talk).timeline.hole) this.mendLater()
  }

  /** This person reads on another device, or somebody else does. */
  private readElsewhere(talk: TalkKey, user: string): void {
    if (user === this.me) {
      const upTo = this.receipts.readUpTo(talk)
      const { timeline } = this.talks.get(talk)
      const rest = timeline.after(upTo)
      if (timeline.head > 0) this.receipts.caughtUp(talk, upTo, { messages: rest.length, mentions: 0 })
    }
    this.show('talks')
  }

  private typingArrived(talk: TalkKey, from: string, stopped: boolean): void {
    if (from === this.me) return
    if (stopped) {
      this.others.get(talk)?.spoke(from)
      return this.show('typing')
    }
    const others = this.others.get(talk) ?? new TypingOthers()
    this.others.set(talk, others)
    others.seen(from, Date.now())
    this.show('typing')
    this.typingEndsLater()
  }

  private typingEndsLater(): void {
    clearTimeout(this.typingTimer)
    const ends = [...this.others.values()].flatMap((others) => others.nextChange() ?? [])
    if (ends.length === 0) return
    this.typingTimer = setTimeout(
      () => {
        for (const others of this.others.values()) others.names(Date.now())
        this.show('typing')
        this.typingEndsLater()
      },
      Math.max(0, Math.min(...ends) - Date.now()),
    )
  }

  private inboxArrived(arrival: Arrival): void {
    const event = objectIn(arrival.text)
    if (event) this.options.happened(event)
  }

  /** What is in memory may have holes that nobody can see: it is read anew. */
  private reset(): void {
    this.change('talks', () => this.talks.reset())
    // Without a connection it is read when there is one.
    if (this.line.view.state === 'online' && this.view.open) void this.open(this.view.open)
  }

  // ---- Holes

  private mendLater(): void {
    clearTimeout(this.holeTimer)
    this.holeTimer = setTimeout(() => this.mendHoles(), HOLE_PATIENCE)
  }

  private mendHoles(): void {
    const open = this.view.open && this.talks.find(this.view.open)
    if (!open?.timeline.hole || this.line.view.state !== 'online') return
    void this.read(async () => {
      if (await this.history.fill(open)) this.mendLater()
    })
  }

  // ---- What is subscribed, and what is shown

  private listen(): void {
    const filters = this.wantedFilters()
    const same = filters.join('\n')
    if (same === this.filters) return
    this.filters = same
    this.line.listenTo(filters)
  }

  /** Of rooms only what is one's own; all of the one that is open. */
  private wantedFilters(): string[] {
    const { me } = this
    const own = ['room/+', `room/+/member/${me}`, `room/+/invite/${me}`, `room/+/mute/${me}`, `read/+/${me}`, `user/${me}/inbox`]
    const open = this.view.open && roomOf(this.view.open)
    const of = open ? [`room/${open}/#`, `read/${open}/+`, `typing/${open}/+`] : []
    const people = new Set([me, ...[...this.watched.values()].flat()])
    return [...own, ...of, ...[...people].slice(0, MAX_WATCHED).map((user) => `user/${user}/presence`)]
  }

  private async read(load: () => Promise<void>): Promise<void> {
    this.view.loading = true
    try {
      await load()
    } catch (error) {
      if (error instanceof Refused) this.options.notice(error.message)
    } finally {
      this.view.loading = false
      this.show('talks')
    }
  }

  private change(what: 'talks' | 'rooms' | 'people' | 'typing', how: () => void): void {
    how()
    this.show(what)
  }

  private show(...what: ('talks' | 'rooms' | 'people' | 'typing')[]): void {
    for (const one of what) this.dirty.add(one)
    this.showTimer ??= setTimeout(() => {
      this.showTimer = undefined
      for (const one of this.dirty) this.view[one] += 1
      this.dirty.clear()
    }, SHOW_EVERY)
  }

  /** The talk, if it is in memory. */
  talk(key: TalkKey): Talk | undefined {
    return this.talks.find(key)
  }

  /** Where this person would write to; for who copies a topic into a shell. */
  topicOf(key: TalkKey): string {
    return entryTopic(key, this.me, 'message', null)
  }
}

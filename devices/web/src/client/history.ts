// Pages of history into timelines: the end of a talk when it is opened, older messages on scrolling
// back, and what is missing in between.

import { arrivalFromJson, whole, type Arrival } from '../wire/arrival'
import { placeOf, roomOf, type TalkKey } from '../wire/topics'
import type { Shape } from '../store/entry'
import type { Talk, Talks } from '../store/talks'

/** Entries asked for at once: some screens. */
const PAGE = 100
/** After a failure, in ms: what asks again and again by itself would be a burden. */
const REST = 5000

/** Which part of a talk. */
interface Query {
  before?: number
  after?: number
  around?: number
  limit: number
}

export interface Page {
  messages: { arrival: Arrival; shape: Shape }[]
  /** The range of numbers that was looked at; what is not in `messages` is not to be seen. */
  from: number
  to: number
  /** The highest number of the talk. */
  head: number
  /** The lowest number that there still is. */
  first: number
}

export type Ask = (method: string, fields: Record<string, unknown>) => Promise<Record<string, unknown>>

export class History {
  /** Talks that are being asked for. */
  private readonly busy = new Set<TalkKey>()
  /** Talks that could not be read, and until when they are not asked for again. */
  private readonly resting = new Map<TalkKey, number>()

  constructor(
    private readonly me: string,
    private readonly talks: Talks,
    private readonly ask: Ask,
  ) {}

  /** True if it is of no use to ask for more of the talk now. */
  isResting(key: TalkKey): boolean {
    return this.busy.has(key) || Date.now() < (this.resting.get(key) ?? 0)
  }

  /** There is a connection again: everything is worth a try. */
  wake(): void {
    this.resting.clear()
  }

  /** The end of the talk. */
  latest(talk: Talk): Promise<void> {
    return this.once(talk, async () => {
      const page = await this.page(talk, { limit: PAGE })
      this.take(talk, page)
      talk.isCurrent = true
    })
  }

  /** What comes before the first message in memory. */
  older(talk: Talk): Promise<void> {
    const before = talk.timeline.lowest
    if (talk.timeline.reachedStart) return Promise.resolve()
    if (before === null) return this.latest(talk)
    return this.once(talk, async () => this.take(talk, await this.page(talk, { before, limit: PAGE })))
  }

  /** The messages around one, back from the first in memory, so that no hole is left. */
  async reach(talk: Talk, seq: number, patience = 40): Promise<void> {
    for (let i = 0; i < patience && !talk.timeline.find(seq) && !talk.timeline.reachedStart; i += 1) {
      const lowest = talk.timeline.lowest
      await this.older(talk)
      if (talk.timeline.lowest === lowest) return
    }
  }

  /** Fills the last hole; true if there was one. */
  async fill(talk: Talk): Promise<boolean> {
    const { hole } = talk.timeline
    if (!hole || this.busy.has(talk.key)) return false
    await this.once(talk, async () => {
      const page = await this.page(talk, { before: hole.to + 1, limit: PAGE })
      this.take(talk, page)
    })
    return true
  }

  private async once(talk: Talk, read: () => Promise<void>): Promise<void> {
    if (this.busy.has(talk.key) || Date.now() < (this.resting.get(talk.key) ?? 0)) return
    this.busy.add(talk.key)
    try {
      await read()
      this.resting.delete(talk.key)
    } catch (error) {
      this.resting.set(talk.key, Date.now() + REST)
      throw error
    } finally {
      this.busy.delete(talk.key)
    }
  }

  private async page(talk: Talk, query: Query): Promise<Page> {
    const room = roomOf(talk.key)
    const where = room === null ? { with: talk.key.slice(3) } : { room }
    return pageFromJson(await this.ask('history', { ...where, ...query }))
  }

  private take(talk: Talk, page: Page): void {
    for (const { arrival, shape } of page.messages) {
      const place = placeOf(arrival.topic, this.me)
      if (place?.what === 'entry') this.talks.arrived({ ...place, talk: talk.key }, arrival, { shape, upTo: page.head })
    }
    talk.timeline.cover(page.from, page.to)
    // What retention took is not missing, and there is nothing before it.
    talk.timeline.startsAt(page.first)
  }
}

/** A page as the broker answers it. */
export function pageFromJson(json: Record<string, unknown>): Page {
  const messages = Array.isArray(json['messages']) ? json['messages'] : []
  return {
    messages: messages.flatMap((message: unknown) => {
      const arrival = arrivalFromJson(message)
      return arrival ? [{ arrival, shape: shapeFromJson(message as Record<string, unknown>, arrival) }] : []
    }),
    from: whole(json['from']) ?? 1,
    to: whole(json['to']) ?? 0,
    head: whole(json['head']) ?? 0,
    first: whole(json['first']) ?? 1,
  }
}

/** What history says a message became. */
function shapeFromJson(json: Record<string, unknown>, arrival: Arrival): Shape {
  const recalled = json['recalled'] !== undefined && json['recalled'] !== null && json['recalled'] !== false
  const edited = json['edited']
  const text = typeof edited === 'object' && edited !== null ? (edited as Record<string, unknown>)['payload'] : undefined
  return {
    text: recalled ? '' : typeof text === 'string' ? text : arrival.text,
    edited: edited !== undefined && edited !== null && edited !== false,
    recalled,
    reactions: recalled ? [] : reactionsFromJson(json['reactions']),
  }
}

function reactionsFromJson(json: unknown): Shape['reactions'] {
  if (typeof json !== 'object' || json === null) return []
  return Object.entries(json as Record<string, unknown>).flatMap(([emoji, users]) => {
    const names = Array.isArray(users) ? users.filter((user): user is string => typeof user === 'string') : []
    return names.length > 0 ? [{ emoji, users: names }] : []
  })
}

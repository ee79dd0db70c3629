// What every way to the broker has in common. A transport is one connection: it is opened once, and
// is over when `lost` was called or it was closed; who wants another one makes a new one, with the
// cursors that were reached.

import type { Arrival, Stamp } from '../wire/arrival'

/** The ways, the best first. */
export const PATHS = ['websocket', 'events', 'poll'] as const
export type Path = (typeof PATHS)[number]

/** What is kept, and read from the cursor on. */
export const KEPT = ['chat/#', 'dm/#'] as const

/** Who this is, towards the broker. */
export interface Credentials {
  user: string
  /** Null where no password is asked for. */
  token: string | null
}

/** What a transport is told at its beginning. */
export interface Options extends Credentials {
  /** Where reading goes on; null: from now on. */
  cursor: string | null
  /** Filters of what is not kept: records of rooms, presence, typing. */
  filters: readonly string[]
}

/** What a transport tells. */
export interface Listener {
  /** Everything is subscribed. */
  online(): void
  arrived(arrival: Arrival): void
  /** Everything kept before this position was handed over. */
  positioned(cursor: string): void
  /** The cursor is of another journal, or what follows it was trimmed: history is to be read anew. */
  reset(why: string): void
  /** It is over. `denied`: the credentials do not count, and trying again is of no use. */
  lost(why: string, denied: boolean): void
}

/** What is said with a message. */
export interface How {
  retain?: boolean
  /** Its sender's own number, by which a repetition is recognised. */
  cid?: string
  /** Users it speaks of. */
  mentions?: readonly string[]
}

export interface Transport {
  readonly path: Path
  /** Publishes; resolves when it is stored. @throws {Refused} for good, {Lost} for now. */
  publish(topic: string, text: string, options: How): Promise<Stamp>
  /** Publishes what nobody misses if it is lost. */
  whisper(topic: string, text: string): void
  /** Asks one of the broker's services. @throws {Refused} for good, {Lost} for now. */
  ask(method: string, fields: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Other filters of what is not kept. */
  listenTo(filters: readonly string[]): void
  close(): void
}

export type Open = (options: Options, listener: Listener) => Transport

/** The broker said no. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    text: string,
  ) {
    super(text)
  }
}

/** Whether it was done is not known: there is no connection. */
export class Lost extends Error {}

/** How long an answer is waited for, in ms. */
export const ANSWER_WITHIN = 15_000

/** What has no answer in time is as lost as with the connection. */
export function withinTime<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Lost('no answer')), ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

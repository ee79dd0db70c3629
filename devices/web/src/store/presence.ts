// Who is there, as the broker says in `user/{user}/presence`.

import { objectIn, whole } from '../wire/arrival'

export type Standing = 'online' | 'away' | 'offline'

export interface Presence {
  state: Standing
  /** When the person was last seen, ms since the epoch; null if unknown or kept private. */
  lastSeen: number | null
  devices: number
}

/** People whose presence is held: of those who come and go, the ones heard of last. */
const MAX_PEOPLE = 20_000

export class People {
  private readonly people = new Map<string, Presence>()

  /** A record arrived; an empty one is gone. */
  apply(user: string, payload: string | null): void {
    this.people.delete(user)
    const json = objectIn(payload)
    const state = (['online', 'away', 'offline'] as const).find((word) => word === json?.['state'])
    if (!json || !state) return
    const lastSeen = whole(json['last_seen'])
    this.people.set(user, { state, lastSeen, devices: whole(json['devices']) ?? 0 })
    if (this.people.size > MAX_PEOPLE) this.people.delete([...this.people.keys()][0] ?? '')
  }

  /** Null if nothing is known. */
  of(user: string): Presence | null {
    return this.people.get(user) ?? null
  }

  /** Everyone who is online or away, by name. */
  get present(): string[] {
    return [...this.people].filter(([, p]) => p.state !== 'offline').map(([user]) => user).sort((a, b) => a.localeCompare(b))
  }

  reset(): void {
    this.people.clear()
  }
}

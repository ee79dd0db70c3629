// Places that only this browser knows of: with open rooms a room is a name, and a talk of two is
// nobody's record; so which of them are in the list is remembered here.

import type { TalkKey } from '../wire/topics'

interface Saved {
  visited: TalkKey[]
  left: TalkKey[]
}

/** Places that are remembered, of each kind. */
const MAX_PLACES = 500

export class Places {
  private readonly visited: Set<TalkKey>
  private readonly left: Set<TalkKey>
  private readonly name: string

  constructor(
    private readonly storage: Pick<Storage, 'getItem' | 'setItem'> | null,
    me: string,
  ) {
    this.name = `tidings.places.${me}`
    const saved = this.load()
    this.visited = new Set(saved.visited)
    this.left = new Set(saved.left)
  }

  get all(): TalkKey[] {
    return [...this.visited]
  }

  hasLeft(key: TalkKey): boolean {
    return this.left.has(key)
  }

  visit(key: TalkKey): void {
    if (this.visited.has(key) && !this.left.has(key)) return
    this.left.delete(key)
    this.visited.add(key)
    this.save()
  }

  leave(key: TalkKey): void {
    this.visited.delete(key)
    this.left.add(key)
    this.save()
  }

  /** Somebody spoke there: a talk of two comes back, a room that was left does not. */
  returned(key: TalkKey): void {
    if (key.startsWith('dm/')) this.visit(key)
    else if (!this.left.has(key)) this.visit(key)
  }

  private load(): Saved {
    const list = (value: unknown): never[] => (Array.isArray(value) ? (value as never[]) : [])
    try {
      const saved = JSON.parse(this.storage?.getItem(this.name) ?? '{}') as Partial<Saved>
      return { visited: list(saved.visited), left: list(saved.left) }
    } catch {
      return { visited: [], left: [] }
    }
  }

  private save(): void {
    const last = <T>(all: Iterable<T>) => [...all].slice(-MAX_PLACES)
    const saved: Saved = { visited: last(this.visited), left: last(this.left) }
    try {
      this.storage?.setItem(this.name, JSON.stringify(saved))
    } catch {
      // A full storage: then it is not remembered.
    }
  }
}

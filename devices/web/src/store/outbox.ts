// What this person sent and the broker has not confirmed: in the order written, each under a `cid`
// by which the broker recognises what it already has. Kept over reloads of the tab.

import type { EntryKind, TalkKey } from '../wire/topics'

export interface Parcel {
  readonly cid: string
  readonly talk: TalkKey
  readonly kind: EntryKind
  readonly target: number | null
  readonly text: string
  /** When it was written, ms since the epoch. */
  readonly at: number
}

/** Parcels under way at once: far below every broker's Receive Maximum. */
export const WINDOW = 16
/** Parcels that are kept: a person writes no more in a tunnel. */
const MAX_PARCELS = 500
const KEY = 'tidings.outbox'

export class Outbox {
  private parcels: Parcel[] = []
  private readonly underWay = new Set<string>()
  private readonly refused = new Set<string>()

  constructor(
    private readonly storage: Pick<Storage, 'getItem' | 'setItem'> | null,
    private readonly owner: string,
  ) {
    this.parcels = this.load()
  }

  get all(): readonly Parcel[] {
    return this.parcels
  }

  add(parcel: Parcel): void {
    this.parcels = [...this.parcels, parcel].slice(-MAX_PARCELS)
    this.save()
  }

  /** What may be sent now; each counts as under way from then on. */
  take(window = WINDOW): Parcel[] {
    const free = window - this.underWay.size
    const ready = this.parcels.filter(({ cid }) => !this.underWay.has(cid) && !this.refused.has(cid))
    const taken = ready.slice(0, Math.max(0, free))
    for (const { cid } of taken) this.underWay.add(cid)
    return taken
  }

  /** The broker has it, or the person gave it up. */
  done(cid: string): void {
    this.underWay.delete(cid)
    this.refused.delete(cid)
    this.parcels = this.parcels.filter((parcel) => parcel.cid !== cid)
    this.save()
  }

  /** The broker did not take it; it stays until it is sent again or given up. */
  refuse(cid: string): void {
    this.underWay.delete(cid)
    this.refused.add(cid)
  }

  /** A refused one is sent again, as the last. */
  again(cid: string): void {
    const parcel = this.parcels.find((p) => p.cid === cid)
    if (!parcel || !this.refused.delete(cid)) return
    this.parcels = [...this.parcels.filter((p) => p.cid !== cid), parcel]
    this.save()
  }

  /** It did not get through: it is to be sent again. */
  back(cid: string): void {
    this.underWay.delete(cid)
  }

  /** The connection ended: everything under way is to be sent again. */
  allBack(): void {
    this.underWay.clear()
  }

  private load(): Parcel[] {
    try {
      const saved: unknown = JSON.parse(this.storage?.getItem(KEY) ?? 'null')
      const { owner, parcels } = saved as { owner?: unknown; parcels?: unknown }
      return owner === this.owner && Array.isArray(parcels) ? (parcels as Parcel[]) : []
    } catch {
      return []
    }
  }

  private save(): void {
    try {
      this.storage?.setItem(KEY, JSON.stringify({ owner: this.owner, parcels: this.parcels }))
    } catch {
      // A full storage: then it is not kept over reloads.
    }
  }
}

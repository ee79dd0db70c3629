// From the outbox to the broker: a window under way, each under its `cid` until it is confirmed,
// refused or given up.

import type { Stamp } from '../wire/arrival'
import { entryTopic } from '../wire/topics'
import type { Outbox, Parcel } from '../store/outbox'
import { mentionedIn } from '../text/segments'
import { Refused, type How } from '../transport/transport'

export interface SenderPort {
  /** Parcels that may be under way at once. */
  window(): number
  publish(topic: string, text: string, options: How): Promise<Stamp>
  sent(parcel: Parcel, stamp: Stamp): void
  refused(parcel: Parcel, why: string): void
}

/** Before what got lost on a connection that lives on is sent again, in ms. */
const RETRY = 2000

export class Sender {
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly me: string,
    private readonly outbox: Outbox,
    private readonly port: SenderPort,
  ) {}

  close(): void {
    clearTimeout(this.timer)
  }

  /** Sends what waits; to be called when something was added, and when there is a connection. */
  send(): void {
    for (const parcel of this.outbox.take(this.port.window())) void this.sendOne(parcel)
  }

  private async sendOne(parcel: Parcel): Promise<void> {
    const { cid, talk, kind, target, text } = parcel
    try {
      const stamp = await this.port.publish(entryTopic(talk, this.me, kind, target), text, { cid, mentions: mentionedIn(text) })
      this.outbox.done(cid)
      this.port.sent(parcel, stamp)
      this.send()
    } catch (error) {
      if (!(error instanceof Refused)) {
        // It goes again with the next connection, under the same cid.
        this.outbox.back(cid)
        clearTimeout(this.timer)
        this.timer = setTimeout(() => this.send(), RETRY)
        return
      }
      const isChange = kind === 'edit' || kind === 'recall' || kind === 'react'
      if (isChange) this.outbox.done(cid)
      else this.outbox.refuse(cid)
      this.port.refused(parcel, error.message)
      this.send()
    }
  }
}

// The lines of an event stream (HTML Living Standard §9.2), however the bytes come.

export interface StreamEvent {
  /** `message` unless it says otherwise. */
  name: string
  data: string
  /** The position, if it moved on with this event. */
  id: string | null
}

/** Bytes of one event; more is no event of ours. */
const MAX_EVENT = 4 * 1024 * 1024

export class EventParser {
  private rest = ''
  private name = ''
  private data: string[] = []
  private id: string | null = null

  /** Takes text as it comes, and gives the events that it completes. */
  take(text: string): StreamEvent[] {
    this.rest += text
    if (this.rest.length > MAX_EVENT) throw new Error('an event is too large')
    const events: StreamEvent[] = []
    for (let end = this.rest.indexOf('\n'); end >= 0; end = this.rest.indexOf('\n')) {
      const line = this.rest.slice(0, end).replace(/\r$/, '')
      this.rest = this.rest.slice(end + 1)
      if (line === '') events.push(...this.complete())
      else this.field(line)
    }
    return events
  }

  private field(line: string): void {
    const colon = line.indexOf(':')
    if (colon === 0) return
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'event') this.name = value
    else if (name === 'data') this.data.push(value)
    else if (name === 'id') this.id = value
  }

  /** An event without data is one, too, where it brings a position. */
  private complete(): StreamEvent[] {
    const { name, data, id } = this
    ;[this.name, this.data, this.id] = ['', [], null]
    return data.length > 0 || id !== null ? [{ name: name || 'message', data: data.join('\n'), id }] : []
  }
}

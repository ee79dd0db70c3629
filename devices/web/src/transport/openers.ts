// The ways to the broker, by name.

import { openEvents } from './events'
import { openPoll } from './poll'
import type { Open, Path } from './transport'
import { openWebSocket } from './websocket'

export function openers(base: string, websocket: string): Record<Path, Open> {
  return {
    websocket: (options, listener) => openWebSocket(websocket, options, listener),
    events: (options, listener) => openEvents(base, options, listener),
    poll: (options, listener) => openPoll(base, options, listener),
  }
}

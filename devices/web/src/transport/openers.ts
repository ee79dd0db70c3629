// The ways to the broker, by name.

import type { Open, Path } from './transport'
import { openWebSocket } from './websocket'

export function openers(_base: string, websocket: string): Record<Path, Open> {
  const direct: Open = (options, listener) => openWebSocket(websocket, options, listener)
  return { websocket: direct, events: direct, poll: direct }
}

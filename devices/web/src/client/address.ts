// Where the broker is: where this page came from, unless the address bar says otherwise.

import { PathChoice } from '../transport/choice'
import { PATHS } from '../transport/transport'

export interface Address {
  /** In front of `/v1/...`. */
  base: string
  websocket: string
  choice(): PathChoice
}

/**
 * `?ws=` names another WebSocket address, `?path=poll` the only way to take, `?look=` the seconds
 * between two looks for a better one.
 */
export function addressOf(location: Pick<Location, 'protocol' | 'host' | 'search'>): Address {
  const query = new URLSearchParams(location.search)
  const override = query.get('ws')
  const own = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`
  const only = PATHS.filter((path) => path === query.get('path'))
  const look = Number(query.get('look'))
  return {
    base: '',
    websocket: override && /^wss?:\/\//.test(override) ? override : own,
    choice: () => new PathChoice(only.length > 0 ? only : PATHS, look > 0 ? look * 1000 : undefined),
  }
}

/** The talk in the address bar, '' if there is none. */
export function hashOf(hash: string): string {
  try {
    return decodeURIComponent(hash.replace(/^#/, '')).trim()
  } catch {
    return ''
  }
}

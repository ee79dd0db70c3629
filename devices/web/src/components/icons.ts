// What stands for a talk instead of a face.

import type { RoomKind } from '../store/rooms'
import type { IconName } from './Icon.vue'

/** Nothing for a person. */
export function iconOf(peer: string | null, kind: RoomKind | null): IconName | undefined {
  if (peer !== null) return undefined
  if (kind === 'private') return 'lock'
  return kind === 'channel' ? 'horn' : 'hash'
}

// Rooms as their retained records say: what they are, who is in them, who is banned, muted, invited.
//
// The broker sends what this person may see, and an empty record for what is gone. With open rooms
// there are no records: then a room is a name that was used.

import { objectIn, whole } from '../wire/arrival'

export type Role = 'reader' | 'member' | 'moderator' | 'owner'
export type RoomKind = 'open' | 'private' | 'direct' | 'channel'
export type MarkKind = 'ban' | 'mute' | 'invite'

export const ROLES: readonly Role[] = ['reader', 'member', 'moderator', 'owner']
const KINDS: readonly RoomKind[] = ['open', 'private', 'direct', 'channel']

export interface RoomRecord {
  title: string
  kind: RoomKind
  owner: string
  archived: boolean
  deleted: boolean
  /** Seconds between two messages of one member; 0 is off. */
  slow: number
}

export interface Mark {
  by: string
  /** Milliseconds since the Unix epoch; null: until somebody takes it back. */
  until: number | null
}

interface Room {
  record: RoomRecord | null
  members: Map<string, Role>
  marks: Record<MarkKind, Map<string, Mark>>
}

export class Rooms {
  private readonly rooms = new Map<string, Room>()

  constructor(private readonly me: string) {}

  /** A record arrived; an empty one is gone. Records that cannot be read are passed over. */
  apply(room: string, what: 'room' | 'member' | MarkKind, user: string, payload: string | null): void {
    const json = payload === '' ? null : objectIn(payload)
    if (payload !== '' && !json) return
    const known = this.rooms.get(room) ?? emptyRoom()
    this.rooms.set(room, known)
    if (what === 'room') known.record = json && roomRecord(json)
    else if (what === 'member') set(known.members, user, json && oneOf(ROLES, json['role']))
    else set(known.marks[what], user, json && mark(json))
    // Out of the room: what one saw as a member counts no more.
    if (what === 'member' && user === this.me && !json) known.members.clear()
    if (!known.record && known.members.size === 0 && known.marks.invite.size === 0) this.rooms.delete(room)
  }

  record(room: string): RoomRecord | null {
    return this.rooms.get(room)?.record ?? null
  }

  /** The role of a person, by default this one; null if not in the room. */
  role(room: string, user = this.me): Role | null {
    const known = this.rooms.get(room)
    const role = known?.members.get(user) ?? null
    // Who the owner is, the room's own record decides.
    return role && known?.record?.owner === user ? 'owner' : role
  }

  /** Members that this person may see, the most powerful first. */
  members(room: string): { user: string; role: Role }[] {
    const users = [...(this.rooms.get(room)?.members.keys() ?? [])]
    return users
      .map((user) => ({ user, role: this.role(room, user) ?? 'member' }))
      .sort((a, b) => ROLES.indexOf(b.role) - ROLES.indexOf(a.role) || a.user.localeCompare(b.user))
  }

  mark(room: string, kind: MarkKind, user = this.me): Mark | null {
    return this.rooms.get(room)?.marks[kind].get(user) ?? null
  }

  marked(room: string, kind: MarkKind): string[] {
    return [...(this.rooms.get(room)?.marks[kind].keys() ?? [])].sort((a, b) => a.localeCompare(b))
  }

  /** Rooms that this person is in. */
  get joined(): string[] {
    return this.where((room, name) => room.members.has(this.me) && !room.record?.deleted && name !== '')
  }

  /** Rooms that this person is invited to and not in. */
  get invitations(): string[] {
    return this.where((room) => room.marks.invite.has(this.me) && !room.members.has(this.me))
  }

  /** Rooms that this person sees and is not in. */
  get others(): string[] {
    return this.where((room) => room.record !== null && !room.record.deleted && !room.members.has(this.me))
  }

  /** True if `actor`, by default this person, may moderate `user`, as the broker decides. */
  mayModerate(room: string, user: string): boolean {
    const [own, other] = [this.role(room), this.role(room, user)]
    if (own !== 'owner' && own !== 'moderator') return false
    return user !== this.me && ROLES.indexOf(own) > ROLES.indexOf(other ?? 'reader')
  }

  /** True if this person may write; where there are no records, everyone may. */
  mayWrite(room: string, now: number): boolean {
    const record = this.record(room)
    if (!record) return true
    const role = this.role(room)
    const mute = this.mark(room, 'mute')
    const isMuted = mute !== null && (mute.until === null || mute.until > now)
    return role !== null && role !== 'reader' && !record.archived && !isMuted
  }

  /** Forgets everything: it comes again. */
  reset(): void {
    this.rooms.clear()
  }

  private where(fits: (room: Room, name: string) => boolean): string[] {
    return [...this.rooms].filter(([name, room]) => fits(room, name)).map(([name]) => name)
  }
}

function emptyRoom(): Room {
  return { record: null, members: new Map(), marks: { ban: new Map(), mute: new Map(), invite: new Map() } }
}

function set<T>(map: Map<string, T>, key: string, value: T | null): void {
  if (value === null) map.delete(key)
  else map.set(key, value)
}

function oneOf<T extends string>(words: readonly T[], value: unknown): T | null {
  return words.find((word) => word === value) ?? null
}

function roomRecord(json: Record<string, unknown>): RoomRecord | null {
  const kind = oneOf(KINDS, json['kind'])
  if (!kind) return null
  return {
    kind,
    title: typeof json['title'] === 'string' ? json['title'] : '',
    owner: typeof json['owner'] === 'string' ? json['owner'] : '',
    archived: json['archived'] === true,
    deleted: json['deleted'] === true,
    slow: whole(json['slow_s']) ?? 0,
  }
}

function mark(json: Record<string, unknown>): Mark {
  return { by: typeof json['by'] === 'string' ? json['by'] : '', until: whole(json['until']) }
}

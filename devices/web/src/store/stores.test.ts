import { describe, expect, it } from 'vitest'
import { Outbox, WINDOW, type Parcel } from './outbox'
import { People } from './presence'
import { Ranges } from './ranges'
import { Receipts, mentions } from './receipts'
import { Rooms } from './rooms'
import { Talks } from './talks'

describe('Ranges', () => {
  it('is the same as a set of numbers', () => {
    const [ranges, set] = [new Ranges(), new Set<number>()]
    let random = 7
    for (let i = 0; i < 300; i += 1) {
      random = (random * 1103515245 + 12345) % 2 ** 31
      const from = (random >> 8) % 90
      const to = from + ((random >> 16) % 4)
      ranges.add(from, to)
      for (let n = from; n <= to; n += 1) set.add(n)
      for (let n = 0; n < 100; n += 1) expect(ranges.has(n)).toBe(set.has(n))
      expect([ranges.lowest, ranges.highest]).toEqual([Math.min(...set), Math.max(...set)])
    }
  })
})

describe('Rooms', () => {
  const record = (more = {}) => JSON.stringify({ title: 'The Cellar', kind: 'private', owner: 'alice', since: 1, ...more })
  const cellar = (me: string) => {
    const rooms = new Rooms(me)
    rooms.apply('cellar', 'room', '', record())
    for (const [user, role] of [['alice', 'moderator'], ['bob', 'member'], ['carol', 'moderator'], ['dave', 'reader']]) {
      rooms.apply('cellar', 'member', user ?? '', JSON.stringify({ role }))
    }
    return rooms
  }

  it('has who is in it, the owner first, as the room itself says', () => {
    expect(cellar('bob').members('cellar').map(({ user, role }) => `${user} ${role}`)).toEqual([
      'alice owner',
      'carol moderator',
      'bob member',
      'dave reader',
    ])
  })

  it('lets moderators act on lower roles only, and nobody on themselves', () => {
    const may = (me: string) => ['alice', 'bob', 'carol', 'dave'].filter((user) => cellar(me).mayModerate('cellar', user))
    expect(may('alice')).toEqual(['bob', 'carol', 'dave'])
    expect(may('carol')).toEqual(['bob', 'dave'])
    expect(may('bob')).toEqual([])
  })

  it('forgets the roster of a room that one was sent away from', () => {
    const rooms = cellar('bob')
    rooms.apply('cellar', 'member', 'bob', '')
    expect(rooms.joined).toEqual([])
    expect(rooms.members('cellar')).toEqual([])
  })

  it('is silent to readers, to who is muted for now, and in the archive', () => {
    const rooms = cellar('bob')
    expect(rooms.mayWrite('cellar', 100)).toBe(true)
    expect(cellar('dave').mayWrite('cellar', 100)).toBe(false)
    rooms.apply('cellar', 'mute', 'bob', JSON.stringify({ by: 'alice', since: 1, until: 200 }))
    expect([rooms.mayWrite('cellar', 100), rooms.mayWrite('cellar', 300)]).toEqual([false, true])
    rooms.apply('cellar', 'room', '', record({ archived: true }))
    expect(rooms.mayWrite('cellar', 300)).toBe(false)
  })

  it('shows an invitation until it is accepted', () => {
    const rooms = new Rooms('bob')
    rooms.apply('cellar', 'invite', 'bob', JSON.stringify({ by: 'alice', since: 1, until: 2 }))
    expect(rooms.invitations).toEqual(['cellar'])
    rooms.apply('cellar', 'member', 'bob', JSON.stringify({ role: 'member' }))
    expect([rooms.invitations, rooms.joined]).toEqual([[], ['cellar']])
  })

  it('passes over what it cannot read', () => {
    const rooms = cellar('bob')
    for (const payload of ['no json', '[]', null]) rooms.apply('cellar', 'room', '', payload)
    expect(rooms.record('cellar')?.title).toBe('The Cellar')
  })
})

describe('Receipts', () => {
  it('only grow', () => {
    const receipts = new Receipts('me')
    expect(receipts.read('chat/a', 'bob', 5)).toBe(true)
    expect(receipts.read('chat/a', 'bob', 3)).toBe(false)
    expect(receipts.readers('chat/a', 5)).toEqual(['bob'])
    expect(receipts.readers('chat/a', 6)).toEqual([])
  })

  it('count on from the number at which the broker counted, each message once', () => {
    const receipts = new Receipts('me')
    receipts.counted('chat/a', 10, 6, { messages: 4, mentions: 1 })
    for (const seq of [9, 10, 11, 11, 12]) receipts.arrived('chat/a', seq, seq === 12)
    expect(receipts.unread('chat/a')).toEqual({ messages: 6, mentions: 2 })
    receipts.read('chat/a', 'me', 12)
    receipts.caughtUp('chat/a', 12, { messages: 0, mentions: 0 })
    receipts.counted('chat/a', 11, 6, { messages: 5, mentions: 1 })
    expect(receipts.unread('chat/a')).toEqual({ messages: 0, mentions: 0 })
  })

  it('have what came while the broker was asked, and not twice', () => {
    const receipts = new Receipts('me')
    for (const seq of [99, 100, 101, 102]) receipts.arrived('chat/a', seq, seq === 102)
    receipts.counted('chat/a', 100, 40, { messages: 60, mentions: 3 })
    expect(receipts.unread('chat/a')).toEqual({ messages: 62, mentions: 4 })
    receipts.arrived('chat/a', 102, true)
    expect(receipts.unread('chat/a').messages).toBe(62)
  })

  it('know a mention from a part of a longer name', () => {
    expect(mentions('hi @bob!', 'bob')).toBe(true)
    expect(mentions('hi @bobby, a@bob', 'bob')).toBe(false)
    expect(mentions('@bobby and @bob', 'bob')).toBe(true)
    expect(mentions('你好@小明，', '小明')).toBe(true)
    expect(mentions('你好@小明明', '小明')).toBe(false)
  })
})

describe('Outbox', () => {
  const parcel = (cid: string): Parcel => ({ cid, talk: 'chat/a', kind: 'message', target: null, text: cid, at: 1 })
  const memory = () => {
    const map = new Map<string, string>()
    return { getItem: (key: string) => map.get(key) ?? null, setItem: (key: string, value: string) => void map.set(key, value) }
  }

  it('sends in order, at most a window at once, and again what got lost', () => {
    const outbox = new Outbox(null, 'me')
    for (let i = 0; i < WINDOW + 2; i += 1) outbox.add(parcel(`c${i}`))
    expect(outbox.take()).toHaveLength(WINDOW)
    expect(outbox.take()).toEqual([])
    outbox.done('c0')
    expect(outbox.take().map(({ cid }) => cid)).toEqual([`c${WINDOW}`])
    outbox.allBack()
    expect(outbox.take()[0]?.cid).toBe('c1')
  })

  it('holds what was refused until it is sent again, as the last', () => {
    const outbox = new Outbox(null, 'me')
    for (const cid of ['a', 'b']) outbox.add(parcel(cid))
    outbox.take()
    outbox.refuse('a')
    outbox.allBack()
    expect(outbox.take().map(({ cid }) => cid)).toEqual(['b'])
    outbox.again('a')
    outbox.allBack()
    expect(outbox.take().map(({ cid }) => cid)).toEqual(['b', 'a'])
  })

  it('is there after a reload, for the same person', () => {
    const storage = memory()
    new Outbox(storage, 'me').add(parcel('a'))
    expect(new Outbox(storage, 'me').all).toEqual([parcel('a')])
    expect(new Outbox(storage, 'you').all).toEqual([])
  })
})

describe('Talks', () => {
  const arrival = (seq: number, text = `text ${seq}`) => ({
    ...{ topic: '', from: null, text, size: 1, cid: null, mentions: [], cursor: null, retained: false, seq, id: null, ts: seq },
  })
  const place = (kind: 'message' | 'edit' | 'recall' = 'message', target: number | null = null) => ({ talk: 'chat/a' as const, from: 'bob', kind, target })

  it('tell what is news from what came again, and keep the last message for the list', () => {
    const talks = new Talks('me')
    expect(talks.arrived(place(), arrival(2))).toBe(true)
    expect(talks.arrived(place(), arrival(2))).toBe(false)
    expect(talks.arrived(place(), arrival(1))).toBe(false)
    expect(talks.find('chat/a')?.preview?.text).toBe('text 2')
    expect(talks.arrived(place('edit', 2), arrival(3, 'better'))).toBe(false)
    expect(talks.find('chat/a')?.preview?.text).toBe('better')
    talks.arrived(place('recall', 2), arrival(4, ''))
    expect(talks.find('chat/a')?.preview?.text).toBe('')
  })
})

describe('People', () => {
  it('are there as the broker says, or not known', () => {
    const people = new People()
    people.apply('bob', JSON.stringify({ state: 'away', devices: 2, last_seen: 5 }))
    expect(people.of('bob')).toEqual({ state: 'away', devices: 2, lastSeen: 5 })
    people.apply('bob', '')
    expect(people.of('bob')).toBeNull()
    people.apply('bob', '{"state":"flying"}')
    expect(people.of('bob')).toBeNull()
  })
})

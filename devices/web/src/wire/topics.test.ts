import { describe, expect, it } from 'vitest'
import { entryTopic, nameProblem, peerOf, placeOf, readTopic } from './topics'

describe('placeOf', () => {
  it('knows what is said in a room, and what changes it', () => {
    const entry = { what: 'entry', talk: 'chat/lobby', from: 'bob' }
    expect(placeOf('chat/lobby/bob', 'me')).toEqual({ ...entry, kind: 'message', target: null })
    expect(placeOf('chat/lobby/bob/reply/7', 'me')).toEqual({ ...entry, kind: 'reply', target: 7 })
    expect(placeOf('chat/lobby/bob/react/12', 'me')).toEqual({ ...entry, kind: 'react', target: 12 })
  })

  it('has one talk for both directions of a direct message, and none for those of others', () => {
    expect(placeOf('dm/me/bob', 'me')).toMatchObject({ talk: 'dm/bob', from: 'bob' })
    expect(placeOf('dm/bob/me', 'me')).toMatchObject({ talk: 'dm/bob', from: 'me' })
    expect(placeOf('dm/bob/me/edit/3', 'me')).toMatchObject({ talk: 'dm/bob', kind: 'edit', target: 3 })
    expect(placeOf('dm/me/bob/read', 'me')).toEqual({ what: 'read', talk: 'dm/bob', user: 'bob' })
    expect(placeOf('dm/bob/carol', 'me')).toBeNull()
  })

  it('knows records of rooms and of people', () => {
    expect(placeOf('room/lobby', 'me')).toEqual({ what: 'room', room: 'lobby' })
    expect(placeOf('room/lobby/mute/bob', 'me')).toEqual({ what: 'mute', room: 'lobby', user: 'bob' })
    expect(placeOf('read/lobby/bob', 'me')).toEqual({ what: 'read', talk: 'chat/lobby', user: 'bob' })
    expect(placeOf('user/bob/presence', 'me')).toEqual({ what: 'presence', user: 'bob' })
    expect(placeOf('user/bob/inbox', 'me')).toBeNull()
  })

  it.each(['', 'chat', 'chat/', 'chat/lobby', 'chat/lobby/bob/shout/7', 'chat/lobby/bob/edit/x', 'chat/a/b/edit/1/2', 'room/a/b', 'device/x/y'])(
    'makes nothing of %j',
    (topic) => expect(placeOf(topic, 'me')).toBeNull(),
  )
})

describe('topics to publish on', () => {
  it('say who speaks and what it is about', () => {
    expect(entryTopic('chat/lobby', 'me', 'message', null)).toBe('chat/lobby/me')
    expect(entryTopic('chat/lobby', 'me', 'edit', 4)).toBe('chat/lobby/me/edit/4')
    expect(entryTopic('dm/bob', 'me', 'message', null)).toBe('dm/bob/me')
    expect(readTopic('chat/lobby', 'me')).toBe('read/lobby/me')
    expect(readTopic('dm/bob', 'me')).toBe('dm/bob/me/read')
  })
})

describe('names', () => {
  it('that would be another topic are refused', () => {
    expect(nameProblem('')).toBe('name_missing')
    expect(nameProblem('名'.repeat(50))).toBe('name_long')
    for (const name of ['a/b', '+', 'a#', 'a&b', 'a\u0007']) expect(nameProblem(name)).toBe('name_characters')
    for (const name of ['$x', '.x']) expect(nameProblem(name)).toBe('name_start')
    for (const name of ['alice', 'Küche 7', '東京', 'ليلى']) expect(nameProblem(name)).toBeNull()
  })

  it('of direct rooms tell who the other one is', () => {
    expect(peerOf('chat/alice&bob', 'bob')).toBe('alice')
    expect(peerOf('chat/a%26b&me', 'me')).toBe('a&b')
    expect(peerOf('chat/lobby', 'me')).toBeNull()
    expect(peerOf('dm/bob', 'me')).toBe('bob')
  })
})

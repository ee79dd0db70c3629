import { describe, expect, it } from 'vitest'
import { filterQuery } from './events'
import { asking, problemOf, publishing } from './rest'
import { EventParser } from './stream'
import { Lost, Refused } from './transport'

describe('what is published over HTTP', () => {
  const messages = '/v1/rooms/the%20cellar/messages'

  it('is what the topic says', () => {
    const of = (topic: string, text: string) => publishing(topic, text, { cid: 'c1' })
    expect(of('chat/the cellar/me', 'hi')).toEqual({ method: 'POST', path: messages, body: { text: 'hi', cid: 'c1' } })
    expect(of('chat/the cellar/me/reply/7', 'hi')?.body).toEqual({ text: 'hi', cid: 'c1', reply_to: 7 })
    expect(of('chat/the cellar/me/edit/7', 'ho')).toEqual({ method: 'PATCH', path: `${messages}/7`, body: { text: 'ho' } })
    expect(of('chat/the cellar/me/recall/7', '')).toEqual({ method: 'DELETE', path: `${messages}/7` })
    expect(of('chat/the cellar/me/react/7', '👍')).toEqual({ method: 'PUT', path: `${messages}/7/reactions/%F0%9F%91%8D` })
    expect(of('chat/the cellar/me/react/7', '')?.method).toBe('DELETE')
    expect(of('dm/bob/me', 'hi')?.path).toBe('/v1/dm/bob/messages')
    expect(of('read/the cellar/me', '9')).toEqual({ method: 'PUT', path: '/v1/rooms/the%20cellar/read', body: { seq: 9 } })
  })

  it('is nothing where nobody misses it', () => {
    for (const topic of ['typing/a/me', 'dm/bob/me/read', 'dm/bob/me/delivered']) expect(publishing(topic, '1', {})).toBeNull()
  })

  it('names who is mentioned', () => {
    expect(publishing('chat/a/me', '@bob', { mentions: ['bob'] })?.body).toEqual({ text: '@bob', mentions: ['bob'] })
  })
})

describe('what is asked over HTTP', () => {
  it('is the request of that method', () => {
    expect(asking('history', { room: 'a', before: 7, limit: 60 }, 'me')).toEqual({ method: 'GET', path: '/v1/rooms/a/messages?before=7&limit=60' })
    expect(asking('history', { with: 'b/c' }, 'me')?.path).toBe('/v1/dm/b%2Fc/messages')
    expect(asking('mute', { room: 'a', user: 'bob', seconds: 60 }, 'me')).toEqual({ method: 'PUT', path: '/v1/rooms/a/mutes/bob', body: { seconds: 60 } })
    expect(asking('ban', { room: 'a', user: 'bob' }, 'me')?.body).toEqual({})
    expect(asking('unban', { room: 'a', user: 'bob' }, 'me')).toEqual({ method: 'DELETE', path: '/v1/rooms/a/bans/bob' })
    expect(asking('list', { public: true }, 'me')?.path).toBe('/v1/rooms?public=true')
    expect(asking('slow', { room: 'a', seconds: 5 }, 'me')?.body).toEqual({ slow_s: 5 })
    expect(asking('fly', {}, 'me')).toBeNull()
  })

  it('fails for good only where the broker itself says so', () => {
    expect(problemOf({ status: 403 }, { error: { code: 'not_member', text: 'no' } })).toEqual(new Refused('not_member', 'no'))
    expect(problemOf({ status: 502 }, {})).toBeInstanceOf(Lost)
    expect(problemOf({ status: 404 }, {})).toBeInstanceOf(Lost)
    expect(problemOf({ status: 503 }, { error: { code: 'unavailable' } })).toBeInstanceOf(Lost)
  })
})

describe('filters of a stream', () => {
  it('are bounded, each once, and none names one person who may hide', () => {
    const people = Array.from({ length: 90 }, (_, i) => `user/p${i}/presence`)
    const query = filterQuery(['room/+', ...people, 'room/+'])
    expect(query).toBe('filter=chat%2F%23&filter=dm%2F%23&filter=room%2F%2B&filter=user%2F%2B%2Fpresence')
    expect(filterQuery(Array.from({ length: 90 }, (_, i) => `x/${i}`)).split('&')).toHaveLength(50)
  })
})

describe('EventParser', () => {
  const stream = 'retry: 2000\nid: a-1\n\n: alive\n\nid: a-2\nevent: message\ndata: {"x":\ndata: 1}\r\n\nevent: gap\ndata: {}\n\n'

  it('gives the same events however the bytes come', () => {
    const expected = [
      { name: 'message', data: '', id: 'a-1' },
      { name: 'message', data: '{"x":\n1}', id: 'a-2' },
      { name: 'gap', data: '{}', id: null },
    ]
    for (let size = 1; size <= stream.length; size += 1) {
      const parser = new EventParser()
      const events = []
      for (let at = 0; at < stream.length; at += size) events.push(...parser.take(stream.slice(at, at + size)))
      expect(events).toEqual(expected)
    }
  })

  it('does not gather without end', () => {
    const parser = new EventParser()
    expect(() => {
      for (let i = 0; i < 100; i += 1) parser.take('x'.repeat(100_000))
    }).toThrow()
  })
})

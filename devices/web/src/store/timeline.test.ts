import { describe, expect, it } from 'vitest'
import { plain } from './entry'
import { Timeline, type Incoming } from './timeline'

const arrival = (seq: number | null, from: string, more: Partial<Incoming> = {}): Incoming => ({
  ...{ kind: 'message', target: null, seq, from, id: `id-${seq}`, ts: seq, cid: null, text: `text ${seq}`, size: 6 },
  ...more,
})
const draft = (cid: string, text = 'hello', more = {}) => ({ cid, kind: 'message' as const, target: null, text, now: 5, ...more })
const stamp = (seq: number) => ({ seq, id: `id-${seq}`, ts: seq })
const texts = (t: Timeline) => t.entries.map((e) => e.text)
const seqs = (t: Timeline) => t.entries.map((e) => e.seq)

describe('Timeline', () => {
  it('orders messages by seq, whatever order they arrive in, and shows each once', () => {
    const t = new Timeline('me')
    for (const seq of [3, 1, 2, 3, 1]) t.receive(arrival(seq, 'bob'))
    expect(seqs(t)).toEqual([1, 2, 3])
    expect(t.head).toBe(3)
  })

  it('sees what is missing, and no hole where changes stand', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    t.receive(arrival(2, 'bob', { kind: 'react', target: 1, text: '👍' }))
    expect(t.hole).toBeNull()
    t.receive(arrival(6, 'bob'))
    expect(t.hole).toEqual({ from: 3, to: 5 })
    t.receive(arrival(4, 'bob'))
    expect(t.hole).toEqual({ from: 5, to: 5 })
    t.cover(3, 5)
    expect(t.hole).toBeNull()
  })

  it('shows an own message at once and turns it into sent when it is acknowledged', () => {
    const t = new Timeline('me')
    t.compose(draft('c1'))
    expect(t.entries[0]).toMatchObject({ mine: true, delivery: 'pending', seq: null })
    t.acknowledge('c1', stamp(4))
    expect(t.entries[0]).toMatchObject({ delivery: 'sent', seq: 4, text: 'hello' })
    expect(t.entries).toHaveLength(1)
  })

  it('has a hole where an acknowledged number is ahead of messages of others', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    t.compose(draft('c1'))
    t.acknowledge('c1', stamp(3))
    expect(t.hole).toEqual({ from: 2, to: 2 })
    t.receive(arrival(2, 'bob'))
    t.receive(arrival(3, 'me', { cid: 'c1' }))
    expect(seqs(t)).toEqual([1, 2, 3])
  })

  it.each([
    ['before its acknowledgement, with cid', 'c1', true],
    ['after its acknowledgement, with cid', 'c1', false],
    ['before its acknowledgement, without cid', null, true],
    ['after its acknowledgement, without cid', null, false],
  ])('shows an own message once if it comes back %s', (_, cid, echoFirst) => {
    const t = new Timeline('me')
    t.compose(draft('c1'))
    const steps = [() => t.receive(arrival(7, 'me', { cid, text: 'hello' })), () => t.acknowledge('c1', stamp(7))]
    for (const step of echoFirst ? steps : steps.reverse()) step()
    expect(t.entries).toHaveLength(1)
    expect(t.entries[0]).toMatchObject({ seq: 7, delivery: 'sent', mine: true })
  })

  it('keeps messages that wait behind those with a number, in the order written', () => {
    const t = new Timeline('me')
    t.compose(draft('c1', 'first'))
    t.compose(draft('c2', 'second'))
    t.receive(arrival(9, 'bob'))
    expect(texts(t)).toEqual(['text 9', 'first', 'second'])
  })

  it('takes cid only from own messages, so that nobody can confirm those of others', () => {
    const t = new Timeline('me')
    t.compose(draft('c1'))
    t.receive(arrival(2, 'mallory', { cid: 'c1' }))
    expect(t.entries).toHaveLength(2)
    expect(t.entries[1]).toMatchObject({ delivery: 'pending' })
  })

  it('keeps a refused message with its reason until it is sent again or given up', () => {
    const t = new Timeline('me')
    t.compose(draft('c1'))
    t.refuse('c1', 'no')
    expect(t.entries[0]).toMatchObject({ delivery: 'failed', reason: 'no' })
    t.revive('c1')
    expect(t.entries[0]).toMatchObject({ delivery: 'pending', reason: null })
    t.discard('c1')
    expect(t.entries).toEqual([])
  })

  it('forgets the oldest beyond a limit, and knows that it did', () => {
    const t = new Timeline('me')
    for (let seq = 1; seq <= 100; seq += 1) t.receive(arrival(seq, 'bob'))
    t.reachedStart = true
    t.trim(10)
    expect(t.entries).toHaveLength(10)
    expect([t.lowest, t.reachedStart, t.head]).toEqual([91, false, 100])
  })
})

describe('changes of a message', () => {
  it('count in the order of their numbers, not of their arrival', () => {
    const t = new Timeline('me')
    t.receive(arrival(4, 'bob', { kind: 'edit', target: 1, text: 'second' }))
    t.receive(arrival(3, 'bob', { kind: 'edit', target: 1, text: 'first' }))
    t.receive(arrival(1, 'bob'))
    expect(t.entries[0]).toMatchObject({ text: 'second', edited: true })
  })

  it('by somebody else are no edits', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    t.receive(arrival(2, 'mallory', { kind: 'edit', target: 1, text: 'lies' }))
    expect(t.entries[0]).toMatchObject({ text: 'text 1', edited: false })
  })

  it('leave nothing of a message that was withdrawn, whatever comes after', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    t.receive(arrival(2, 'carol', { kind: 'react', target: 1, text: '👍' }))
    t.receive(arrival(3, 'bob', { kind: 'recall', target: 1, text: '' }))
    t.receive(arrival(4, 'bob', { kind: 'edit', target: 1, text: 'again' }))
    expect(t.entries[0]).toMatchObject({ text: '', recalled: true, reactions: [] })
  })

  it('are one reaction for each person, the last one; an empty one takes it back', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    const react = (seq: number, from: string, text: string) => t.receive(arrival(seq, from, { kind: 'react', target: 1, text }))
    react(2, 'bob', '👍')
    react(3, 'carol', '👍')
    react(4, 'bob', '🎉')
    expect(t.entries[0]?.reactions).toEqual([
      { emoji: '👍', users: ['carol'] },
      { emoji: '🎉', users: ['bob'] },
    ])
    react(5, 'carol', '')
    expect(t.entries[0]?.reactions).toEqual([{ emoji: '🎉', users: ['bob'] }])
  })

  it('that history has reflected already do not count twice, and later ones do', () => {
    const t = new Timeline('me')
    t.receive(arrival(3, 'bob', { kind: 'edit', target: 1, text: 'old edit' }))
    t.receive(arrival(6, 'bob', { kind: 'edit', target: 1, text: 'live edit' }))
    t.receive(arrival(1, 'bob', { became: { shape: { ...plain('edit 5'), edited: true }, upTo: 5 } }))
    expect(t.entries[0]).toMatchObject({ text: 'live edit', edited: true })
    t.receive(arrival(1, 'bob', { became: { shape: { ...plain('edit 7'), edited: true }, upTo: 7 } }))
    expect(t.entries[0]).toMatchObject({ text: 'edit 7' })
  })

  it('of our own show at once, and go when they are refused', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'me'))
    t.compose(draft('c1', 'better', { kind: 'edit', target: 1 }))
    expect(texts(t)).toEqual(['better'])
    t.refuse('c1', 'no')
    expect(texts(t)).toEqual(['text 1'])
    t.compose(draft('c2', '👍', { kind: 'react', target: 1 }))
    t.acknowledge('c2', stamp(2))
    t.receive(arrival(2, 'me', { kind: 'react', target: 1, text: '👍', cid: 'c2' }))
    expect(t.entries[0]?.reactions).toEqual([{ emoji: '👍', users: ['me'] }])
  })
})

it('takes ten thousand messages in a moment, backwards, too', () => {
  const t = new Timeline('me')
  for (let seq = 5001; seq <= 10_000; seq += 1) t.receive(arrival(seq, 'bob'))
  for (let seq = 5000; seq >= 1; seq -= 1) t.receive(arrival(seq, 'bob'))
  expect(t.entries).toHaveLength(10_000)
  expect(t.hole).toBeNull()
})

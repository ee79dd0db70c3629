import { describe, expect, it } from 'vitest'
import { MAX_ENTRIES, Timeline, type Arrival } from './timeline'

const arrival = (seq: number | null, from: string, more: Partial<Arrival> = {}): Arrival => ({
  ...{ seq, from, id: seq === null ? null : `id-${seq}`, ts: seq, cid: null, text: `text ${seq}` },
  ...more,
})
const stamp = (seq: number) => ({ seq, id: `id-${seq}`, ts: seq })
const seqs = (t: Timeline) => t.entries.map((e) => e.seq)

describe('Timeline', () => {
  it('orders messages by seq, whatever order they arrive in, and shows each once', () => {
    const t = new Timeline('me')
    for (const seq of [3, 1, 2, 3, 1]) t.receive(arrival(seq, 'bob'))
    expect(seqs(t)).toEqual([1, 2, 3])
    expect(t.lastDelivered).toBe(3)
  })

  it('shows an own message at once and turns it into sent when it is acknowledged', () => {
    const t = new Timeline('me')
    t.compose('c1', 'hello', 5)
    expect(t.entries[0]).toMatchObject({ mine: true, delivery: 'pending', seq: null })
    t.acknowledge('c1', stamp(4))
    expect(t.entries[0]).toMatchObject({ delivery: 'sent', seq: 4, text: 'hello' })
    expect(t.unsent).toEqual([])
  })

  it('does not count an acknowledged number as delivered, so that a resume leaves no hole', () => {
    const t = new Timeline('me')
    t.receive(arrival(1, 'bob'))
    t.compose('c1', 'hello', 5)
    t.acknowledge('c1', stamp(3))
    expect(t.lastDelivered).toBe(1)
    t.receive(arrival(2, 'bob'))
    t.receive(arrival(3, 'me', { cid: 'c1' }))
    expect(seqs(t)).toEqual([1, 2, 3])
    expect(t.lastDelivered).toBe(3)
  })

  it.each([
    ['before its acknowledgement, with cid', 'c1', true],
    ['after its acknowledgement, with cid', 'c1', false],
    ['before its acknowledgement, without cid', null, true],
    ['after its acknowledgement, without cid', null, false],
  ])('shows an own message once if it comes back %s', (_, cid, echoFirst) => {
    const t = new Timeline('me')
    t.compose('c1', 'hello', 5)
    const steps = [
      () => t.receive(arrival(7, 'me', { cid, text: 'hello' })),
      () => t.acknowledge('c1', stamp(7)),
    ]
    for (const step of echoFirst ? steps : steps.reverse()) step()
    expect(t.entries).toHaveLength(1)
    expect(t.entries[0]).toMatchObject({ seq: 7, delivery: 'sent', mine: true })
    expect(t.unsent).toEqual([])
  })

  it('keeps messages that wait behind those with a number, in the order written', () => {
    const t = new Timeline('me')
    t.compose('c1', 'first', 1)
    t.compose('c2', 'second', 2)
    t.receive(arrival(9, 'bob'))
    expect(t.entries.map((e) => e.text)).toEqual(['text 9', 'first', 'second'])
    expect(t.unsent.map((e) => e.cid)).toEqual(['c1', 'c2'])
  })

  it('takes cid only from own messages, so that nobody can confirm those of others', () => {
    const t = new Timeline('me')
    t.compose('c1', 'hello', 1)
    t.receive(arrival(2, 'mallory', { cid: 'c1' }))
    expect(t.entries).toHaveLength(2)
    expect(t.unsent).toHaveLength(1)
  })

  it('keeps a refused message with its reason until it is sent again', () => {
    const t = new Timeline('me')
    t.compose('c1', 'hello', 1)
    t.refuse('c1', 'no')
    expect(t.entries[0]).toMatchObject({ delivery: 'failed', reason: 'no' })
    expect(t.unsent).toEqual([])
    t.revive('c1')
    expect(t.unsent.map((e) => e.cid)).toEqual(['c1'])
  })

  it('begins anew when a number comes back with another identity', () => {
    const t = new Timeline('me')
    for (const seq of [1, 2, 3]) t.receive(arrival(seq, 'bob'))
    t.receive(arrival(2, 'bob', { id: 'other', text: 'new life' }))
    expect(t.entries.map((e) => e.text)).toEqual(['new life'])
    expect(t.lastDelivered).toBe(2)
  })

  it('shows messages without numbers in the order of their arrival', () => {
    const t = new Timeline('me')
    for (const text of ['a', 'b', 'c']) t.receive(arrival(null, 'bob', { text }))
    expect(t.entries.map((e) => e.text)).toEqual(['a', 'b', 'c'])
  })

  it('forgets the oldest messages beyond its bound, but none that waits', () => {
    const t = new Timeline('me')
    t.compose('c1', 'waiting', 1)
    for (let seq = 1; seq <= MAX_ENTRIES + 10; seq += 1) t.receive(arrival(seq, 'bob'))
    expect(t.entries.length).toBeLessThanOrEqual(MAX_ENTRIES)
    expect(t.unsent).toHaveLength(1)
    expect(t.entries.at(-2)?.seq).toBe(MAX_ENTRIES + 10)
  })
})

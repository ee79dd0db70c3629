import { describe, expect, it } from 'vitest'
import { around, atEnd, backwards, following, forwards, shifted } from './window'

const size = ({ start, end }: { start: number; end: number }) => end - start

describe('the part of a list that is in the page', () => {
  it('stays small, however long the list is and wherever one scrolls', () => {
    let frame = atEnd(10_000)
    for (let i = 0; i < 300; i += 1) {
      frame = backwards(frame)
      expect(size(frame)).toBeLessThanOrEqual(220)
    }
    expect(frame.start).toBe(0)
    for (let i = 0; i < 300; i += 1) frame = forwards(frame, 10_000)
    expect(frame.end).toBe(10_000)
    expect(size(frame)).toBeLessThanOrEqual(220)
  })

  it('follows the end without a jump for each message', () => {
    let frame = atEnd(100)
    const starts = new Set<number>()
    for (let length = 101; length <= 400; length += 1) {
      frame = following(frame, length)
      expect(frame.end).toBe(length)
      starts.add(frame.start)
    }
    expect(starts.size).toBeLessThan(6)
  })

  it('shows a list that is short as a whole', () => {
    expect(atEnd(3)).toEqual({ start: 0, end: 3 })
    expect(following({ start: 0, end: 0 }, 3)).toEqual({ start: 0, end: 3 })
    expect(around(1, 3)).toEqual({ start: 0, end: 3 })
  })

  it('is over the same entries when older ones came in before', () => {
    expect(shifted({ start: 5, end: 20 }, 60, 200)).toEqual({ start: 65, end: 80 })
    expect(shifted({ start: 5, end: 20 }, -10, 15)).toEqual({ start: 0, end: 10 })
  })
})

import { describe, expect, it } from 'vitest'
import { arrivalFromJson, property, stampOf, textOf, whole } from './arrival'
import { later } from './cursor'

const EPOCH = '00000000000000ab'

describe('cursors', () => {
  it('only move on within a journal, and follow into a new one', () => {
    expect(later(null, `${EPOCH}-5`)).toBe(`${EPOCH}-5`)
    expect(later(`${EPOCH}-10`, `${EPOCH}-9`)).toBe(`${EPOCH}-10`)
    expect(later(`${EPOCH}-9`, `${EPOCH}-10`)).toBe(`${EPOCH}-10`)
    expect(later(`${EPOCH}-9`, '00000000000000ac-1')).toBe('00000000000000ac-1')
  })

  it('of more than 2^53 are compared exactly', () => {
    expect(later(`${EPOCH}-9007199254740993`, `${EPOCH}-9007199254740992`)).toBe(`${EPOCH}-9007199254740993`)
  })
})

describe('what the broker says', () => {
  it('counts from the end, because that is where the broker adds it', () => {
    expect(property({ from: ['mallory', 'alice'] }, 'from')).toBe('alice')
    expect(stampOf({ seq: ['1', '7'], id: 'x', ts: '5' })).toEqual({ seq: 7, id: 'x', ts: 5 })
    expect(stampOf({ seq: '-1', ts: 'soon' })).toEqual({ seq: null, id: null, ts: null })
  })

  it('comes in JSON, too', () => {
    const json = { topic: 'chat/a/b', from: 'b', seq: 3, id: 'chat/a/3', ts: 9, payload: 'hé', cursor: 'c' }
    expect(arrivalFromJson(json)).toMatchObject({ topic: 'chat/a/b', text: 'hé', size: 3, seq: 3, cursor: 'c' })
    expect(arrivalFromJson({ topic: 'chat/a/b', payload_base64: '/wAA' })).toMatchObject({ text: null, size: 3 })
    expect(arrivalFromJson({ payload: 'x' })).toBeNull()
    expect(arrivalFromJson('x')).toBeNull()
  })

  it('is no text unless it is UTF-8', () => {
    expect(textOf(new Uint8Array([0x68, 0x69]))).toBe('hi')
    expect(textOf(new Uint8Array([0xff]))).toBeNull()
  })

  it('is no number unless it is a whole one that is exact', () => {
    expect([whole('7'), whole(7), whole('x'), whole(1.5), whole(-1), whole(2 ** 53), whole(null)]).toEqual([7, 7, null, null, null, null, null])
  })
})

import { describe, expect, it } from 'vitest'
import { language } from '../i18n'
import { bytes, duration, micros, number } from './format'
import { sum } from './api'
import { areaOf, linePath, topOf } from './plot'
import { TABLES } from './words'

describe('the words of administration', () => {
  it('are there in both languages, with the same values', () => {
    const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort()
    expect(Object.keys(TABLES.zh).sort()).toEqual(Object.keys(TABLES.en).sort())
    for (const key of Object.keys(TABLES.en) as (keyof typeof TABLES.en)[]) {
      expect(names(TABLES.zh[key]), key).toEqual(names(TABLES.en[key]))
      expect(TABLES.zh[key].trim(), key).not.toBe('')
    }
  })
})

describe('numbers', () => {
  it('are short', () => {
    language.value = 'en'
    expect([number(3.14159), number(1234), number(1_234_567)]).toEqual(['3.1', '1,234', '1M'])
    expect([bytes(0), bytes(1536), bytes(5 * 1024 ** 3)]).toEqual(['0 B', '1.5 KiB', '5 GiB'])
    expect([micros(250), micros(3500), micros(2_000_000)]).toEqual(['250 µs', '3.5 ms', '2 s'])
    expect([duration(0), duration(59), duration(3700), duration(90_000)]).toEqual(['0 s', '59 s', '1 h 1 min', '1 d 1 h'])
    expect([sum(3), sum({ a: 1, b: 2 }), sum(undefined)]).toEqual([3, 3, 0])
  })
})

describe('plots', () => {
  it('end at a round number above all values', () => {
    expect([topOf([]), topOf([0.2]), topOf([7, 3]), topOf([101]), topOf([1200])]).toEqual([1, 1, 10, 200, 2000])
  })

  it('leave out what was not measured', () => {
    const box = areaOf(100, 50)
    expect(linePath([1, null, 1, 0], 4, 1, box)).toBe('M0 0h0M66.7 0L100 50')
    expect(linePath([], 4, 1, box)).toBe('')
    // What is newest is at the right, however little there is.
    expect(linePath([1, 0], 4, 1, box)).toBe('M66.7 0L100 50')
  })
})

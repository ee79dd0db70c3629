import { describe, expect, it } from 'vitest'
import { TABLES, count, detect, fill, language, t } from '.'

describe('the tables of words', () => {
  const { en, ...others } = TABLES

  it('have the same keys', () => {
    for (const table of Object.values(others)) expect(Object.keys(table).sort()).toEqual(Object.keys(en).sort())
  })

  it('have the same values to fill in, and no empty text', () => {
    const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort()
    for (const table of Object.values(others)) {
      for (const [key, text] of Object.entries(table)) {
        expect(text.trim(), key).not.toBe('')
        expect(names(text), key).toEqual(names(en[key as keyof typeof en]))
      }
    }
  })

  it('have both forms of every number', () => {
    for (const table of Object.values(TABLES)) {
      for (const key of Object.keys(table).filter((word) => word.endsWith('_other'))) {
        expect(Object.keys(table)).toContain(key.replace(/_other$/, '_one'))
      }
    }
  })
})

describe('words', () => {
  it('are those of the browser until another language is chosen', () => {
    expect(detect(['fr-FR', 'zh-Hans-CN', 'en'])).toBe('zh')
    expect(detect(['EN-gb'])).toBe('en')
    expect(detect(['fr'])).toBe('en')
    language.value = 'zh'
    expect(count('unread', 3)).toBe('3 条未读消息')
    language.value = 'en'
    expect([count('unread', 1), count('unread', 0)]).toEqual(['1 unread message', '0 unread messages'])
    expect(t('edit')).toBe('Edit')
  })

  it('take values as text, whatever stands in them', () => {
    expect(fill('{a} and {b}', { a: '{b}', b: '$&' })).toBe('{b} and $&')
    expect(fill('{a} {constructor}', { a: '' })).toBe(' {constructor}')
  })
})

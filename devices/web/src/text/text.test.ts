import { describe, expect, it } from 'vitest'
import { hue, initials } from './hue'
import { segmentsOf } from './segments'

const links = (text: string) => segmentsOf(text).flatMap((s) => (s.kind === 'link' ? [s.href] : []))
const whole = (text: string) => segmentsOf(text).map((s) => s.text).join('')

describe('segmentsOf', () => {
  it('loses and adds nothing', () => {
    for (const text of ['', 'plain', 'see https://a.example/x?y=1#z, ok?', '@bob, @carol: hi', '<b>https://a.example</b>', '\u202e@x\n\nhttps://']) {
      expect(whole(text)).toBe(text)
    }
  })

  it('makes links of web addresses only', () => {
    expect(links('https://a.example/path?q=1 and http://b.example:8080')).toEqual(['https://a.example/path?q=1', 'http://b.example:8080/'])
    for (const text of ['javascript:alert(1)', 'data:text/html,x', 'file:///etc', 'ftp://a.example', 'https://', 'xhttps:', '//a.example']) {
      expect(links(text), text).toEqual([])
    }
  })

  it('makes no link that hides where it goes', () => {
    expect(links('https://bank.example@evil.example/')).toEqual([])
    expect(links('https://user:pass@evil.example/')).toEqual([])
  })

  it('leaves the punctuation of the sentence out', () => {
    expect(links('(see https://a.example/x_(y)).')).toEqual(['https://a.example/x_(y)'])
    expect(links('https://a.example/x。')).toEqual(['https://a.example/x'])
    expect(links('"https://a.example/x"')).toEqual(['https://a.example/x'])
  })

  it('finds who is mentioned', () => {
    const users = segmentsOf('@bob, mail a@b.example, @小明 and @x.').flatMap((s) => (s.kind === 'mention' ? [s.user] : []))
    expect(users).toEqual(['bob', '小明', 'x'])
  })

  it('stays quick and bounded with text that is made to be slow', () => {
    expect(segmentsOf('@a '.repeat(50_000)).length).toBeLessThan(300)
    expect(whole(`https://${'('.repeat(20_000)}${')'.repeat(20_000)}`)).toHaveLength(40_008)
  })
})

describe('names as discs', () => {
  it('are the same everywhere, and of whole characters', () => {
    expect(hue('alice')).toBe(hue('alice'))
    expect(initials('alice')).toBe('A')
    expect(initials('The Cellar')).toBe('TC')
    expect(initials('👩‍👧 family')).toBe('👩‍👧F')
    expect(initials('小明')).toBe('小')
  })
})

import { describe, expect, it } from 'vitest'
import { brokerUrl, historyFilter, nameProblem, readStamp, readTopic, retryDelay, roomFromHash } from './topics'
import { SHOWN_FOR, SIGNAL_EVERY, TypingOthers, TypingSignal, typingSentence } from './typing'

describe('names and topics', () => {
  it('refuses names that are no single topic level', () => {
    for (const bad of ['', 'a/b', 'a+', '#', 'a\0', '$SYS', 'x'.repeat(65)]) expect(nameProblem(bad)).not.toBeNull()
    for (const good of ['alice', 'Zoë', '李', 'a b']) expect(nameProblem(good)).toBeNull()
  })

  it('asks for the last messages first and for the next one after that', () => {
    expect(historyFilter('lobby', 0)).toBe('$replay/last/50/chat/lobby/+')
    expect(historyFilter('lobby', 41)).toBe('$replay/seq/42/chat/lobby/+')
  })

  it('reads only topics of its own room', () => {
    expect(readTopic('chat/lobby/bob', 'lobby')).toEqual({ kind: 'chat', from: 'bob' })
    expect(readTopic('typing/lobby/bob', 'lobby')).toEqual({ kind: 'typing', from: 'bob' })
    for (const other of ['chat/attic/bob', 'chat/lobby/bob/edit/3', 'room/lobby/bob', 'chat/lobby/', 'chat']) {
      expect(readTopic(other, 'lobby')).toBeNull()
    }
  })

  it('reads what the broker says about a message and ignores nonsense', () => {
    expect(readStamp({ seq: '12', id: 'x', ts: '99' })).toEqual({ seq: 12, id: 'x', ts: 99 })
    expect(readStamp({ seq: ['1', '12'] }).seq).toBe(12)
    expect(readStamp({ seq: '-1', ts: 'soon' })).toEqual({ seq: null, id: null, ts: null })
    expect(readStamp(undefined)).toEqual({ seq: null, id: null, ts: null })
  })

  it('finds the broker where the page came from, unless told otherwise', () => {
    const at = (protocol: string, search = '') => brokerUrl({ protocol, host: 'h:8083', search })
    expect(at('http:')).toBe('ws://h:8083/mqtt')
    expect(at('https:')).toBe('wss://h:8083/mqtt')
    expect(at('http:', '?ws=ws://other:1/mqtt')).toBe('ws://other:1/mqtt')
    expect(at('http:', '?ws=javascript:0')).toBe('ws://h:8083/mqtt')
  })

  it('reads the room from the address, however it is written', () => {
    expect(roomFromHash('#lobby')).toBe('lobby')
    expect(roomFromHash('#Gr%C3%BC%C3%9Fe')).toBe('Grüße')
    expect(roomFromHash('')).toBe('')
    expect(roomFromHash('#%E0%A4%A')).toBe('')
  })

  it('waits longer after each failure, within bounds', () => {
    expect(retryDelay(0, 0)).toBe(375)
    expect(retryDelay(3, 0.5)).toBe(4000)
    expect(retryDelay(1000, 1)).toBe(18_750)
  })
})

describe('typing', () => {
  it('signals at most every two seconds, and at once after a message was sent', () => {
    const signal = new TypingSignal()
    expect(signal.keystroke(0)).toBe(true)
    expect(signal.keystroke(SIGNAL_EVERY - 1)).toBe(false)
    expect(signal.keystroke(SIGNAL_EVERY)).toBe(true)
    signal.reset()
    expect(signal.keystroke(SIGNAL_EVERY + 1)).toBe(true)
  })

  it('shows others for four seconds or until their message arrives', () => {
    const others = new TypingOthers()
    others.seen('bob', 0)
    others.seen('eve', 1000)
    expect(others.names(SHOWN_FOR - 1)).toEqual(['bob', 'eve'])
    expect(others.nextChange()).toBe(SHOWN_FOR)
    expect(others.names(SHOWN_FOR)).toEqual(['eve'])
    others.spoke('eve')
    expect(others.names(SHOWN_FOR)).toEqual([])
    expect(others.nextChange()).toBeNull()
  })

  it('says it in a sentence', () => {
    expect(typingSentence([])).toBe('')
    expect(typingSentence(['a'])).toBe('a is typing…')
    expect(typingSentence(['a', 'b'])).toBe('a and b are typing…')
    expect(typingSentence(['a', 'b', 'c', 'd'])).toBe('a, b and 2 more are typing…')
  })
})

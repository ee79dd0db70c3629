import { describe, expect, it } from 'vitest'
import { LOOK_EVERY, PathChoice } from './choice'

describe('PathChoice', () => {
  it('tries every path at once before it waits', () => {
    const choice = new PathChoice()
    const tried = []
    for (let i = 0; i < 3; i += 1) {
      tried.push(choice.path)
      choice.failed()
      expect(choice.delay(0.5) > 0).toBe(i === 2)
    }
    expect(tried).toEqual(['websocket', 'events', 'poll'])
    expect(choice.path).toBe('websocket')
  })

  it('waits longer and longer, and not for ever', () => {
    const choice = new PathChoice()
    const waits = []
    for (let i = 0; i < 30; i += 1) {
      choice.failed()
      const wait = choice.delay(0.5)
      if (wait > 0) waits.push(wait)
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000, 15_000])
  })

  it('begins with the path that worked last', () => {
    const choice = new PathChoice()
    choice.failed()
    choice.works('events', 0)
    choice.dropped(60_000)
    expect([choice.path, choice.delay(0.5)]).toEqual(['events', 251])
  })

  it('leaves a path that never lasts', () => {
    const choice = new PathChoice()
    choice.works('websocket', 0)
    choice.dropped(100)
    expect(choice.path).toBe('events')
  })

  it('looks for each better path now and then, and for none when there is none', () => {
    const choice = new PathChoice()
    choice.works('poll', 0)
    expect(choice.better(LOOK_EVERY - 1)).toBeNull()
    const looked = [choice.better(LOOK_EVERY), choice.better(2 * LOOK_EVERY)]
    expect(looked.sort()).toEqual(['events', 'websocket'])
    expect(choice.better(2 * LOOK_EVERY + 1)).toBeNull()
    choice.works('websocket', 0)
    expect(choice.better(10 * LOOK_EVERY)).toBeNull()
  })
})

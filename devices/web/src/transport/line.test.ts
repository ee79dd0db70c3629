import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PathChoice } from './choice'
import { Line, type LineListener } from './line'
import type { Listener, Open, Options, Path, Transport } from './transport'

const EPOCH = '00000000000000ab'
const cursor = (offset: number) => `${EPOCH}-${offset}`
const arrival = (seq: number) => ({
  ...{ topic: 'chat/a/bob', from: 'bob', text: `text ${seq}`, size: 1, seq, id: null, ts: 1, cid: null },
  ...{ mentions: [], cursor: cursor(seq), retained: false },
})

/** A connection that does what the test says. */
interface Fake extends Transport {
  options: Options
  listener: Listener
  isClosed: boolean
}

function setUp(blocked: Set<Path> = new Set()) {
  const opened: Fake[] = []
  const opener =
    (path: Path): Open =>
    (options, listener) => {
      const fake: Fake = {
        ...{ path, options, listener, isClosed: false },
        publish: () => Promise.resolve({ seq: null, id: null, ts: null }),
        whisper: () => undefined,
        ask: () => Promise.resolve({}),
        listenTo: () => undefined,
        close: () => (fake.isClosed = true),
      }
      opened.push(fake)
      setTimeout(() => (blocked.has(path) ? listener.lost('blocked', false) : fake.isClosed || listener.online()), 1)
      return fake
    }
  const got: number[] = []
  const heard = { online: 0, resets: 0, denied: '' }
  const listener: LineListener = {
    online: () => (heard.online += 1),
    offline: () => undefined,
    arrived: ({ seq }) => got.push(seq ?? 0),
    reset: () => (heard.resets += 1),
    denied: (why) => (heard.denied = why),
  }
  const open = { websocket: opener('websocket'), events: opener('events'), poll: opener('poll') }
  const line = new Line(open, { user: 'me', token: null }, listener, new PathChoice())
  line.start([])
  return { line, opened, got, heard, last: () => opened.at(-1) as Fake }
}

const handlers = new Map<string, () => void>()

beforeEach(() => {
  vi.useFakeTimers()
  const target = { addEventListener: (name: string, handle: () => void) => handlers.set(name, handle), removeEventListener: () => undefined }
  vi.stubGlobal('window', { ...target, setTimeout, setInterval })
  vi.stubGlobal('document', { ...target, visibilityState: 'visible' })
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

describe('Line', () => {
  it('takes the best path that lets it through, at once', () => {
    const { line, opened } = setUp(new Set<Path>(['websocket', 'events']))
    vi.advanceTimersByTime(10)
    expect(opened.map(({ path }) => path)).toEqual(['websocket', 'events', 'poll'])
    expect([line.view.state, line.view.path]).toEqual(['online', 'poll'])
    line.close()
  })

  it('goes on from the last position on another path', () => {
    const blocked = new Set<Path>()
    const { line, got, last, opened } = setUp(blocked)
    vi.advanceTimersByTime(10)
    for (const seq of [1, 2, 3]) last().listener.arrived(arrival(seq))
    blocked.add('websocket')
    vi.advanceTimersByTime(10_000)
    last().listener.lost('cut', false)
    vi.advanceTimersByTime(1000)
    expect(last().path).toBe('events')
    expect(last().options.cursor).toBe(cursor(3))
    expect(opened[0]?.options.cursor).toBeNull()
    expect(got).toEqual([1, 2, 3])
    line.close()
  })

  it('comes back to a better path without an interruption', () => {
    const blocked = new Set<Path>(['websocket'])
    const { line, last, opened, got } = setUp(blocked)
    vi.advanceTimersByTime(10)
    const events = last()
    expect(events.path).toBe('events')
    blocked.clear()
    vi.advanceTimersByTime(64_000)
    expect(events.isClosed).toBe(false)
    vi.advanceTimersByTime(5000)
    expect([line.view.path, events.isClosed, opened.length]).toEqual(['websocket', true, 3])
    // What a connection that was given up still has to say is of no interest.
    events.listener.arrived(arrival(9))
    events.listener.lost('late', true)
    expect([got, line.view.state]).toEqual([[], 'online'])
    line.close()
  })

  it('is not disturbed by a better path that is still closed', () => {
    const { line, last, opened } = setUp(new Set<Path>(['websocket']))
    vi.advanceTimersByTime(10)
    const events = opened[1] as Fake
    vi.advanceTimersByTime(200_000)
    expect(opened.length).toBeGreaterThan(3)
    expect(last().path).toBe('websocket')
    expect([line.view.state, line.view.path, events.isClosed]).toEqual(['online', 'events', false])
    line.close()
  })

  it('connects anew after sleep, from where it was', () => {
    const { line, last, opened } = setUp()
    vi.advanceTimersByTime(10)
    const before = last()
    before.listener.arrived(arrival(7))
    // Timers stand still while a machine sleeps, and the clock does not.
    vi.setSystemTime(Date.now() + 3_600_000)
    vi.advanceTimersByTime(5010)
    expect([before.isClosed, opened.length, last().options.cursor]).toEqual([true, 2, cursor(7)])
    line.close()
  })

  it('waits longer and longer where nothing works, and tries at once when the network is back', () => {
    const blocked = new Set<Path>(['websocket', 'events', 'poll'])
    const { line, opened } = setUp(blocked)
    vi.advanceTimersByTime(60_000)
    const tries = opened.length / 3
    expect(tries).toBeGreaterThan(4)
    expect(tries).toBeLessThan(14)
    expect(line.view.state).toBe('offline')
    blocked.clear()
    handlers.get('online')?.()
    vi.advanceTimersByTime(10)
    expect(line.view.state).toBe('online')
    line.close()
  })

  it('begins anew, and says so, when its position is of another journal', () => {
    const { line, last, heard } = setUp()
    vi.advanceTimersByTime(10)
    last().listener.arrived(arrival(7))
    last().listener.reset('another journal')
    last().listener.positioned('00000000000000cd-1')
    vi.advanceTimersByTime(10_000)
    last().listener.lost('cut', false)
    vi.advanceTimersByTime(1000)
    expect([heard.resets, last().options.cursor]).toEqual([1, '00000000000000cd-1'])
    line.close()
  })

  it('ends where the credentials do not count', () => {
    const { line, last, opened, heard } = setUp()
    vi.advanceTimersByTime(10)
    last().listener.lost('banned', true)
    vi.advanceTimersByTime(60_000)
    expect([heard.denied, opened.length]).toEqual(['banned', 1])
    line.close()
  })
})

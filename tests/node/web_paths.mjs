// The web chat where paths are blocked: it falls back from WebSocket to a stream of events, then to
// long polling, comes back, and loses nothing of what is said meanwhile, nor shows it twice.
//
//   node web_paths.mjs http://127.0.0.1:8083/ ../../target/test-artifacts

import assert from 'node:assert/strict'
import mqtt from 'mqtt'
import { DEADLINE_MS, assertRising, step, withBrowser } from './browser.mjs'
import { openGate } from './gate.mjs'

const [url, folder] = process.argv.slice(2)
const gate = await openGate(url)

/** Somebody outside of any browser, who counts aloud and hears all. */
const walker = await mqtt.connectAsync(url.replace('http', 'ws') + 'mqtt', { protocolVersion: 5, username: 'walker', reconnectPeriod: 0 })
const heard = []
walker.on('message', (topic, payload) => topic === 'chat/road/bob' && heard.push(payload.toString()))
await walker.subscribeAsync('chat/#', { qos: 1 })
let counted = 0
let counting = true
const count = (async () => {
  while (counting) {
    counted += 1
    await walker.publishAsync('chat/road/walker', `step ${counted}`, { qos: 1 })
    await new Promise((resolve) => setTimeout(resolve, 60))
  }
})()

await withBrowser(async (visit) => {
  const bob = await visit(`${gate.url}?look=2`, 'bob')
  await bob.goTo('road')
  const said = []
  const say = async (text) => {
    said.push(text)
    await bob.say(text)
    await bob.page.locator('[data-testid=message][data-from=bob][data-delivery=sent]').filter({ hasText: text }).waitFor()
  }
  /** Everything that was counted until now has come. */
  const keepsUp = () => {
    const text = `step ${counted}`
    return bob.page.getByTestId('message').filter({ has: bob.page.getByText(text, { exact: true }) }).waitFor()
  }

  await step('WebSocket is the first choice', async () => {
    await bob.online('websocket')
    await say('by websocket')
    await keepsUp()
  })
  await step('without it, events come as a stream, and what is sent is posted', async () => {
    gate.close('/mqtt')
    await bob.online('events')
    await say('by events')
    await keepsUp()
    await bob.shot(`${folder}/web-path-events.png`)
  })
  await step('without that, the page asks again and again', async () => {
    gate.close('/v1/events')
    await bob.online('poll')
    await say('by polling')
    await keepsUp()
    await bob.shot(`${folder}/web-path-poll.png`)
  })
  await step('without anything, what is written waits', async () => {
    gate.close('/')
    await bob.page.locator('[data-testid=state][data-state=offline]').waitFor()
    await bob.say('written offline')
    said.push('written offline')
    await bob.page.locator('[data-testid=message][data-delivery=pending]').waitFor()
    await bob.shot(`${folder}/web-path-none.png`)
  })
  await step('what opens again is used again, the better first', async () => {
    gate.reopen('/')
    await bob.online('poll')
    await bob.page.locator('[data-testid=message][data-delivery=sent]').filter({ hasText: 'written offline' }).waitFor()
    gate.reopen('/v1/events')
    await bob.online('events')
    gate.reopen('/mqtt')
    await bob.online('websocket')
    await say('by websocket again')
  })
  await step('nothing is missing, and nothing is there twice', async () => {
    counting = false
    await count
    await keepsUp()
    // All of it: what does not fit into the page at once comes in by scrolling.
    const seen = new Map()
    const note = async () => {
      for (const row of await bob.page.locator('[data-testid=message]').evaluateAll((rows) => rows.map((row) => [row.dataset.seq, row.querySelector('[data-testid=text]').textContent]))) {
        assert.ok(!seen.has(row[0]) || seen.get(row[0]) === row[1], 'a number is one message')
        seen.set(row[0], row[1])
      }
    }
    await note()
    while (![...seen.values()].includes('step 1')) {
      await bob.page.locator('.messages').evaluate((box) => (box.scrollTop = 0))
      await bob.page.waitForTimeout(100)
      await note()
    }
    const ordered = [...seen].sort((a, b) => a[0] - b[0]).map(([, text]) => text)
    const numbers = assertRising(ordered, 'step ')
    assert.deepEqual([numbers[0], numbers.at(-1)], [1, counted])
    assert.deepEqual(ordered.filter((text) => !text.startsWith('step ')), said)
    const until = Date.now() + DEADLINE_MS
    while (heard.length < said.length && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50))
    assert.deepEqual(heard, said, 'others heard each thing once, in order')
  })
})

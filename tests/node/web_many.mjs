// A room of ten thousand messages: it opens as fast as any, one can go back to its beginning, the page
// holds only a part of it, and a flood does not drown it.
//
//   node web_many.mjs http://127.0.0.1:8083/

import assert from 'node:assert/strict'
import mqtt from 'mqtt'
import { step, withBrowser } from './browser.mjs'

const [url] = process.argv.slice(2)
const MANY = 10_000
const FLOOD = 2000

const walker = await mqtt.connectAsync(url.replace('http', 'ws') + 'mqtt', { protocolVersion: 5, username: 'walker', reconnectPeriod: 0 })
const write = async (from, to) => {
  for (let i = from; i <= to; i += 100) {
    await Promise.all(Array.from({ length: Math.min(100, to - i + 1) }, (_, k) => walker.publishAsync('chat/archive/walker', `step ${i + k}`, { qos: 1 })))
  }
}
await write(1, MANY)

await withBrowser(async (visit) => {
  const bob = await visit(url, 'bob')
  const rows = () => bob.at('message').count()
  const shows = (n) => bob.page.getByTestId('text').getByText(`step ${n}`, { exact: true }).waitFor()

  await step('its end is there at once', async () => {
    await bob.goTo('archive')
    await shows(MANY)
    assert.ok((await rows()) < 250)
  })
  await step('scrolling back comes to its beginning, without a hole', async () => {
    let lowest = MANY + 1
    let mark = MANY - 2500
    for (let i = 0; lowest > 1; i += 1) {
      assert.ok(i < 3000, `stuck at ${lowest}`)
      const numbers = await bob.page.evaluate(async () => {
        const box = document.querySelector('.messages')
        box.scrollTop = 0
        await new Promise((resolve) => setTimeout(resolve, 20))
        return [...box.querySelectorAll('[data-testid=message]')].map((row) => Number(row.dataset.seq))
      })
      for (let at = 1; at < numbers.length; at += 1) assert.equal(numbers[at], numbers[at - 1] + 1)
      assert.ok(numbers.length < 250, `${numbers.length} messages in the page`)
      assert.ok(numbers.at(-1) >= lowest - 1, 'the parts touch')
      lowest = Math.min(lowest, numbers[0])
      // Progress, for who waits.
      if (lowest <= mark) {
        console.log(`back at ${mark}`)
        mark -= 2500
      }
    }
    await bob.at('beginning').waitFor()
  })
  await step('and a jump leads back to the end', async () => {
    await bob.at('jump').click()
    await shows(MANY)
  })
  await step('a flood is shown to its last message, in a page that stays small', async () => {
    await write(MANY + 1, MANY + FLOOD)
    await shows(MANY + FLOOD)
    assert.ok((await rows()) < 250)
    await bob.say('I am still here')
    await bob.sees('I am still here')
  })
})

// What mosquitto_pub says in a room is read by an EventSource in Chromium, with the same number and
// the same bytes; and what the page posts is read by mosquitto_sub.
//
//   node web_events.mjs http://127.0.0.1:8083/ ../../target/test-artifacts 1883

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { step, withBrowser } from './browser.mjs'

const [url, , port] = process.argv.slice(2)
const run = promisify(execFile)
const shell = (user) => ['-h', '127.0.0.1', '-p', port, '-V', '5', '-u', user]

/** Text of several scripts, and bytes that are no text. */
const WORDS = 'grüß dich, 你好, مرحبا 👋 "quoted" \\ and a tab\there'
const BYTES = Buffer.from([0, 1, 2, 0xff, 0xfe, 0x0a, 0x80])

await withBrowser(async (visit) => {
  const bob = await visit(url, 'bob')
  const token = await bob.page.evaluate(() => JSON.parse(sessionStorage.getItem('tidings.session')).token)
  await bob.page.evaluate((shown) => {
    globalThis.got = []
    globalThis.source = new EventSource(`/v1/events?filter=chat%2F%23&token=${encodeURIComponent(shown)}`)
    source.onmessage = ({ data, lastEventId }) => got.push({ ...JSON.parse(data), lastEventId })
    return new Promise((resolve) => (source.onopen = () => resolve()))
  }, token)
  const listening = spawn('stdbuf', ['-oL', 'mosquitto_sub', ...shell('carol'), '-t', 'chat/square/+', '-F', '%t %p %P', '-d'])
  const lines = []
  createInterface({ input: listening.stdout }).on('line', (line) => lines.push(line))
  const heard = async (fits) => {
    while (!lines.some(fits)) await new Promise((resolve) => setTimeout(resolve, 20))
    return lines.find(fits)
  }
  await heard((line) => line.startsWith('Subscribed'))

  await step('the shell speaks, an EventSource reads the same number and the same bytes', async () => {
    await run('mosquitto_pub', [...shell('alice'), '-q', '1', '-t', 'chat/square/alice', '-m', WORDS])
    const told = await heard((line) => line.startsWith('chat/square/alice'))
    const sent = run('mosquitto_pub', [...shell('alice'), '-q', '1', '-t', 'chat/square/alice', '-s'])
    sent.child.stdin.end(BYTES)
    await sent
    await bob.until(() => got.length === 2)
    const [words, bytes] = await bob.page.evaluate(() => got)
    assert.equal(words.payload, WORDS)
    assert.deepEqual(Buffer.from(bytes.payload_base64, 'base64'), BYTES)
    assert.deepEqual([words.from, words.seq, bytes.seq], ['alice', 1, 2])
    assert.ok(told.includes(`seq:${words.seq}`) && told.includes(`id:${words.id}`), told)
    assert.equal(words.cursor, words.lastEventId, 'the id of an event is the cursor')
  })
  await step('what the page posts is heard in the shell, with the same number', async () => {
    const receipt = await bob.page.evaluate(async ([shown, text]) => {
      const response = await fetch('/v1/rooms/square/messages', {
        method: 'POST',
        headers: { Authorization: `Bearer ${shown}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ text }),
      })
      return response.json()
    }, [token, WORDS])
    const line = await heard((one) => one.startsWith('chat/square/bob'))
    assert.ok(line.includes(WORDS) && line.includes(`seq:${receipt.seq}`), line)
    await bob.until((seq) => got.some((one) => one.seq === seq && one.from === 'bob'), receipt.seq)
  })
  await step('an EventSource that comes back goes on where it was', async () => {
    const last = await bob.page.evaluate(() => {
      source.close()
      return got.at(-1).lastEventId
    })
    await run('mosquitto_pub', [...shell('alice'), '-q', '1', '-t', 'chat/square/alice', '-m', 'meanwhile'])
    const next = await bob.page.evaluate(([shown, since]) => {
      globalThis.source = new EventSource(`/v1/events?filter=chat%2F%23&since=${since}&token=${encodeURIComponent(shown)}`)
      return new Promise((resolve) => (source.onmessage = ({ data }) => resolve(JSON.parse(data))))
    }, [token, last])
    assert.deepEqual([next.payload, next.seq], ['meanwhile', 4])
  })
  listening.kill()
})

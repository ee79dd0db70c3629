// An EventSource in a page of the broker: signs in, says when the stream is open or broken, and writes each
// message with its id, until the standard input ends. Each line of it is said in the lobby by the page.

import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const base = process.argv[2]
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // Chromium's sandbox does not work for root, which is what a container runs as.
  chromiumSandbox: process.getuid() !== 0,
  args: ['--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const page = await (await browser.newContext()).newPage()
page.on('console', (message) => console.log(message.text()))
await page.goto(`${base}/v1/docs`)
await page.evaluate(async () => {
  const headers = { 'Content-Type': 'application/json' }
  const answer = await fetch('/v1/login', { method: 'POST', headers, body: JSON.stringify({ user: 'alice' }) })
  if (!answer.ok) throw new Error(`login: ${answer.status}`)
  // The cookie is all that it shows.
  const source = new EventSource('/v1/events?filter=chat/%23')
  source.onopen = () => console.log('open')
  source.onerror = () => console.log(source.readyState === EventSource.CONNECTING ? 'broken' : 'given up')
  source.onmessage = ({ lastEventId, data }) => console.log(`message ${lastEventId} ${data}`)
})
for await (const text of createInterface({ input: process.stdin })) {
  await page.evaluate(async (text) => {
    const headers = { 'Content-Type': 'application/json' }
    const body = JSON.stringify({ text })
    const answer = await fetch('/v1/rooms/lobby/messages', { method: 'POST', headers, body })
    console.log(`said ${await answer.text()}`)
  }, text)
}
await browser.close()

// Drives the web chat in Chromium, step by step: one JSON object per line in, one per line out.
//
//   node chat.mjs http://127.0.0.1:8083/
//   {"do":"join","name":"carol","room":"lobby"}
//   {"do":"send","text":"hello"}
//   {"do":"expect","from":"alice","text":"hello"}
//   {"do":"screenshot","path":"/tmp/chat.png"}
//
// Each step is answered by {"done":"..."} when it has happened; a step that does not ends the
// program with the reason.

import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

// A page on a busy machine with two cores; only a failure waits so long.
const DEADLINE_MS = 25_000

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // Chromium's sandbox does not work for root, which is what a container runs as.
  chromiumSandbox: process.getuid() !== 0,
})
const page = await browser.newPage({ viewport: { width: 900, height: 700 } })
page.setDefaultTimeout(DEADLINE_MS)
page.on('pageerror', (error) => console.error(`the page threw: ${error.stack}`))
page.on('console', (message) => console.error(`console: ${message.text()}`))

const online = () => page.locator('[data-testid=state][data-state=online]').waitFor()

const steps = {
  async join({ name, room }) {
    await page.getByTestId('name').fill(name)
    await page.getByTestId('enter').click()
    await online()
    await page.getByTestId('new').first().click()
    await page.getByTestId('room-name').fill(room)
    await page.getByTestId('create').click()
    await page.getByTestId('pane').waitFor()
  },
  async send({ text }) {
    await page.getByTestId('compose').fill(text)
    await page.getByTestId('send').click()
  },
  async expect({ from, text }) {
    await page
      .getByTestId('message-list')
      .locator(`[data-testid=message][data-from=${JSON.stringify(from)}]`)
      .filter({ hasText: text })
      .waitFor()
  },
  async typing({ name }) {
    await page.getByTestId('typing').filter({ hasText: name }).waitFor()
  },
  async online() {
    await online()
  },
  async state({ state }) {
    await page.locator(`[data-testid=state][data-state=${JSON.stringify(state)}]`).waitFor()
  },
  async screenshot({ path }) {
    await page.screenshot({ path })
  },
}

let failed = false
try {
  await page.goto(process.argv[2])
  await page.getByTestId('enter').waitFor()
  console.log(JSON.stringify({ done: 'open' }))
  for await (const line of createInterface({ input: process.stdin })) {
    const step = JSON.parse(line)
    await steps[step.do](step)
    console.log(JSON.stringify({ done: step.do }))
  }
} catch (error) {
  failed = true
  console.error(error.stack)
  const text = await page.locator('body').innerText().catch(() => '(no page)')
  console.error(`the page said:\n${text}`)
}
await browser.close()
process.exit(failed ? 1 : 0)

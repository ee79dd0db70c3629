// The page for administrators, with clients that come, speak and are sent away.
//
//   node web_admin.mjs http://127.0.0.1:8083/ ../../target/test-artifacts 1883
//
// ann has the role admin, ben has not; both have the password "correct horse".

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import mqtt from 'mqtt'
import packets from 'mqtt-packet'
import { audit } from './audit.mjs'
import { DESKTOP, PHONE, Person, step, withBrowser } from './browser.mjs'
import { openGate } from './gate.mjs'

const [url, folder, port] = process.argv.slice(2)
const PASSWORD = 'correct horse'

function client(id, user) {
  const options = { clientId: id, username: user, password: PASSWORD, protocolVersion: 5, reconnectPeriod: 0 }
  return mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, options)
}

/** A client that subscribes, and from then on reads nothing. */
async function sleeper(id, user, topic) {
  const v5 = { protocolVersion: 5 }
  const socket = connect(Number(port), '127.0.0.1')
  const parser = packets.parser(v5)
  const said = new Promise((resolve) => parser.on('packet', ({ cmd }) => cmd === 'suback' && resolve()))
  socket.on('data', (bytes) => parser.parse(bytes))
  socket.write(packets.generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 5, clean: true, clientId: id, username: user, password: PASSWORD, keepalive: 0 }, v5))
  socket.write(packets.generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 1, nl: false, rap: false, rh: 0 }] }, v5))
  await said
  socket.pause()
  return socket
}

/** Somebody at the page for administrators. */
class Admin extends Person {
  async online() {
    await this.at('health').waitFor()
  }

  async go(section) {
    await this.at(`to-${section}`).click()
    await this.at(section).waitFor()
  }
}

const gate = await openGate(url)
await withBrowser(async (visit) => {
  const ann = await visit(`${gate.url}admin`, 'ann', { password: PASSWORD, as: Admin })
  const ben = await client('bens-phone', 'ben')
  const listener = await client('bens-laptop', 'ben')
  await listener.subscribeAsync('chat/lobby/+', { qos: 1 })
  let back = null
  for (let n = 0; n < 20; n += 1) await ben.publishAsync('chat/lobby/ben', `message ${n}`, { qos: 1 })

  await step('who has not the role is told so', async () => {
    const other = await ann.page.context().browser().newContext({ viewport: DESKTOP, locale: 'en-GB' })
    const page = await other.newPage()
    await page.goto(`${url}admin`)
    await page.getByTestId('name').fill('ben')
    await page.getByTestId('enter').click()
    await page.getByTestId('password').fill(PASSWORD)
    await page.getByTestId('enter').click()
    await page.getByText('does not have the role admin').waitFor()
    await other.close()
  })
  await step('figures and plots are drawn', async () => {
    await ann.page.locator('[data-testid=plot] path.drawn[d*=L]').first().waitFor({ state: 'attached' })
    await ann.page.waitForFunction(() => document.querySelector('.tiles dd')?.textContent?.trim() === '2')
    await audit(ann, 'the overview')
    await ann.shot(`${folder}/admin-overview.png`)
  })
  await step('a trace shows what a client does, and the rule that refuses', async () => {
    await ann.go('trace')
    await ann.at('trace-client').fill('bens-phone')
    await ann.at('trace-start').click()
    await ann.at('trace-stop').waitFor()
    // It runs when a packet is seen; until then it may not have begun.
    const seen = ann.at('packet').filter({ hasText: 'chat/lobby/ben' }).first().waitFor()
    let isSeen = false
    seen.then(() => (isSeen = true), () => (isSeen = true))
    while (!isSeen) await ben.publishAsync('chat/lobby/ben', 'again', { qos: 1 })
    await seen
    await ben.publishAsync('chat/lobby/ann', 'forged', { qos: 1 }).catch(() => undefined)
    await ann.at('packet').filter({ hasText: 'chat/{room}/{user}' }).first().waitFor()
    assert.equal(await ann.at('packet').filter({ hasText: 'forged' }).count(), 0)
    await audit(ann, 'a trace')
    await ann.shot(`${folder}/admin-trace.png`)
    await ann.at('trace-stop').click()
  })
  await step('sessions are found, and one is disconnected', async () => {
    await ann.go('sessions')
    await ann.at('search').fill('bens-')
    const phone = ann.page.locator('[data-testid=session][data-client=bens-phone]')
    await phone.waitFor()
    await ann.page.locator('[data-testid=session][data-client=bens-laptop]').waitFor()
    await audit(ann, 'sessions')
    await ann.shot(`${folder}/admin-sessions.png`)
    // By keys alone; and whoever thinks better of it has done nothing.
    const gone = new Promise((resolve) => ben.once('disconnect', resolve))
    await phone.getByTestId('disconnect').focus()
    await ann.page.keyboard.press('Enter')
    await ann.at('disconnect-dialog').waitFor()
    await audit(ann, 'the question before a disconnect')
    await ann.shot(`${folder}/admin-disconnect.png`)
    await ann.page.keyboard.press('Escape')
    await ann.at('disconnect-dialog').waitFor({ state: 'detached' })
    assert.ok(await phone.getByTestId('disconnect').evaluate((button) => button === document.activeElement), 'the focus is back')
    assert.ok(ben.connected)
    await ann.page.keyboard.press('Enter')
    await ann.at('disconnect-why').fill('it floods the lobby')
    await ann.page.keyboard.press('Enter')
    assert.equal((await gone).reasonCode, 0x98)
    await phone.waitFor({ state: 'detached' })
    await ann.at('search').fill('nobody is called that')
    await ann.at('none').waitFor()
  })
  await step('who reads slowly is seen from the first page on', async () => {
    const slow = await sleeper('bens-watch', 'ben', 'chat/lobby/+')
    const speaker = await client('bens-radio', 'ben')
    const long = 'x'.repeat(100_000)
    await Promise.all(Array.from({ length: 250 }, () => speaker.publishAsync('chat/lobby/ben', long, { qos: 1 })))
    await ann.go('overview')
    await ann.page.locator('[data-testid=tile].odd').getByRole('link', { name: 'Lagging' }).click()
    await ann.at('slow').filter({ hasText: 'bens-watch' }).waitFor()
    await audit(ann, 'a slow subscriber')
    await ann.shot(`${folder}/admin-slow.png`)
    slow.destroy()
    speaker.end(true)
  })
  await step('a broker that does not answer is not called well', async () => {
    gate.close('/v1/admin')
    await ann.page.locator('[data-testid=health][data-ready=false]').getByText('No answer since').waitFor()
    await ann.go('overview')
    await audit(ann, 'a page without answers')
    await ann.shot(`${folder}/admin-lost.png`)
    gate.reopen('/v1/admin')
    await ann.page.locator('[data-testid=health][data-ready=true]').waitFor()
  })
  await step('rooms, storage, log and audit are told', async () => {
    await ann.go('rooms')
    await ann.at('room').filter({ hasText: 'lobby' }).waitFor()
    await ann.go('storage')
    await ann.at('storage').getByText('Segments').waitFor()
    await audit(ann, 'storage')
    await ann.shot(`${folder}/admin-storage.png`)
    await ann.go('log')
    await ann.at('line').filter({ hasText: 'disconnect' }).first().waitFor()
    await ann.shot(`${folder}/admin-log.png`)
    await ann.go('audit')
    await ann.at('act').filter({ hasText: 'bens-phone it floods the lobby' }).first().waitFor()
    await audit(ann, 'the audit log')
    await ann.shot(`${folder}/admin-audit.png`)
  })
  await step('a ban keeps out, and is lifted', async () => {
    await ann.go('limits')
    await ann.page.locator('[data-testid=limits][data-known=true]').waitFor()
    await audit(ann, 'limits')
    if ((await ann.at('ban-someone').count()) > 0) {
      await ann.at('ban-someone').click()
      await ann.at('ban-kind').selectOption('user')
      await ann.at('ban-value').fill('ben')
      await ann.at('ban-why').fill('until he has slept')
      await audit(ann, 'the dialog of a ban')
      await ann.shot(`${folder}/admin-ban.png`)
      await ann.at('ban-do').click()
      await ann.at('banned').filter({ hasText: 'until he has slept' }).waitFor()
      await assert.rejects(client('bens-tablet', 'ben'))
      await ann.shot(`${folder}/admin-limits.png`)
      await ann.at('unban').click()
      await ann.at('banned').waitFor({ state: 'detached' })
      back = await client('bens-tablet', 'ben')
    }
  })
  await step('it pleases in Chinese, in the dark, and on a phone', async () => {
    await ann.at('language').selectOption('zh')
    await ann.at('theme').selectOption('dark')
    await ann.page.getByRole('link', { name: '概览' }).click()
    await audit(ann, 'the overview in the dark')
    await ann.shot(`${folder}/admin-dark-zh.png`)
    await ann.page.setViewportSize(PHONE)
    await ann.go('sessions')
    await ann.at('session').first().waitFor()
    await audit(ann, 'sessions on a phone')
    for (const section of ['overview', 'sessions', 'rooms', 'limits', 'storage', 'log', 'trace', 'audit']) {
      await ann.go(section)
      const wide = await ann.page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      assert.ok(wide <= 0, `${section} is ${wide} pixels too wide for a phone`)
      await ann.shot(`${folder}/admin-phone-${section}.png`)
    }
    await ann.page.setViewportSize(DESKTOP)
  })
  await step('who signs out is out', async () => {
    await ann.at('sign-out').click()
    await ann.at('enter').waitFor()
    assert.equal(await ann.page.evaluate(() => sessionStorage.getItem('tidings.session')), null)
  })
  listener.end(true)
  back?.end(true)
})

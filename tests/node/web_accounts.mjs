// The door of the web chat where people have passwords.
//
//   node web_accounts.mjs http://127.0.0.1:8083/ ../../target/test-artifacts
//
// alice has the password "correct horse"; she is disabled when this says that she is in.

import assert from 'node:assert/strict'
import { audit } from './audit.mjs'
import { DEADLINE_MS, Person, step, withBrowser } from './browser.mjs'

const [url, folder] = process.argv.slice(2)

await withBrowser(async (visit) => {
  const alice = await visit(url, 'alice', { password: 'correct horse' })
  await step('who knows the password is in, and a reloaded page too', async () => {
    await alice.page.reload()
    await alice.online()
    await alice.goTo('cellar')
    await alice.say('I am in')
    await alice.page.locator('[data-testid=message][data-delivery=sent]').waitFor()
  })
  await step('who does not is told so, and stays out', async () => {
    const page = await alice.page.context().newPage()
    const mallory = new Person('alice', page, url)
    await page.goto(url)
    await mallory.at('name').fill('alice')
    await mallory.at('password').fill('guess')
    await mallory.at('enter').click()
    await mallory.at('problem').getByText('Wrong name or password').waitFor()
    await audit(mallory, 'the door with a password')
    await mallory.shot(`${folder}/web-door-password.png`)
    assert.equal(await mallory.at('talks').count(), 0)
    await page.close()
  })
  await step('who is locked out is out at once, and is told why', async () => {
    console.log('alice is in')
    await alice.at('enter').waitFor({ timeout: DEADLINE_MS })
    await alice.at('problem').getByText('signed out').waitFor()
    assert.equal(await alice.page.evaluate(() => sessionStorage.getItem('tidings.session')), null)
  })
})

// Two people at the web chat over HTTPS and WSS, at a broker whose certificate this browser was told to believe.

import { withBrowser } from './browser.mjs'

const [url, hello, answer] = process.argv.slice(2)

await withBrowser(async (visit) => {
  const alice = await visit(url, 'alice')
  await alice.online('websocket')
  console.log('the page came over HTTPS, and speaks WSS')
  const secure = await alice.page.evaluate(() => window.isSecureContext && location.protocol === 'https:')
  if (!secure) throw new Error('the page does not know that it is secure')
  await alice.goTo('lobby')
  await alice.say(hello)
  await alice.sees(hello)
  console.log('she speaks')
  await alice.sees(answer)
  console.log('she hears')
})

// What a page must have for people who do not see it, or not well: axe-core's rules, and names for
// everything that one can operate, as Chromium's own accessibility tree tells them.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const OPERABLE = new Set(['button', 'link', 'textbox', 'searchbox', 'combobox', 'checkbox', 'menuitem', 'switch'])

/** Fails with the list of what is wrong. */
export async function audit({ page }, where) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.addScriptTag({ path: axe }).catch(() => evaluateAxe(page))
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
  const found = violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}\n    ${failureSummary}`))
  assert.deepEqual(found, [], `${where}:\n${found.join('\n')}`)

  const session = await page.context().newCDPSession(page)
  const { nodes } = await session.send('Accessibility.getFullAXTree')
  await session.detach()
  const nameless = nodes.filter(({ ignored, role, name }) => !ignored && OPERABLE.has(role?.value) && !name?.value?.trim())
  assert.deepEqual(nameless.map(({ role }) => role.value), [], `${where}: everything that can be operated has a name`)
}

/** The page's own policy takes no scripts from elsewhere; a debugger is not bound to it. */
async function evaluateAxe(page) {
  const { readFile } = await import('node:fs/promises')
  await page.evaluate(await readFile(axe, 'utf8'))
}

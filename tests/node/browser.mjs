// People with a browser of their own each, at the web chat: what the scenarios of the page share.

import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'

// A page on a busy machine with two cores; only a failure waits so long.
export const DEADLINE_MS = 25_000

export const DESKTOP = { width: 1280, height: 800 }
export const PHONE = { width: 390, height: 780 }

/** Chromium, until `scenario` ends; a failure shows what every page said. */
export async function withBrowser(scenario) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Chromium's sandbox does not work for root, which is what a container runs as.
    chromiumSandbox: process.getuid() !== 0,
    args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', ...(process.env.CHROMIUM_ARGS ?? '').split(' ').filter(Boolean)],
  })
  const people = []
  try {
    await scenario((url, name, options) => visit(browser, people, url, name, options))
  } catch (error) {
    console.error(error.stack)
    for (const { name, page } of people) {
      const text = await page.locator('body').innerText().catch(() => '(no page)')
      console.error(`--- the page of ${name} said:\n${text}`)
      if (process.env.FAILED) await page.screenshot({ path: `${process.env.FAILED}-${name}.png` }).catch(() => undefined)
    }
    process.exitCode = 1
  }
  await browser.close()
  process.exit()
}

async function visit(browser, people, url, name, { viewport = DESKTOP, locale = 'en-GB', password, colorScheme = 'light', prepare, as: Kind = Person } = {}) {
  const context = await browser.newContext({ viewport, locale, colorScheme, reducedMotion: 'reduce' })
  const page = await context.newPage()
  page.setDefaultTimeout(DEADLINE_MS)
  page.on('pageerror', (error) => {
    console.error(`the page of ${name} threw: ${error.stack}`)
    process.exitCode = 1
  })
  const person = new Kind(name, page, url)
  people.push(person)
  await prepare?.(page)
  await page.goto(url)
  await person.signIn(password)
  return person
}

/** Somebody who looks at the page and does things there, as a person would. */
export class Person {
  constructor(name, page, url) {
    Object.assign(this, { name, page, url })
  }

  at(id) {
    return this.page.getByTestId(id)
  }

  async signIn(password) {
    await this.at('name').fill(this.name)
    await this.at('enter').click()
    if (password !== undefined) {
      await this.at('password').fill(password)
      await this.at('enter').click()
    }
    await this.online()
  }

  online(path) {
    const by = path ? `[data-path=${path}]` : ''
    return this.page.locator(`[data-testid=state][data-state=online]${by}`).waitFor({ state: 'attached' })
  }

  async goTo(room) {
    await this.at('new').first().click()
    await this.at('room-name').fill(room)
    await this.at('create').click()
    await this.at('pane').waitFor()
  }

  open(talk) {
    return this.page.locator(`[data-testid=talk][data-talk="${talk}"]`).click()
  }

  async say(text) {
    await this.at('compose').fill(text)
    await this.page.keyboard.press('Enter')
  }

  /** The last message with this text. */
  message(text) {
    return this.at('message').filter({ has: this.page.getByTestId('text').getByText(text) }).last()
  }

  sees(text) {
    return this.message(text).waitFor()
  }

  /** What one can do with a message shows when one points at it. */
  async act(text, action) {
    const message = this.message(text)
    await message.hover()
    await message.getByTestId(action).click()
  }

  /** The texts of the talk that is open, as they are in the page. */
  texts() {
    return this.page.locator('[data-testid=message] [data-testid=text]').allInnerTexts()
  }

  /** Waits until a condition in the page holds. */
  until(condition, argument) {
    return this.page.waitForFunction(condition, argument, { timeout: DEADLINE_MS })
  }

  shot(path) {
    return this.page.screenshot({ path, animations: 'disabled' })
  }
}

/** Says in which step a scenario is, for who looks at a failure. */
export async function step(what, how) {
  const began = Date.now()
  await how()
  console.log(`${what} (${Date.now() - began} ms)`)
}

/** Each once, and in the order of their numbers. */
export function assertRising(texts, prefix) {
  const numbers = texts.flatMap((text) => (text.startsWith(prefix) ? [Number(text.slice(prefix.length))] : []))
  for (let i = 1; i < numbers.length; i += 1) {
    assert.equal(numbers[i], numbers[i - 1] + 1, `after ${prefix}${numbers[i - 1]} comes ${prefix}${numbers[i]}`)
  }
  return numbers
}

// What all components of the page share: the client, questions to the person, and short notices.

import { inject, shallowReactive, type InjectionKey } from 'vue'
import type { Client } from '../client/client'

export interface Question {
  text: string
  answer(yes: boolean): void
}

export interface Page {
  client: Client
  question: Question | null
  /** Shown for a while; the newest last. */
  notices: readonly { id: number; text: string }[]
  /** For who listens: the newest message. */
  said: string
}

export const PAGE: InjectionKey<Page> = Symbol('page')

/** How long a notice is shown, in ms: to be read twice. */
const NOTICE_FOR = 6000
/** Notices at once. */
const MAX_NOTICES = 3

let lastId = 0

export function newPage(client: Client): Page {
  return shallowReactive<Page>({ client, question: null, notices: [], said: '' })
}

export function usePage(): Page {
  const page = inject(PAGE)
  if (!page) throw new Error('no page')
  return page
}

export function notify(page: Page, text: string): void {
  lastId += 1
  const id = lastId
  page.notices = [...page.notices.filter((notice) => notice.text !== text), { id, text }].slice(-MAX_NOTICES)
  setTimeout(() => (page.notices = page.notices.filter((notice) => notice.id !== id)), NOTICE_FOR)
}

/** Asks the person; true if they agree. */
export function confirmed(page: Page, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    page.question?.answer(false)
    page.question = {
      text,
      answer: (yes) => {
        page.question = null
        resolve(yes)
      },
    }
  })
}

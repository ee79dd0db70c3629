// What a section shows, asked for again and again while somebody looks at it.

import { onBeforeUnmount, onMounted, ref, type Ref } from 'vue'
import { ApiError } from './api'

export interface Live {
  /** What is wrong with the last answer; empty: nothing. */
  problem: Ref<string>
  /** Asks now, and from then on again and again. */
  again: () => Promise<void>
}

/**
 * Calls `look` when the section is there, and every so many milliseconds after its end. What it finds counts only
 * while `isCurrent()`: something else may have been asked meanwhile.
 */
export function useLive(look: (isCurrent: () => boolean) => Promise<void>, every: number): Live {
  const problem = ref('')
  let timer = 0
  let turn = 0

  async function again(): Promise<void> {
    clearTimeout(timer)
    turn += 1
    const own = turn
    const isCurrent = () => own === turn
    let wrong = ''
    try {
      await look(isCurrent)
    } catch (error) {
      wrong = worth(error)
    }
    if (!isCurrent()) return
    problem.value = wrong
    timer = window.setTimeout(again, every)
  }

  onMounted(() => void again())
  onBeforeUnmount(() => {
    turn += 1
    clearTimeout(timer)
  })
  return { problem, again }
}

/** What a section says of an error. That the broker does not answer is said by the page around it. */
function worth(error: unknown): string {
  if (error instanceof ApiError && error.status === 0) return ''
  return error instanceof Error ? error.message : String(error)
}

// Who is typing, as a sentence.

import { t } from '../i18n'

/** Empty if nobody types. */
export function typingSentence(names: readonly string[]): string {
  const [a, b, ...more] = names
  if (a === undefined) return ''
  if (b === undefined) return t('typing_one', { a })
  return more.length === 0 ? t('typing_two', { a, b }) : t('typing_more', { a, b, n: more.length })
}

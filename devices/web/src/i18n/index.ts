// The words of the page in the person's language, which is the browser's until another one is chosen.

import { computed, ref } from 'vue'
import { en, type Word, type Words } from './en'
import { zh } from './zh'

export type { Word } from './en'
export type Language = 'en' | 'zh'

export const LANGUAGES: readonly { code: Language; name: string }[] = [
  { code: 'en', name: 'English' },
  { code: 'zh', name: '中文' },
]
export const TABLES: Record<Language, Words> = { en, zh }

const KEY = 'tidings.language'

/** The language for a browser that prefers `preferred`, in this order. */
export function detect(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    const code = tag.toLowerCase().split('-')[0]
    if (code === 'en' || code === 'zh') return code
  }
  return 'en'
}

function saved(): Language | null {
  const code = globalThis.localStorage?.getItem(KEY)
  return code === 'en' || code === 'zh' ? code : null
}

export const language = ref<Language>(saved() ?? detect(globalThis.navigator?.languages ?? []))
/** The language as the browser has it, with its country: it decides how times are written. */
export const locale = computed(() => (globalThis.navigator?.languages ?? []).find((tag) => tag.toLowerCase().split('-')[0] === language.value) ?? language.value)
const plurals = computed(() => new Intl.PluralRules(language.value))

export function choose(code: Language): void {
  language.value = code
  localStorage.setItem(KEY, code)
}

/** A text with its values filled in; they are text, too, and never markup. */
export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => Object.hasOwn(values, name) ? String(values[name]) : whole)
}

export function t(word: Word, values: Record<string, string | number> = {}): string {
  return fill(TABLES[language.value][word], values)
}

type Counted = Word extends infer W ? (W extends `${infer Stem}_other` ? Stem : never) : never

/** A text for a number of things. */
export function count(stem: Counted, n: number): string {
  const form = plurals.value.select(n) === 'one' ? 'one' : 'other'
  return t(`${stem}_${form}` as Word, { n })
}

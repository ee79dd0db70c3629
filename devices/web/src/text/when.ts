// Days and times in the person's language. Formats are made once per language: that is slow.

import { computed } from 'vue'
import { locale, t } from '../i18n'

const formats = computed(() => ({
  day: new Intl.DateTimeFormat(locale.value, { weekday: 'long', day: 'numeric', month: 'long' }),
  shortDay: new Intl.DateTimeFormat(locale.value, { day: 'numeric', month: 'numeric', year: '2-digit' }),
  weekday: new Intl.DateTimeFormat(locale.value, { weekday: 'short' }),
  time: new Intl.DateTimeFormat(locale.value, { hour: '2-digit', minute: '2-digit' }),
  full: new Intl.DateTimeFormat(locale.value, { dateStyle: 'full', timeStyle: 'medium' }),
  list: new Intl.ListFormat(locale.value, { type: 'conjunction' }),
}))

const DAY = 24 * 60 * 60 * 1000

/** Days between the dates of two moments, in the zone of this machine. */
function daysBetween(from: number, to: number): number {
  const midnight = (ms: number) => new Date(ms).setHours(0, 0, 0, 0)
  return Math.round((midnight(to) - midnight(from)) / DAY)
}

export const isSameDay = (a: number, b: number) => daysBetween(a, b) === 0
export const timeOf = (ms: number) => formats.value.time.format(ms)
export const momentOf = (ms: number) => formats.value.full.format(ms)
export const listOf = (names: readonly string[]) => formats.value.list.format(names)

export function dayOf(ms: number, now = Date.now()): string {
  const days = daysBetween(ms, now)
  if (days === 0) return t('today')
  return days === 1 ? t('yesterday') : formats.value.day.format(ms)
}

/** As short as it is clear. */
export function shortly(ms: number, now = Date.now()): string {
  const days = daysBetween(ms, now)
  if (days <= 0) return timeOf(ms)
  return days < 7 ? formats.value.weekday.format(ms) : formats.value.shortDay.format(ms)
}

// Numbers, sizes and times as people read them, in the language of the page.

import { locale } from '../i18n'

/** A number with three digits that count. */
export function number(value: number): string {
  return new Intl.NumberFormat(locale.value, {
    notation: Math.abs(value) >= 100_000 ? 'compact' : 'standard',
    maximumFractionDigits: Math.abs(value) < 10 ? 1 : 0,
  }).format(value)
}

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

export function bytes(value: number): string {
  let [size, unit] = [value, 0]
  while (size >= 1024 && unit < BYTES.length - 1) {
    size /= 1024
    unit += 1
  }
  return `${number(size)} ${BYTES[unit]}`
}

/** Microseconds. */
export function micros(value: number): string {
  if (value < 1000) return `${number(value)} µs`
  if (value < 1_000_000) return `${number(value / 1000)} ms`
  return `${number(value / 1_000_000)} s`
}

/** Seconds, in the two largest units. */
export function duration(seconds: number): string {
  const units: [number, string][] = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]
  const at = Math.max(0, units.findIndex(([size]) => seconds >= size))
  let left = Math.max(0, Math.round(seconds))
  return units
    .slice(seconds < 1 ? 3 : at, (seconds < 1 ? 3 : at) + 2)
    .map(([size, unit]) => {
      const count = Math.floor(left / size)
      left -= count * size
      return `${count} ${unit}`
    })
    .join(' ')
}

export function clock(ts: number): string {
  return new Intl.DateTimeFormat(locale.value, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(ts)
}

export function dateTime(ts: number): string {
  return new Intl.DateTimeFormat(locale.value, { dateStyle: 'short', timeStyle: 'medium', hourCycle: 'h23' }).format(ts)
}

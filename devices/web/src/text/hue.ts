// A colour for a name, the same everywhere.

/** Degrees of the colour wheel. */
export function hue(name: string): number {
  let hash = 0
  for (const char of name) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0
  return hash % 360
}

/** One or two characters that stand for a name. */
export function initials(name: string): string {
  const words = name.split(/[\s._-]+/u).filter((word) => word !== '')
  const first = [...new Intl.Segmenter().segment(words[0] ?? name)].map(({ segment }) => segment)
  const second = words.length > 1 ? ([...(words.at(-1) ?? '')][0] ?? '') : ''
  return ((first[0] ?? '?') + second).toLocaleUpperCase()
}

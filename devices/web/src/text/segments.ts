// A message as pieces of text, links and mentions. Nothing of it is ever markup: links are made only
// of addresses that the browser itself takes for http or https.

export type Segment =
  | { kind: 'text'; text: string }
  | { kind: 'link'; text: string; href: string }
  | { kind: 'mention'; text: string; user: string }

/** Pieces of one message; the rest is plain text. */
const MAX_PIECES = 200
/** Users that one message speaks of. */
const MAX_MENTIONS = 20
const CANDIDATES = /https?:\/\/[^\s<>"'`]+|(?<!\w)@[\p{L}\p{N}_.-]+/giu

export function segmentsOf(text: string): Segment[] {
  const segments: Segment[] = []
  let end = 0
  for (const found of text.matchAll(CANDIDATES)) {
    if (segments.length >= MAX_PIECES) break
    const segment = found[0].startsWith('@') ? mention(found[0]) : link(found[0])
    if (!segment) continue
    if (found.index > end) segments.push({ kind: 'text', text: text.slice(end, found.index) })
    segments.push(segment)
    end = found.index + segment.text.length
  }
  if (end < text.length) segments.push({ kind: 'text', text: text.slice(end) })
  return segments
}

/** The names that a text mentions, each once. */
export function mentionedIn(text: string): string[] {
  const names = segmentsOf(text).flatMap((segment) => (segment.kind === 'mention' ? [segment.user] : []))
  return [...new Set(names)].slice(0, MAX_MENTIONS)
}

function mention(word: string): Segment | null {
  const text = word.replace(/[.-]+$/, '')
  return text.length > 1 ? { kind: 'mention', text, user: text.slice(1) } : null
}

function link(word: string): Segment | null {
  const text = withoutTail(word)
  try {
    const url = new URL(text)
    const isWeb = url.protocol === 'https:' || url.protocol === 'http:'
    // A name before the host is what deceives: https://bank.example@elsewhere
    if (!isWeb || url.username !== '' || url.password !== '') return null
    return { kind: 'link', text, href: url.href }
  } catch {
    return null
  }
}

/** Without punctuation that belongs to the sentence, and a bracket that was not opened within. */
function withoutTail(word: string): string {
  let text = word
  for (;;) {
    const last = text.at(-1) ?? ''
    const opener = { ')': '(', ']': '[', '}': '{' }[last]
    const isOdd = opener !== undefined && text.split(last).length > text.split(opener).length
    if (!isOdd && !/[.,;:!?。，；：！？、”’»]/.test(last)) return text
    text = text.slice(0, -1)
  }
}

// Which part of a long list is in the page: some screens around what is looked at.

export interface Frame {
  /** Index of the first entry that is shown. */
  start: number
  /** Index behind the last one. */
  end: number
}

/** Entries in the page when one begins: several screens of short ones. */
const BEGIN = 80
/** Entries that come in when an end of the frame is near. */
const STEP = 60
/** Entries in the page at most. */
const MOST = 220

export function atEnd(length: number): Frame {
  return { start: Math.max(0, length - BEGIN), end: length }
}

/** Follows the end as messages come: what is in the page stays until there is too much of it. */
export function following(frame: Frame, length: number): Frame {
  const start = Math.min(frame.start, Math.max(0, length - BEGIN))
  return { start: length - start > MOST ? length - BEGIN : start, end: length }
}

export function backwards({ start, end }: Frame): Frame {
  const first = Math.max(0, start - STEP)
  return { start: first, end: Math.min(end, first + MOST) }
}

export function forwards({ start, end }: Frame, length: number): Frame {
  const last = Math.min(length, end + STEP)
  return { start: Math.max(start, last - MOST), end: last }
}

export function around(index: number, length: number): Frame {
  const start = Math.max(0, index - BEGIN / 2)
  return { start, end: Math.min(length, start + BEGIN) }
}

/** The frame over the same entries when `by` came in before it. */
export function shifted({ start, end }: Frame, by: number, length: number): Frame {
  return { start: Math.min(Math.max(0, start + by), length), end: Math.min(Math.max(0, end + by), length) }
}

// The position that every transport resumes from: `{epoch:016x}-{offset}`, "everything before this
// offset was handed over".

interface Position {
  epoch: string
  offset: bigint
}

function read(cursor: string): Position | null {
  const found = /^([0-9a-f]{16})-(\d{1,20})$/.exec(cursor)
  return found ? { epoch: found[1] ?? '', offset: BigInt(found[2] ?? 0) } : null
}

/** The later of two cursors of one journal; of two journals, the new one. */
export function later(old: string | null, fresh: string): string {
  if (old === null) return fresh
  const [a, b] = [read(old), read(fresh)]
  if (!a || !b || a.epoch !== b.epoch) return fresh
  return a.offset >= b.offset ? old : fresh
}

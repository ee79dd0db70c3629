// Lines over time, as SVG paths: a few hundred points need no library.

export interface Box {
  width: number
  height: number
}

export function areaOf(width: number, height: number): Box {
  return { width, height }
}

/** The top of the scale: 1, 2 or 5 times a power of ten, not below any value. */
export function topOf(values: readonly (number | null)[]): number {
  const most = values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0)
  if (most <= 1) return 1
  const ten = 10 ** Math.floor(Math.log10(most))
  return [1, 2, 5, 10].map((times) => times * ten).find((top) => top >= most) ?? 10 * ten
}

const short = (value: number) => String(Math.round(value * 10) / 10)

/**
 * A line through `values`, the last one at the right end of `places` places; gaps where there is none, and a dot
 * for what stands alone.
 */
export function linePath(values: readonly (number | null)[], places: number, top: number, box: Box): string {
  let path = ''
  let isDrawing = false
  values.forEach((value, index) => {
    if (value === null) {
      isDrawing = false
      return
    }
    const x = ((places - values.length + index) / Math.max(1, places - 1)) * box.width
    const y = box.height - (Math.min(value, top) / top) * box.height
    path += `${isDrawing ? 'L' : 'M'}${short(x)} ${short(y)}`
    if (!isDrawing && (values[index + 1] ?? null) === null) path += 'h0'
    isDrawing = true
  })
  return path
}

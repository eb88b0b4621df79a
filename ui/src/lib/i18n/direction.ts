/** Letters that are written from right to left, and characters that turn the direction. */
const TURNING =
  /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u
/** The characters that begin a stretch with a direction of its own, and the one that ends it. */
const STRETCHES = /[\u2066-\u2069]/g
const BEGIN = '\u2068'
const END = '\u2069'

/**
 * A text of somebody else on one line. Stretches that it begins end with it, and it ends none that it did
 * not begin, so that what isolates it cannot be closed from inside.
 */
export function oneLine(text: string): string {
  let open = 0
  const line = text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').replace(STRETCHES, (mark) => {
    if (mark === END && open === 0) return ''
    open += mark === END ? -1 : 1
    return mark
  })
  return line + END.repeat(open)
}

/** A text of somebody else inside a sentence, which it must not turn. */
export function isolated(text: string): string {
  return TURNING.test(text) ? BEGIN + oneLine(text) + END : text
}

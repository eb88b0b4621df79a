/** A stretch of text, marked or not. */
export interface Piece {
  text: string
  marked: boolean
}

/**
 * Cuts a text at byte ranges of its UTF-8 form, a little before the first one, so that a match deep
 * in a long message shows.
 */
export function pieces(text: string, ranges: [number, number][]): Piece[] {
  const bytes = new TextEncoder().encode(text)
  const slice = (from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to))
  const cut: Piece[] = []
  let at = 0
  for (const range of ranges) {
    // Marks that overlap or lie outside of the text are cut down to what is left of it.
    const [start, end] = range.map((place) => Math.min(Math.max(place || 0, at), bytes.length))
    if (start === undefined || end === undefined || start >= end) continue
    if (start > at) cut.push({ text: slice(at, start), marked: false })
    cut.push({ text: slice(start, end), marked: true })
    at = end
  }
  if (at < bytes.length) cut.push({ text: slice(at, bytes.length), marked: false })
  const [first] = cut
  if (first && !first.marked && cut.length > 1 && first.text.length > 40) {
    // Not from the middle of a character.
    first.text = `…${first.text.slice(-30).replace(/^[\udc00-\udfff]/, '')}`
  }
  return cut
}

/**
 * The keys of a list's items, made of the named fields. Others choose some of these fields, and two items
 * with one key cannot be drawn: whatever repeats gets a number.
 */
export function keysOf<Item>(list: readonly Item[], ...fields: (keyof Item)[]): string[] {
  const seen = new Map<string, number>()
  return list.map((item) => {
    const key = JSON.stringify(fields.map((field) => item[field]))
    const times = seen.get(key) ?? 0
    seen.set(key, times + 1)
    return times === 0 ? key : `${key} ${times}`
  })
}

/** Makes each thing once, and gives it again when its names come again. */
export function kept<Names extends string[], Made>(
  make: (...names: Names) => Made,
): (...names: Names) => Made {
  const made = new Map<string, Made>()
  return (...names) => {
    const key = names.join(' ')
    const one = made.get(key) ?? make(...names)
    made.set(key, one)
    return one
  }
}

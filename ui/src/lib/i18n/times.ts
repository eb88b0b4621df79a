/**
 * The first and the last time that is shown. Half a day and more is left at both ends, so that they lie in
 * the years 1970 and 9999 in every time zone.
 */
const FIRST = Date.UTC(1970, 0, 1, 12)
const LAST = Date.UTC(9999, 11, 31)

/**
 * The date of any number. Others choose the times of their messages, and most numbers are no time: `Date`
 * takes them, and throws later, when it is shown.
 */
export function dateOf(ms: number): Date {
  return new Date(Math.min(Math.max(ms || 0, FIRST), LAST))
}

/** Whether two times lie on the same day here. */
export function isSameDay(one: number, two: number): boolean {
  return dateOf(one).toDateString() === dateOf(two).toDateString()
}

/** The day before the one of a time. */
export function dayBefore(ms: number): number {
  const date = dateOf(ms)
  // By the calendar: a day can have 23 hours.
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() - 1).getTime()
}

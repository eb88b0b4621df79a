import { failureOf } from '../backend/backend'
import { isolated } from './direction'
import { en, type Key } from './en'
import { kept } from './kept'
import { ko } from './ko'
import { dateOf, dayBefore, isSameDay } from './times'

export type Language = 'en' | 'ko'
export type { Key }

const tables: Record<Language, Record<Key, string>> = { en, ko }

const dateFormats = {
  time: { hour: 'numeric', minute: '2-digit' },
  day: { month: 'long', day: 'numeric', weekday: 'long' },
  dayOfYear: { year: 'numeric', month: 'long', day: 'numeric', weekday: 'long' },
  date: { year: 'numeric', month: 'long', day: 'numeric' },
  short: { month: 'short', day: 'numeric' },
  shortOfYear: { year: 'numeric', month: 'short', day: 'numeric' },
} as const satisfies Record<string, Intl.DateTimeFormatOptions>

const units = { second: 1, minute: 60, hour: 3600, day: 86_400, year: 31_557_600 }
type Unit = keyof typeof units

// A formatter is costly to make, and a list needs the same one for every row.
const dates = kept(
  (language: Language, format: keyof typeof dateFormats) =>
    new Intl.DateTimeFormat(language, dateFormats[format]),
)
const numbers = kept((language: Language) => new Intl.NumberFormat(language))
const spans = kept(
  (language: Language, unit: Unit) =>
    new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }),
)
const lists = kept((language: Language) => new Intl.ListFormat(language, { type: 'conjunction' }))

/** The language of the window: the system's, until another is chosen. */
class I18n {
  language = $state<Language>(navigator.language.startsWith('ko') ? 'ko' : 'en')

  t = (key: Key, values: Record<string, string | number> = {}): string =>
    // What a newer program tells has no words here, and must not keep the rest from being shown.
    (tables[this.language][key] ?? key).replace(/\{(\w+)\}/g, (whole, name: string) => {
      const value = values[name]
      if (value === undefined) return whole
      return typeof value === 'number' ? this.number(value) : isolated(value)
    })

  /** What stands before and after a value, for values that are more than text. */
  around = (key: Key, name: string): [string, string] => {
    const [before = '', after = ''] = tables[this.language][key].split(`{${name}}`)
    return [before, after]
  }

  /** The words for a failure; unknown codes are an internal fault. */
  error = (code: string, details: Record<string, string> = {}): string => {
    const wait = Number(details['retry_after'])
    const more = details['word'] ? '_guess' : wait > 0 ? '_wait' : ''
    const key = [`error.${code}${more}`, `error.${code}`].find((one) => one in en)
    const values = { ...details, ...(wait > 0 ? { wait: this.duration(wait) } : {}) }
    return this.t((key as Key) ?? 'error.internal', values)
  }

  /** The words for what a call threw; none if the person did not want it, and knows that. */
  failure = (error: unknown): string => {
    const { code, details } = failureOf(error)
    if (code === 'not_confirmed') return ''
    return this.error(code, details)
  }

  time = (ms: number): string => this.#date(ms, 'time')

  day = (ms: number): string => this.#date(ms, isThisYear(ms) ? 'day' : 'dayOfYear')

  /** The day, with its year. */
  date = (ms: number): string => this.#date(ms, 'date')

  /** For lists: today the time, otherwise the day, as short as it is clear. */
  when = (ms: number): string => {
    const now = Date.now()
    if (isSameDay(ms, now)) return this.time(ms)
    if (isSameDay(ms, dayBefore(now))) return this.t('time.yesterday')
    return this.#date(ms, isThisYear(ms) ? 'short' : 'shortOfYear')
  }

  /** So many seconds, in the largest unit of which there are at least two. */
  duration = (seconds: number, round: (value: number) => number = Math.ceil): string => {
    const most = 9999 * units.year
    const length = Math.min(Math.max(seconds || 0, 0), most)
    const fitting = (Object.keys(units) as Unit[]).filter((unit) => length >= 2 * units[unit])
    const unit = fitting.at(-1) ?? 'second'
    return spans(this.language, unit).format(round(length / units[unit]))
  }

  /** A count. What is none is shown as the nearest whole number. */
  number = (value: number): string => {
    const most = Number.MAX_SAFE_INTEGER
    const whole = Math.trunc(Math.min(Math.max(value || 0, -most), most))
    return numbers(this.language).format(whole)
  }

  list = (names: string[]): string => lists(this.language).format(names.map(isolated))

  #date(ms: number, format: keyof typeof dateFormats): string {
    return dates(this.language, format).format(dateOf(ms))
  }
}

function isThisYear(ms: number): boolean {
  return dateOf(ms).getFullYear() === new Date().getFullYear()
}

export const i18n = new I18n()
export const t = i18n.t

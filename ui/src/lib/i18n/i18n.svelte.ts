import { failureOf } from '../backend/backend'
import { en, type Key } from './en'
import { ko } from './ko'

export type Language = 'en' | 'ko'
export type { Key }

const tables: Record<Language, Record<Key, string>> = { en, ko }

/** The language of the window: the system's, until another is chosen. */
class I18n {
  language = $state<Language>(navigator.language.startsWith('ko') ? 'ko' : 'en')

  t = (key: Key, values: Record<string, string | number> = {}): string =>
    tables[this.language][key].replace(/\{(\w+)\}/g, (whole, name: string) =>
      name in values ? String(values[name]) : whole,
    )

  /** The words for a failure; unknown codes are an internal fault. */
  error = (code: string, details: Record<string, string> = {}): string => {
    const wait = Number(details['retry_after'])
    const more = details['word'] ? '_guess' : wait > 0 ? '_wait' : ''
    const key = [`error.${code}${more}`, `error.${code}`].find((one) => one in en)
    const values = { ...details, ...(wait > 0 ? { wait: this.duration(wait) } : {}) }
    return this.t((key as Key) ?? 'error.internal', values)
  }

  /** The words for what a call threw. */
  failure = (error: unknown): string => {
    const { code, details } = failureOf(error)
    return this.error(code, details)
  }

  time = (ms: number): string => this.#format(ms, { hour: 'numeric', minute: '2-digit' })

  day = (ms: number): string => {
    const sameYear = new Date(ms).getFullYear() === new Date().getFullYear()
    return this.#format(ms, {
      month: 'long',
      day: 'numeric',
      weekday: 'long',
      ...(sameYear ? {} : { year: 'numeric' }),
    })
  }

  /** The day, with its year. */
  date = (ms: number): string =>
    this.#format(ms, { year: 'numeric', month: 'long', day: 'numeric' })

  /** Today the time, otherwise the date: for lists. */
  when = (ms: number): string =>
    new Date(ms).toDateString() === new Date().toDateString()
      ? this.time(ms)
      : this.#format(ms, { month: 'short', day: 'numeric' })

  /** So many seconds, in seconds or in whole minutes. */
  duration = (seconds: number): string => {
    const [value, unit] =
      seconds < 120 ? [Math.ceil(seconds), 'second'] : [Math.ceil(seconds / 60), 'minute']
    const format = { style: 'unit', unit, unitDisplay: 'long' } as const
    return new Intl.NumberFormat(this.language, format).format(value)
  }

  list = (names: string[]): string =>
    new Intl.ListFormat(this.language, { type: 'conjunction' }).format(names)

  #format(ms: number, options: Intl.DateTimeFormatOptions): string {
    return new Intl.DateTimeFormat(this.language, options).format(ms)
  }
}

export const i18n = new I18n()
export const t = i18n.t

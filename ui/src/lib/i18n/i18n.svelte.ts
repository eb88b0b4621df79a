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
    const key = details['word'] ? `error.${code}_guess` : `error.${code}`
    return key in en ? this.t(key as Key, details) : this.t('error.internal')
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

  /** Today the time, otherwise the date: for lists. */
  when = (ms: number): string =>
    new Date(ms).toDateString() === new Date().toDateString()
      ? this.time(ms)
      : this.#format(ms, { month: 'short', day: 'numeric' })

  list = (names: string[]): string =>
    new Intl.ListFormat(this.language, { type: 'conjunction' }).format(names)

  #format(ms: number, options: Intl.DateTimeFormatOptions): string {
    return new Intl.DateTimeFormat(this.language, options).format(ms)
  }
}

export const i18n = new I18n()
export const t = i18n.t

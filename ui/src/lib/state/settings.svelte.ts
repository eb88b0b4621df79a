import { i18n, type Language } from '../i18n/i18n.svelte'

/** After how many minutes without a key or a click the app locks itself. */
export const AUTO_LOCK = ['never', '1', '5', '15', '60'] as const
export type AutoLock = (typeof AUTO_LOCK)[number]

export type Theme = 'system' | 'light' | 'dark'

const dark = matchMedia('(prefers-color-scheme: dark)')

/** How the window looks and which language it speaks; kept in this window's own storage. */
class Settings {
  theme = $state<Theme>(read('theme', ['system', 'light', 'dark'], 'system'))

  autoLock = $state<AutoLock>(read('auto-lock', AUTO_LOCK, 'never'))

  constructor() {
    i18n.language = read('language', ['en', 'ko'], i18n.language)
    dark.addEventListener('change', () => this.#apply())
    this.#apply()
  }

  setTheme(theme: Theme): void {
    this.theme = theme
    localStorage.setItem('theme', theme)
    this.#apply()
  }

  setLanguage(language: Language): void {
    i18n.language = language
    localStorage.setItem('language', language)
    this.#apply()
  }

  setAutoLock(minutes: string): void {
    this.autoLock = AUTO_LOCK.find((one) => one === minutes) ?? 'never'
    localStorage.setItem('auto-lock', this.autoLock)
  }

  #apply(): void {
    const theme = this.theme === 'system' ? (dark.matches ? 'dark' : 'light') : this.theme
    document.documentElement.dataset.theme = theme
    document.documentElement.lang = i18n.language
  }
}

function read<Value extends string>(
  key: string,
  values: readonly Value[],
  otherwise: Value,
): Value {
  const stored = localStorage.getItem(key)
  return values.find((value) => value === stored) ?? otherwise
}

export const settings = new Settings()

import { i18n, type Language } from '../i18n/i18n.svelte'

export type Theme = 'system' | 'light' | 'dark'

const dark = matchMedia('(prefers-color-scheme: dark)')

/** How the window looks and which language it speaks; kept in this window's own storage. */
class Settings {
  theme = $state<Theme>(read('theme', ['system', 'light', 'dark'], 'system'))

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

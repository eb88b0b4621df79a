import { flushSync, mount, unmount } from 'svelte'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import App from './App.svelte'
import type { ClientState, RecoveryWordsView } from './lib/backend/views'
import { i18n } from './lib/i18n/i18n.svelte'
import { messenger } from './lib/state/messenger.svelte'
import { clientState } from './test/views'

const WORDS: RecoveryWordsView = {
  english: Array.from({ length: 12 }, (_, at) => `abandon${at}`),
  korean: Array.from({ length: 12 }, (_, at) => `가격${at}`),
}

const pending = (words_pending: boolean): ClientState => {
  const client = clientState()
  return { ...client, account: { ...client.account!, words_pending } }
}

const backend = await vi.hoisted(async () => {
  const { standIn } = await import('./test/backend')
  return standIn({
    boot: () => Promise.resolve('open'),
    lock: () => Promise.resolve('passphrase'),
    state: vi.fn(),
    friends: () => Promise.resolve({ friends: [], incoming: [], outgoing: [] }),
    rooms: () => Promise.resolve([]),
    presence: () => Promise.resolve({ visible: true, online: [] }),
    recoveryWords: vi.fn(),
    confirmRecoveryWords: vi.fn(),
    signUp: vi.fn(),
  })
})
vi.mock('./lib/backend/tauri', () => ({ backend }))

let app: ReturnType<typeof mount>

beforeEach(() => {
  i18n.language = 'en'
  backend.state.mockReset().mockResolvedValue(pending(true))
  backend.recoveryWords.mockReset().mockResolvedValue(WORDS)
  backend.confirmRecoveryWords.mockReset().mockResolvedValue(undefined)
})

afterEach(async () => {
  await unmount(app)
  document.body.replaceChildren()
  messenger.client = null
})

async function start() {
  app = mount(App, { target: document.body })
  await settled(() => find('settings') ?? find('signup-submit'))
}

/** Waits for what is to be there. */
async function settled(wanted: () => unknown) {
  await vi.waitFor(() => {
    flushSync()
    expect(wanted()).toBeTruthy()
  })
}

const find = (testid: string) => document.querySelector<HTMLElement>(`[data-testid="${testid}"]`)
const shown = () => document.querySelectorAll('[data-testid="words"] li').length
const open = () => {
  find('words-show')?.click()
  flushSync()
}

test('the words are fetched when they are shown, and dropped when they are closed', async () => {
  await start()
  expect(backend.recoveryWords).not.toHaveBeenCalled()
  open()
  expect(find('words-loading')?.getAttribute('aria-busy')).toBe('true')
  expect(find('words-confirm')).toBe(null)
  await settled(() => shown() === 12)
  expect(document.body.textContent).toContain('abandon11')
  find('words-ko')?.click()
  flushSync()
  expect(document.body.textContent).toContain('가격11')
  // Nowhere else are they kept.
  expect(JSON.stringify([messenger.client, messenger.toast])).not.toMatch(/abandon|가격/)

  find('words-later')?.click()
  await settled(() => find('words-reminder'))
  expect(document.body.textContent).not.toMatch(/abandon|가격/)
  open()
  expect(shown()).toBe(0)
  await settled(() => shown() === 12)
  expect(backend.recoveryWords).toHaveBeenCalledTimes(2)
})

test('once confirmed, they are gone, and so is the reminder', async () => {
  await start()
  open()
  await settled(() => shown() === 12)
  find('words-confirm')?.click()
  expect(backend.confirmRecoveryWords).toHaveBeenCalledTimes(1)
  backend.tell({ event: 'state', state: pending(false) })
  await settled(() => find('settings'))
  expect([shown(), find('words-reminder')]).toEqual([0, null])
})

test('what changes meanwhile does not fetch them anew', async () => {
  await start()
  open()
  await settled(() => shown() === 12)
  backend.tell({ event: 'state', state: { ...pending(true), connection: 'offline' } })
  flushSync()
  expect(shown()).toBe(12)
  expect(backend.recoveryWords).toHaveBeenCalledTimes(1)
})

test('where they cannot be read, it says why, and they can be fetched again', async () => {
  backend.recoveryWords.mockRejectedValueOnce({ code: 'disk_failed', message: '', details: {} })
  await start()
  open()
  await settled(() => find('problem'))
  expect(find('problem')?.textContent).toBe('The disk cannot be written. Check it and try again.')
  expect([find('words-confirm'), find('words-loading')]).toEqual([null, null])
  find('words-retry')?.click()
  await settled(() => shown() === 12)
  expect(find('problem')).toBe(null)
})

test('where there are none, nothing can be confirmed', async () => {
  backend.recoveryWords.mockResolvedValue(null)
  await start()
  open()
  await settled(() => find('problem'))
  expect(find('problem')?.textContent).toBe('The words are no longer on this device.')
  expect(find('words-confirm')).toBe(null)
  find('words-later')?.click()
  await settled(() => find('settings'))
})

test('a locked window shows none, even if they come late', async () => {
  let answer: (words: RecoveryWordsView) => void = () => {}
  backend.recoveryWords.mockReturnValue(new Promise((resolve) => (answer = resolve)))
  await start()
  open()
  await messenger.lock()
  answer(WORDS)
  await settled(() => find('words-loading') === null)
  expect(document.body.textContent).not.toMatch(/abandon|가격/)
})

test('who has just made an account is shown them', async () => {
  const before = { ...clientState(), account: null }
  backend.state.mockResolvedValueOnce(before)
  backend.signUp.mockResolvedValue(undefined)
  await start()
  const form = find('signup-submit')?.closest('form')
  form?.dispatchEvent(new SubmitEvent('submit', { bubbles: true, cancelable: true }))
  await settled(() => shown() === 12)
})

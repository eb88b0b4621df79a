import { flushSync, mount, unmount } from 'svelte'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { clientState, roomView } from '../../test/views'
import type { AccountView, ClientState } from '../backend/views'
import { i18n } from '../i18n/i18n.svelte'
import { messenger } from '../state/messenger.svelte'
import MainView from '../views/MainView.svelte'

const backend = await vi.hoisted(async () => {
  const { standIn } = await import('../../test/backend')
  return standIn({
    history: () => Promise.resolve({ messages: [], more: false }),
    typing: () => Promise.resolve(),
    reconnect: vi.fn(),
    dismiss: vi.fn(),
    send: vi.fn(),
  })
})
vi.mock('../backend/tauri', () => ({ backend }))

// Text areas have no layout here, and so no line height.
vi.stubGlobal('getComputedStyle', () => ({ lineHeight: '20px' }))

let window: ReturnType<typeof mount> | undefined
const onwords = vi.fn()

beforeEach(async () => {
  i18n.language = 'en'
  for (const call of [backend.reconnect, backend.dismiss, backend.send]) {
    call.mockReset().mockResolvedValue(undefined)
  }
  onwords.mockReset()
  await messenger.start()
})

afterEach(async () => {
  await close()
  messenger.rooms = []
  messenger.conversation = null
  messenger.toast = null
})

function show(of: Partial<ClientState> = {}, account: Partial<AccountView> = {}) {
  const client = clientState(of)
  messenger.client = { ...client, account: { ...client.account!, ...account } }
  window = mount(MainView, { target: document.body, props: { onwords } })
  flushSync()
}

async function close() {
  if (window) await unmount(window)
  window = undefined
  document.body.replaceChildren()
}

const find = (testid: string) => document.querySelector<HTMLElement>(`[data-testid="${testid}"]`)
const banners = () => [...document.querySelectorAll<HTMLElement>('.banner')]
const composer = () => find('composer') as HTMLTextAreaElement

test('each banner says what it is, in a region that is read out, with what can be done', async () => {
  const cases = [
    ['server-key-banner', { offered_key: { known: 'a', found: 'b' } }, {}, 'alert', 'Look at it'],
    ['offline-banner', { connection: 'offline' }, {}, 'status', 'Try now'],
    ['logged-out-banner', {}, { logged_in: false }, 'status', 'Log in'],
    ['clock-banner', { clock_ahead: 600_000 }, {}, 'status', undefined],
    ['notice-vault_damaged', {}, { notices: ['vault_damaged'] }, 'status', 'Repair'],
    ['words-reminder', {}, { words_pending: true }, undefined, 'Show'],
    ['storage-banner', { storage_fault: 'disk_full' }, {}, 'alert', undefined],
  ] as const
  for (const [testid, client, account, role, action] of cases) {
    show(client as never, account as never)
    expect(banners().map((one) => one.dataset['testid'])).toEqual([testid])
    expect(find(testid)?.parentElement?.getAttribute('role') ?? undefined).toBe(role)
    expect(find(testid)?.querySelector('button')?.textContent).toBe(action)
    await close()
  }
})

test('what a banner offers is done', async () => {
  show({ connection: 'offline' }, { words_pending: true, notices: ['state_put_back'] })
  find('offline-banner')?.querySelector('button')?.click()
  find('words-show')?.click()
  const dismiss = find('notice-state_put_back')?.querySelector('button')
  expect(dismiss?.getAttribute('aria-label')).toBe('Dismiss')
  dismiss?.click()
  expect(backend.reconnect).toHaveBeenCalledTimes(1)
  expect(onwords).toHaveBeenCalledTimes(1)
  expect(backend.dismiss.mock.calls).toEqual([['state_put_back']])
  await close()

  show({}, { notices: ['vault_damaged'] })
  find('repair-open')?.click()
  expect([messenger.gate, messenger.brokenCode]).toEqual(['broken', 'vault_damaged'])
})

test('that nothing can be stored stands above everything else, until it can', () => {
  show({ storage_fault: 'disk_full', connection: 'offline', offered_key: null })
  expect(banners()[0]).toBe(find('storage-banner'))
  expect(find('storage-banner')?.textContent).toBe(
    'The disk is full. Nothing is received or sent until there is room. Free some space; Mildam then goes on by itself.',
  )
  backend.tell({ event: 'state', state: clientState() })
  flushSync()
  expect(banners()).toEqual([])
})

test('each fault of storage has its words, and one that is not known has some, too', async () => {
  const words = async (storage_fault: string) => {
    show({ storage_fault })
    const text = find('storage-banner')?.textContent
    await close()
    return text
  }
  expect(await words('disk_failed')).toMatch(/^The disk cannot be written\..* by itself\.$/)
  const other = await words('vault_damaged')
  expect(other).toMatch(/Restart Mildam\.$/)
  for (const code of ['', 'constructor', 'disk_on_fire']) expect(await words(code)).toBe(other)
  i18n.language = 'ko'
  expect(await words('disk_full')).toContain('공간을 비우면 저절로 이어져요.')
  expect(await words('disk_failed')).toContain('디스크에 쓸 수 없어요.')
  expect(await words('disk_on_fire')).toContain('밀담을 다시 시작해 주세요.')
})

async function write(text: string) {
  composer().value = text
  composer().dispatchEvent(new InputEvent('input', { bubbles: true }))
  flushSync()
}

test('what cannot be stored stays in the box, and it is told why', async () => {
  const told = {
    disk_full: 'The disk is full. Free some space and try again.',
    disk_failed: 'The disk cannot be written. Check it and try again.',
  }
  messenger.rooms = [roomView()]
  await messenger.open('room')
  show()
  for (const [code, text] of Object.entries(told)) {
    backend.send.mockRejectedValue({ code, message: '', details: {} })
    await write('hello')
    find('send')?.click()
    await vi.waitFor(() => expect(messenger.toast).toBe(text))
    flushSync()
    expect(composer().value).toBe('hello')
    expect((find('send') as HTMLButtonElement).disabled).toBe(false)
  }
  // It can be sent from there.
  await write('hello')
  find('send')?.click()
  expect(backend.send).toHaveBeenLastCalledWith('room', 'hello')
})

test('what is written until the answer comes is not lost, nor what was to be sent', async () => {
  let refuse: (error: unknown) => void = () => {}
  backend.send.mockReturnValue(new Promise((_, reject) => (refuse = reject)))
  messenger.rooms = [roomView()]
  await messenger.open('room')
  show()
  await write('hello')
  find('send')?.click()
  flushSync()
  expect(composer().value).toBe('')
  await write('and more')
  refuse({ code: 'disk_full', message: '', details: {} })
  await vi.waitFor(() => {
    flushSync()
    expect(composer().value).toBe('hello\nand more')
  })
})

import { flushSync, mount, tick, unmount } from 'svelte'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { clientState, messageView, roomView } from '../../test/views'
import type { MessageView, RoomView } from '../backend/views'
import { i18n } from '../i18n/i18n.svelte'
import { messenger } from '../state/messenger.svelte'
import MainView from '../views/MainView.svelte'
import RoomRow from './RoomRow.svelte'

const backend = await vi.hoisted(async () => {
  const { standIn } = await import('../../test/backend')
  return standIn({
    lines: [] as MessageView[],
    history: () => Promise.resolve({ messages: [...backend.lines], more: false }),
    retrySend: vi.fn(),
    discardSend: vi.fn(),
  })
})
vi.mock('../backend/tauri', () => ({ backend }))

// Text areas have no layout here, and so no line height.
vi.stubGlobal('getComputedStyle', () => ({ lineHeight: '20px' }))

const own = (of: Partial<MessageView>): MessageView =>
  messageView({ id: 'own', from: 'alice', seq: null, state: 'failed', failure: 'too_long', ...of })

let shown: ReturnType<typeof mount>[] = []

beforeEach(async () => {
  i18n.language = 'en'
  backend.retrySend.mockReset().mockResolvedValue(own({ state: 'pending', failure: null }))
  backend.discardSend.mockReset().mockResolvedValue('hello')
  await messenger.start()
  messenger.client = clientState()
})

afterEach(async () => {
  for (const one of shown) await unmount(one)
  shown = []
  document.body.replaceChildren()
  messenger.rooms = []
  messenger.toast = null
  messenger.conversation = null
  vi.useRealTimers()
})

/** The window with a room in which these lines stand. */
async function open(lines: MessageView[], room: Partial<RoomView> = {}) {
  backend.lines = lines
  messenger.rooms = [roomView(room)]
  await messenger.open('room')
  if (messenger.conversation) messenger.conversation.draft = ''
  shown.push(mount(MainView, { target: document.body, props: { onwords: () => {} } }))
  flushSync()
}

const find = (testid: string) => document.querySelector<HTMLElement>(`[data-testid="${testid}"]`)
const count = (testid: string) => document.querySelectorAll(`[data-testid="${testid}"]`).length
const composer = () => find('composer') as HTMLTextAreaElement

async function press(testid: string) {
  const button = find(testid)
  button?.focus()
  button?.click()
  await settled()
}

async function settled() {
  for (let turn = 0; turn < 5; turn++) await Promise.resolve()
  await tick()
}

test('a message that could not be sent says why, and what can be done', async () => {
  await open([messageView(), own({})])
  expect(count('failed')).toBe(1)
  expect(find('failed')?.textContent).toMatch(/^Not sent: This is too long\./)
  const buttons = [...(find('failed')?.querySelectorAll('button') ?? [])]
  expect(buttons.map((one) => one.textContent)).toEqual(['Try again', 'Edit', 'Discard'])
  i18n.language = 'ko'
  flushSync()
  expect(find('failed')?.textContent).toContain('보내지 못했어요: 너무 길어요.')
  expect(buttons.map((one) => one.textContent)).toEqual(['다시 보내기', '고치기', '지우기'])
})

test('without a reason it says that it was not sent', async () => {
  await open([own({ failure: null })])
  expect(find('failed')?.querySelector('span')?.textContent).toBe('Not sent')
})

test('it is tried again, and what events tell meanwhile is not undone by the answer', async () => {
  await open([own({})])
  backend.retrySend.mockImplementation(() => {
    backend.tell({ event: 'message', message: own({ seq: 2, state: 'stored', failure: null }) })
    return Promise.resolve(own({ state: 'pending', failure: null }))
  })
  await press('retry')
  expect(backend.retrySend.mock.calls).toEqual([['room', 'own']])
  expect(find('message')?.dataset['state']).toBe('stored')
  expect(count('failed')).toBe(0)
  expect(document.activeElement).toBe(composer())
})

test('it is discarded once, however often one presses', async () => {
  await open([messageView(), own({})])
  find('discard')?.click()
  await press('discard')
  expect(backend.discardSend.mock.calls).toEqual([['room', 'own']])
  backend.tell({ event: 'message_gone', room: 'room', id: 'own' })
  flushSync()
  expect([count('message'), count('failed')]).toEqual([1, 0])
  expect(composer().value).toBe('')
  expect(document.activeElement).toBe(composer())
})

test('to be edited, it comes back into the box, before what is written there', async () => {
  await open([own({})])
  await press('edit')
  expect(backend.discardSend.mock.calls).toEqual([['room', 'own']])
  expect(composer().value).toBe('hello')
  expect(document.activeElement).toBe(composer())
  backend.discardSend.mockResolvedValue('one\ntwo')
  await press('edit')
  expect(composer().value).toBe('one\ntwo\nhello')
})

test('the text comes back into the room that it was written in', async () => {
  await open([own({})])
  messenger.rooms = [...messenger.rooms, roomView({ room: 'other' })]
  let answer: (text: string) => void = () => {}
  backend.discardSend.mockReturnValue(new Promise<string>((resolve) => (answer = resolve)))
  await press('edit')
  await messenger.open('other')
  answer('hello')
  await settled()
  expect(messenger.conversation?.draft).toBe('')
  await messenger.open('room')
  expect(messenger.conversation?.draft).toBe('hello')
})

test('what may have been sent stays, and it is told', async () => {
  await open([own({})])
  backend.discardSend.mockRejectedValue({ code: 'on_its_way', message: '', details: {} })
  await press('edit')
  expect(messenger.toast).toBe('It may have been sent already.')
  expect([count('message'), composer().value]).toEqual([1, ''])
  // It can be tried again.
  await press('discard')
  expect(backend.discardSend).toHaveBeenCalledTimes(2)
})

test('where nothing can be written, nothing is put into the box', async () => {
  for (const room of [{ left: true }, { blocked: 'log_mismatch' }]) {
    await open([own({ failure: 'not_member' })], room)
    expect([count('edit'), count('discard')]).toEqual([0, 1])
    for (const one of shown.splice(0)) await unmount(one)
  }
})

test('a message that waits can be taken back after a minute', async () => {
  vi.useFakeTimers()
  const waiting = (id: string, sent_at: number) =>
    own({ id, sent_at, state: 'pending', failure: null })
  await open([waiting('young', Date.now() - 1_000), waiting('future', Date.now() + 1e12)])
  expect([count('edit'), count('discard')]).toEqual([0, 0])
  vi.advanceTimersByTime(59_000)
  flushSync()
  expect([count('retry'), count('edit'), count('discard')]).toEqual([0, 1, 1])
  // The clock was set back since: it is as late after a minute here.
  vi.advanceTimersByTime(1_000)
  flushSync()
  expect([count('retry'), count('edit'), count('discard')]).toEqual([0, 2, 2])
  expect(count('failed')).toBe(0)
})

test('only what waits is gone, whatever ids others choose', async () => {
  await open([messageView({ id: 'own' }), own({}), own({ id: 'two' })])
  backend.tell({ event: 'message_gone', room: 'elsewhere', id: 'two' })
  backend.tell({ event: 'message_gone', room: 'room', id: 'own' })
  expect(messenger.conversation?.lines.map((line) => [line.id, line.seq])).toEqual([
    ['own', 1],
    ['two', null],
  ])
})

test('a row tells how many messages were not sent, beside how many were not read', () => {
  const mark = (room: Partial<RoomView>) => {
    document.body.replaceChildren()
    shown.push(mount(RoomRow, { target: document.body, props: { room: roomView(room) } }))
    flushSync()
    return find('failed-mark')?.getAttribute('aria-label')
  }
  expect(mark({})).toBe(undefined)
  expect(mark({ failed: 1 })).toBe('1 message not sent')
  // The last message has no mark of its own then.
  expect(mark({ failed: 2, last: own({}) })).toBe('2 messages not sent')
  expect(document.querySelectorAll('[role="img"]').length).toBe(1)
  expect(mark({ failed: 2, unread: 3 })).toBe('2 messages not sent')
  expect(find('room-row')?.textContent).toContain('3')
  i18n.language = 'ko'
  expect(mark({ failed: 2 })).toBe('보내지 못한 메시지 2개')
})

import fc from 'fast-check'
import { flushSync, mount, tick, unmount, type Component } from 'svelte'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import {
  clientState,
  CONTENTS,
  faults,
  friends,
  friendView,
  hits,
  memberView,
  messages,
  messageView,
  NUMBERS,
  numbers,
  requestView,
  rooms,
  roomView,
  TEXTS,
} from '../../test/views'
import type { MessageView, RoomView, SearchHit } from '../backend/views'
import { i18n } from '../i18n/i18n.svelte'
import { Conversation, messenger } from '../state/messenger.svelte'
import MainView from '../views/MainView.svelte'
import ClockBanner from './ClockBanner.svelte'
import ConversationPane from './ConversationPane.svelte'
import Details from './Details.svelte'
import FriendsPanel from './FriendsPanel.svelte'
import MessageBubble from './MessageBubble.svelte'
import RoomRow from './RoomRow.svelte'
import SearchHits from './SearchHits.svelte'
import Sidebar from './Sidebar.svelte'

// Text areas have no layout here, and so no line height.
vi.stubGlobal('getComputedStyle', () => ({ lineHeight: '20px' }))

let shown: ReturnType<typeof mount>[] = []
beforeEach(() => {
  i18n.language = 'en'
  messenger.client = clientState()
  vi.spyOn(console, 'error').mockImplementation(() => {})
})
afterEach(async () => {
  await clear()
  messenger.rooms = []
  messenger.hits = null
  messenger.conversation = null
  messenger.friends = { friends: [], incoming: [], outgoing: [] }
  vi.restoreAllMocks()
})

function show<Props extends Record<string, unknown>>(of: Component<Props>, props: Props) {
  shown.push(mount(of, { target: document.body, props }))
  flushSync()
}

async function clear() {
  for (const one of shown) await unmount(one)
  shown = []
  document.body.replaceChildren()
}

const all = (testid: string) => [...document.querySelectorAll(`[data-testid="${testid}"]`)]
const count = (testid: string) => all(testid).length

/** So many are drawn, and nothing is left out. */
function expectWhole(testid: string, wanted: number) {
  expect(count('not-shown')).toBe(0)
  expect(count(testid)).toBe(wanted)
  expect(document.body.textContent).not.toContain('undefined')
}

/** What cannot be drawn at all, whatever it is. */
const poison = null as never
const line = (of: Partial<MessageView>, at: number) => messageView({ id: `m${at}`, ...of })

const badMessages = [
  ...NUMBERS.flatMap((value) => [
    { sent_at: value },
    { sent_at: value, seq: null, state: 'pending' } as const,
    { seq: value },
    { content: { kind: 'text', text: 'hello', missing_before: value } as const },
  ]),
  ...TEXTS.flatMap((text) => [
    { from: text },
    { state: text as never },
    { state: 'failed', failure: text } as const,
    { content: { kind: 'text', text, missing_before: 0 } as const },
    { content: { kind: 'refused', code: text } as const },
    { content: { kind: text } as never },
  ]),
  ...CONTENTS.map((content) => ({ content })),
].map(line)

function badRooms(): RoomView[] {
  const fields: Partial<RoomView>[] = [
    ...badMessages.map((last) => ({ last })),
    ...NUMBERS.map((unread) => ({ unread })),
    ...NUMBERS.map((failed) => ({ failed })),
    ...TEXTS.flatMap((text) => [{ name: text }, { blocked: text }, { kind: text as never }]),
    { members: [] },
    { members: [], kind: 'direct' },
    { members: TEXTS.map((nickname, at) => memberView(`m${at}`, { nickname })) },
    ...TEXTS.map((account) => ({
      members: [memberView(account)],
      kind: 'direct' as const,
    })),
    { members: Array.from({ length: 5000 }, (_, at) => memberView(`member${at}`)) },
    { last: null },
  ]
  return fields.map((of, at) => roomView({ room: `room${at}`, ...of }))
}

test('a room row is drawn with every value of every field', async () => {
  const list = badRooms()
  // Nearly all have one name: most have something beside it as soon as two of that name are known.
  const twins = ['one', 'two'].map((room) => roomView({ room }))
  for (const known of [[], twins]) {
    messenger.rooms = known
    for (const room of list) show(RoomRow, { room })
    expectWhole('room-row', list.length)
    expect(all('room-row').every((row) => row.textContent !== '')).toBe(true)
    expect(count('beside') > list.length / 2).toBe(known === twins)
    await clear()
  }
})

test('a room row tells who wrote last', () => {
  show(RoomRow, { room: roomView() })
  expect(all('room-row')[0]?.textContent).toContain('bob:\u00a0hello')
})

test('rooms stay in the list beside one that has a time that is none', () => {
  const last = messageView({ sent_at: 9e15 })
  messenger.rooms = ['a', 'b', 'c'].map((room) =>
    roomView(room === 'b' ? { room, last } : { room }),
  )
  show(Sidebar, { onwords: () => {} })
  expectWhole('room-row', 3)
  expect(all('room-row')[1]?.querySelector('time')?.dateTime).toMatch(/^9999-/)
})

test('rooms stay in the list beside one that cannot be drawn, until it can', async () => {
  const bad = roomView({ room: 'b', last: messageView({ content: poison }) })
  messenger.rooms = [roomView({ room: 'a' }), bad, roomView({ room: 'c' })]
  show(Sidebar, { onwords: () => {} })
  expect([count('room-row'), count('not-shown')]).toEqual([2, 1])
  expect(all('not-shown')[0]?.textContent).toBe('This cannot be shown')

  // Another bad one in its place changes nothing.
  messenger.rooms = messenger.rooms.with(1, { ...bad, unread: 3 })
  await tick()
  await tick()
  expect([count('room-row'), count('not-shown')]).toEqual([2, 1])

  // A change inside of it is enough.
  const inside = messenger.rooms[1]?.last
  if (inside) inside.content = { kind: 'room_created' }
  await tick()
  await tick()
  expectWhole('room-row', 3)

  // What was drawn before can become bad as well, and good again.
  messenger.rooms = messenger.rooms.with(0, { ...bad, room: 'a' })
  await tick()
  expect([count('room-row'), count('not-shown')]).toEqual([2, 1])
  messenger.rooms = messenger.rooms.with(0, roomView({ room: 'a' }))
  await tick()
  await tick()
  expectWhole('room-row', 3)
  expect(all('room-row')[0]?.getAttribute('data-room')).toBe('a')
})

test('the window stays where a whole part of it cannot be drawn, until it can', async () => {
  const room = roomView({ members: poison })
  messenger.rooms = [room]
  messenger.conversation = new Conversation('room')
  show(MainView, { onwords: () => {} })
  // The row in the list and the pane.
  expect(count('not-shown')).toBe(2)
  expect(count('search-input')).toBe(1)
  messenger.rooms = [roomView()]
  await tick()
  await tick()
  expectWhole('room-row', 1)
  expect(count('composer')).toBe(1)
})

test('a message is drawn with every value of every field', () => {
  const texts = badMessages.filter((message) => message.content.kind === 'text')
  for (const message of texts) {
    show(MessageBubble, { message, showName: true, continues: false, target: true })
  }
  expectWhole('message', texts.length)
})

function conversationOf(lines: MessageView[]): Conversation {
  const conversation = new Conversation('room')
  conversation.lines = lines
  return conversation
}

const pane = (room: RoomView, conversation: Conversation) =>
  show(ConversationPane, { room, conversation, ondetails: () => {} })

test('a conversation is drawn with every value of every field', () => {
  // All of them have one id, too.
  const lines = badMessages.map((message) => ({ ...message, id: 'same' }))
  pane(roomView(), conversationOf(lines))
  expect(count('message') + count('notice')).toBe(lines.length)
  expect(count('not-shown')).toBe(0)
  expect(count('composer')).toBe(1)
})

test('lines stay beside one that cannot be drawn, until it can', async () => {
  const lines = [{}, { content: poison }, {}].map(line)
  const conversation = conversationOf(lines)
  pane(roomView(), conversation)
  expect(count('message')).toBe(2)
  expect(count('not-shown')).toBe(1)
  expect(count('composer')).toBe(1)
  conversation.take(line({}, 1))
  await tick()
  await tick()
  expectWhole('message', 3)
})

test('a long conversation is drawn', () => {
  pane(roomView(), conversationOf(Array.from({ length: 300 }, (_, at) => line({ seq: at }, at))))
  expectWhole('message', 300)
})

test('search hits are drawn with every value of every field', async () => {
  const hit = (of: Partial<SearchHit>): SearchHit => ({
    message: messageView(),
    room_name: 'A room',
    ranges: [[0, 2]],
    ...of,
  })
  const list = [
    ...badMessages.map((message) => hit({ message })),
    ...TEXTS.map((room_name) => hit({ room_name })),
    ...NUMBERS.flatMap((one) => NUMBERS.map((two) => hit({ ranges: [[one, two]] }))),
    hit({ ranges: [] }),
    hit({ ranges: Array.from({ length: 5000 }, () => [1, 2]) }),
  ]
  show(SearchHits, { hits: list, query: '\u202e' })
  expectWhole('search-hit', list.length)
  await clear()
  show(SearchHits, { hits: [hit({}), hit({ ranges: poison }), hit({})], query: 'hello' })
  expect([count('search-hit'), count('not-shown')]).toEqual([2, 1])
})

test('friends stay in the list beside one that cannot be drawn', () => {
  const friend = (account: string, nickname = account) =>
    friendView(account, { nickname, look: 'same' })
  const request = (account: string, nickname = account) =>
    requestView(account, { nickname, greeting: '\u202e', requested_at: 9e15, look: 'same' })
  messenger.friends = {
    friends: [...TEXTS.map((text) => friend(text, text)), friend('bob'), friend('bob')],
    incoming: [request('carol'), request('dave', poison), request('carol')],
    outgoing: TEXTS.map((text) => request('erin', text)),
  }
  show(FriendsPanel, { onopen: () => {} })
  expect(count('friend-row')).toBe(TEXTS.length + 2)
  expect(count('friend-request')).toBe(2)
  expect(count('friend-asked')).toBe(TEXTS.length)
  expect(count('not-shown')).toBe(1)
})

test('a clock that differs is told of, in words', async () => {
  const banner = async (clock_ahead: number | null) => {
    messenger.client = clientState({ clock_ahead })
    await clear()
    show(ClockBanner, {})
    return all('clock-banner')[0]?.textContent
  }
  expect(await banner(null)).toBe(undefined)
  expect(await banner(NaN)).toBe(undefined)
  expect(await banner(3 * 86_400_000)).toBe(
    'This computer’s clock is 3 days ahead of the server’s. Times may be shown wrong; set the clock.',
  )
  i18n.language = 'ko'
  expect(await banner(3 * 86_400_000)).toBe(
    '이 컴퓨터의 시계가 서버보다 3일 빨라요. 시간이 잘못 표시될 수 있으니 시계를 맞춰 주세요.',
  )
  expect(await banner(-600_000)).toContain('10분 느려요')
  for (const value of NUMBERS) expect(await banner(value)).not.toBe(null)
})

test('whatever others tell, all of it is drawn', async () => {
  const views = fc.record({
    list: fc.uniqueArray(rooms, { maxLength: 2, selector: (room) => room.room }),
    lines: fc.array(messages, { maxLength: 5 }),
    found: fc.array(hits, { minLength: 1, maxLength: 3 }),
    people: friends,
    clock_ahead: fc.option(numbers),
    storage_fault: faults,
    language: fc.constantFrom('en', 'ko'),
  })
  await fc.assert(
    fc.asyncProperty(
      views,
      async ({ list, lines, found, people, clock_ahead, storage_fault, language }) => {
        i18n.language = language
        messenger.client = clientState({ clock_ahead, storage_fault })
        messenger.rooms = list
        messenger.friends = people
        messenger.hits = null
        show(Sidebar, { onwords: () => {} })
        expectWhole('room-row', list.length)
        expect(count('storage-banner')).toBe(storage_fault === null ? 0 : 1)
        show(FriendsPanel, { onopen: () => {} })
        expectWhole('friend-row', people.friends.length)
        show(SearchHits, { hits: found, query: '' })
        expectWhole('search-hit', found.length)
        for (const room of list) {
          show(Details, { room, onclose: () => {} })
          pane(room, conversationOf(lines))
        }
        expect(count('not-shown')).toBe(0)
        expect(count('message') + count('notice')).toBe(lines.length * list.length)
        await clear()
      },
    ),
    // What fails is told with the seed that makes it fail again.
    { numRuns: 60, interruptAfterTimeLimit: 3000 },
  )
}, 20_000)

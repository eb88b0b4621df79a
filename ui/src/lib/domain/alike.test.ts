import { flushSync, mount, unmount, type Component } from 'svelte'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import {
  clientState,
  friendView,
  lookOf,
  memberView,
  messageView,
  requestView,
  roomView,
} from '../../test/views'
import type { ContactView, FriendView, MemberView, RoomView } from '../backend/views'
import { i18n } from '../i18n/i18n.svelte'
import { Conversation, messenger } from '../state/messenger.svelte'
import ConversationPane from './ConversationPane.svelte'
import Details from './Details.svelte'
import FriendPicker from './FriendPicker.svelte'
import FriendsPanel from './FriendsPanel.svelte'
import MessageBubble from './MessageBubble.svelte'
import RoomRow from './RoomRow.svelte'
import SearchHitRow from './SearchHitRow.svelte'

const backend = vi.hoisted(() => ({
  listen: () => Promise.resolve(() => {}),
  listenLinks: () => Promise.resolve(() => {}),
  takeInvitation: vi.fn(),
  boot: vi.fn(),
  contact: vi.fn(),
}))
vi.mock('../backend/tauri', () => ({ backend }))

// Text areas have no layout here, and so no line height.
vi.stubGlobal('getComputedStyle', () => ({ lineHeight: '20px' }))

const NAME = 'Minjun Kim'
const BOTH = 'Minjun Kim · minjun_k'
/** The same to look at, with two Cyrillic letters: the backend folds both names to one look. */
const CYRILLIC = { nickname: '\u041cinjun \u041aim', look: lookOf(NAME) }
let shown: ReturnType<typeof mount>[] = []

beforeEach(() => {
  i18n.language = 'en'
  messenger.client = clientState()
  backend.takeInvitation.mockReset().mockResolvedValue(null)
  // Dialogs have no top layer here.
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true
  }
})

afterEach(async () => {
  for (const one of shown) await unmount(one)
  shown = []
  document.body.replaceChildren()
  messenger.rooms = []
  messenger.friends = { friends: [], incoming: [], outgoing: [] }
  messenger.presence.show({ visible: true, online: [] })
})

function show<Props extends Record<string, unknown>>(of: Component<Props>, props: Props) {
  shown.push(mount(of, { target: document.body, props }))
  flushSync()
}

const find = (testid: string) => document.querySelector<HTMLElement>(`[data-testid="${testid}"]`)
const texts = (testid: string) =>
  [...document.querySelectorAll(`[data-testid="${testid}"]`)].map((one) => one.textContent)
const minjun = friendView('minjun_k', { nickname: NAME })
const twin = friendView('minjun_t', { nickname: NAME })
const member = (): MemberView => memberView('minjun_k', { nickname: NAME })
const direct = (): RoomView =>
  roomView({ kind: 'direct', name: NAME, members: [memberView('alice'), member()] })
const group = (others: number): RoomView =>
  roomView({
    room: `of ${others}`,
    name: 'Family',
    members: [
      memberView('alice'),
      ...Array.from({ length: others }, (_, at) =>
        memberView(`m${at}`, { nickname: `Name ${at}` }),
      ),
    ],
  })

function befriend(...friends: FriendView[]) {
  messenger.friends = { friends, incoming: [], outgoing: [] }
  flushSync()
}

test('friends whose names look alike have their id beside, for eyes and ears', () => {
  const of = { nickname: NAME }
  const bob = friendView('bob', { nickname: 'Bob' })
  messenger.friends = {
    friends: [minjun, bob],
    incoming: [requestView('minjun_q', CYRILLIC)],
    outgoing: [requestView('minjun_r', of)],
  }
  messenger.presence.show({ visible: true, online: ['minjun_k'] })
  show(FriendsPanel, { onopen: () => {} })
  expect(texts('beside')).toEqual(['minjun_q', 'minjun_k', 'minjun_r'])
  expect(find('friend-row')?.textContent).toContain(BOTH)
  // The id is not said twice.
  expect(find('friend-row')?.textContent.match(/minjun_k/g)).toHaveLength(1)
  expect(texts('friend-row')[1]).toMatch(/Bob\s*bob$/)
  expect(find('friend-request')?.textContent).toContain(`${CYRILLIC.nickname} · minjun_q`)
  expect(find('friend-request')?.textContent.match(/minjun_q/g)).toHaveLength(1)
  expect(find('friend-asked')?.textContent).toContain('Minjun Kim · minjun_r')
  const labels = () =>
    [...document.querySelectorAll('[data-testid="friend-row"]')].map((one) =>
      one.getAttribute('aria-label'),
    )
  expect(labels()).toEqual([`Open a room with ${BOTH}, online`, 'Open a room with Bob'])
  i18n.language = 'ko'
  flushSync()
  expect(find('friend-row')?.getAttribute('aria-label')).toBe(`${BOTH} 님과 대화 열기, 온라인`)

  // Without the others, the id stands below, as it does with everybody.
  i18n.language = 'en'
  befriend(minjun, bob)
  expect(texts('beside')).toEqual([])
  expect(find('friend-row')?.textContent).toMatch(/Minjun Kim\s*minjun_k$/)
  expect(labels()).toEqual(['Open a room with Minjun Kim, online', 'Open a room with Bob'])
})

test('a name in Cyrillic letters is told from one in Latin letters, until it goes', () => {
  const cyrillic = friendView('minjun_c', CYRILLIC)
  befriend(minjun, cyrillic)
  show(FriendsPanel, { onopen: () => {} })
  expect(texts('beside')).toEqual(['minjun_k', 'minjun_c'])
  befriend(cyrillic)
  expect(texts('beside')).toEqual([])
  // It comes back with another one, wherever that is.
  messenger.rooms = [roomView({ members: [member()] })]
  flushSync()
  expect(texts('beside')).toEqual(['minjun_c'])
})

test('somebody with the name of the own account has the id beside', () => {
  befriend(friendView('alice_2', { nickname: 'Alice' }))
  show(FriendsPanel, { onopen: () => {} })
  expect(texts('beside')).toEqual(['alice_2'])
  messenger.client = clientState({
    account: { ...clientState().account!, nickname: 'Alicia', look: 'alicia' },
  })
  flushSync()
  expect(texts('beside')).toEqual([])
})

test('one who is picked is known by the id', () => {
  befriend(minjun, friendView('bob'), twin)
  show(FriendPicker, { without: ['minjun_t'] })
  const labels = [...document.querySelectorAll('label')].map((one) => one.textContent)
  expect(labels[0]).toContain(BOTH)
  expect(texts('beside')).toEqual(['minjun_k'])
  befriend(minjun, friendView('bob'))
  expect(texts('beside')).toEqual([])
})

test('a room for two has the id of the other beside, in the list and above the conversation', () => {
  messenger.rooms = [direct()]
  befriend(minjun, friendView('minjun_c', CYRILLIC))
  show(RoomRow, { room: direct() })
  show(ConversationPane, {
    room: direct(),
    conversation: new Conversation('room'),
    ondetails: () => {},
  })
  expect(find('room-row')?.textContent).toContain(BOTH)
  expect(find('room-name')?.textContent).toContain(BOTH)
  befriend(minjun)
  expect(texts('beside')).toEqual([])
})

test('whose identity changed is told by the id, where it is decided about', () => {
  const changed = { ...member(), trust: 'changed' as const }
  const room = roomView({ members: [changed], blocked: 'identity_changed' })
  messenger.rooms = [room]
  befriend(minjun, twin)
  show(ConversationPane, { room, conversation: new Conversation('room'), ondetails: () => {} })
  expect(find('blocked')?.textContent).toContain(BOTH)
  befriend(minjun)
  expect(find('blocked')?.textContent).toContain(NAME)
  expect(find('blocked')?.textContent).not.toContain(BOTH)
})

test('where no name looks alike, nothing stands beside it', () => {
  // One and the same, in every list.
  messenger.rooms = [direct(), roomView({ room: 'group', members: [member()] })]
  befriend(minjun, friendView('bob'))
  show(RoomRow, { room: direct() })
  show(Details, { room: roomView({ members: [member()] }), onclose: () => {} })
  show(FriendsPanel, { onopen: () => {} })
  expect(texts('beside')).toEqual([])
})

test('a group has the names of the others beside, at most three', () => {
  messenger.rooms = [0, 1, 3, 4].map(group)
  for (const room of messenger.rooms) show(RoomRow, { room })
  expect(texts('beside')).toEqual(['Name 0', 'Name 0, Name 1, Name 2', 'Name 0, Name 1, Name 2…'])
  expect(texts('room-row')[2]).toContain('Family · Name 0, Name 1, Name 2')
  // One of them alone is told from nothing.
  messenger.rooms = [group(3)]
  flushSync()
  expect(texts('beside')).toEqual([])
})

test('names of others turn nothing that stands beside them', () => {
  const room = group(2)
  room.members[1]!.nickname = '\u202eeli\u2069\n'
  messenger.rooms = [room, group(0)]
  show(RoomRow, { room })
  expect(texts('beside')).toEqual(['\u2068\u202eeli \u2069, Name 1'])
})

test('a search hit tells its room from others, if the room is at hand', () => {
  const hit = { message: messageView(), room_name: NAME, ranges: [] }
  befriend(twin)
  show(SearchHitRow, { hit })
  expect(texts('beside')).toEqual([])
  messenger.rooms = [direct()]
  flushSync()
  expect(find('search-hit')?.textContent).toContain(BOTH)
  befriend()
  expect(texts('beside')).toEqual([])
})

test('members whose names look alike are told apart, and so are their safety numbers', async () => {
  const number = { groups: [], qr_path: '', qr_size: 1 }
  backend.contact.mockResolvedValue({
    account: 'minjun_k',
    nickname: NAME,
    trust: 'unverified',
    was_verified: false,
    safety_number: number,
    offered: null,
    devices: [],
  } satisfies ContactView)
  const room = roomView({
    members: [memberView('alice'), member(), memberView('minjun_c', CYRILLIC)],
  })
  messenger.rooms = [room]
  show(Details, { room, onclose: () => {} })
  expect(texts('beside')).toEqual(['minjun_k', 'minjun_c'])
  expect(find('open-safety')?.getAttribute('aria-label')).toBe(`Safety number with ${BOTH}`)
  find('open-safety')?.click()
  const title = () => document.querySelector('dialog h2')?.textContent
  await vi.waitFor(() => {
    flushSync()
    expect(title()).toBe(`Safety number with ${BOTH}`)
  })
  messenger.rooms = [roomView({ members: [memberView('alice'), member()] })]
  flushSync()
  expect(texts('beside')).toEqual([])
  expect(title()).toBe(`Safety number with ${NAME}`)
})

test('a message in a group tells which of two it is from', () => {
  const message = messageView({ from: 'minjun_k' })
  messenger.rooms = [roomView({ members: [member()] })]
  befriend(twin)
  show(MessageBubble, { message, showName: true, continues: false, target: false })
  expect(find('message')?.textContent).toContain(BOTH)
  befriend()
  expect(texts('beside')).toEqual([])
})

test('an invitation tells which friend it is from', async () => {
  const { server } = clientState()
  let friends = [minjun, friendView('minjun_c', CYRILLIC)]
  backend.boot.mockResolvedValue('open')
  Object.assign(backend, {
    state: () => Promise.resolve(clientState()),
    friends: () => Promise.resolve({ friends, incoming: [], outgoing: [] }),
    rooms: () => Promise.resolve([]),
    presence: () => Promise.resolve({ visible: true, online: [] }),
  })
  backend.takeInvitation.mockResolvedValue({ ...server, account: 'minjun_k' })
  await messenger.start()
  expect(messenger.toast).toBe(`You and ${BOTH} are friends already.`)
  friends = [minjun]
  await messenger.start()
  expect(messenger.toast).toBe(`You and ${NAME} are friends already.`)
})

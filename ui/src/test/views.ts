// Views as the backend could tell them, and as badly as others could make them.
import fc from 'fast-check'

import type {
  ClientState,
  FriendRequestView,
  FriendsView,
  FriendView,
  MemberView,
  MessageContent,
  MessageState,
  MessageView,
  RoomKindView,
  RoomView,
  SearchHit,
  TrustView,
} from '../lib/backend/views'

export const NUMBERS = [
  NaN,
  Infinity,
  -Infinity,
  -1,
  -0.5,
  0,
  1.5,
  100,
  8.64e15,
  9e15,
  2 ** 53,
  1e308,
  Date.UTC(2026, 0, 1),
]

export const TEXTS = [
  '',
  ' ',
  'x'.repeat(100_000),
  '\u202e\u202eeli.exe',
  '\u2069\u2069\u2067\u202eturned',
  '\u2066'.repeat(200),
  '\u200b\u200d\ufeff',
  '\ud800',
  'half \udfff half \ud83d',
  '\0nul\0',
  'one\u2029\u202etwo\r\nthree',
  '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466}'.repeat(50),
  'שלום עולם',
  '{name} {count} $& $1',
  '__proto__',
  '한국어 이름',
]

export const CONTENTS: MessageContent[] = [
  { kind: 'text', text: '', missing_before: 1e308 },
  { kind: 'room_created' },
  { kind: 'members_added', accounts: [] },
  { kind: 'members_added', accounts: Array.from({ length: 5000 }, (_, at) => `a${at}`) },
  { kind: 'member_left' },
  { kind: 'refused', code: 'constructor' },
  { kind: 'before_device' },
  { kind: 'needs_newer_version' },
  { kind: 'poll' } as never,
  { kind: 'constructor' } as never,
]

export function messageView(of: Partial<MessageView> = {}): MessageView {
  return {
    room: 'room',
    seq: 1,
    id: 'message',
    from: 'bob',
    content: { kind: 'text', text: 'hello', missing_before: 0 },
    sent_at: Date.now(),
    state: 'received',
    failure: null,
    ...of,
  }
}

/** What a name looks like, as far as it matters here: the backend folds more than capitals. */
export function lookOf(name: string): string {
  return name.toLowerCase()
}

export function memberView(account: string, of: Partial<MemberView> = {}): MemberView {
  return {
    account,
    nickname: account,
    look: lookOf(of.nickname ?? account),
    role: 'member',
    trust: 'unverified',
    ...of,
  }
}

export function friendView(account: string, of: Partial<FriendView> = {}): FriendView {
  const look = lookOf(of.nickname ?? account)
  return { account, nickname: account, look, trust: 'unverified', ...of }
}

export function requestView(
  account: string,
  of: Partial<FriendRequestView> = {},
): FriendRequestView {
  const look = lookOf(of.nickname ?? account)
  return { account, nickname: account, look, greeting: '', requested_at: 0, ...of }
}

export function roomView(of: Partial<RoomView> = {}): RoomView {
  return {
    room: 'room',
    kind: 'group',
    name: 'A room',
    look: lookOf(of.name ?? 'A room'),
    members: [memberView('alice'), memberView('bob')],
    last: messageView(),
    unread: 0,
    failed: 0,
    left: false,
    removed: false,
    beyond_repair: false,
    replaced_by: null,
    blocked: null,
    order: [1, 1],
    ...of,
  }
}

export function clientState(of: Partial<ClientState> = {}): ClientState {
  return {
    connection: 'online',
    server: {
      link: 'mildam://host:7747/#key',
      address: 'host:7747',
      fingerprint: 'key',
      others: [],
    },
    account: {
      account: 'alice',
      nickname: 'Alice',
      look: 'alice',
      identity: 'identity',
      device: 'device',
      logged_in: true,
      words_pending: false,
      notices: [],
    },
    offered_key: null,
    transport: 'tls',
    clock_ahead: null,
    storage_fault: null,
    ...of,
  }
}

const number = fc.oneof(fc.constantFrom(...NUMBERS), fc.double())
const text = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom(...TEXTS.filter((one) => one.length < 1000)) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
)

/** One of the values that this version knows, or one that only a newer one does. */
function known<Value extends string>(...values: Value[]): fc.Arbitrary<Value> {
  return fc.oneof(fc.constantFrom(...values), text) as fc.Arbitrary<Value>
}

const account = fc.oneof(fc.constantFrom('alice', 'bob'), text)
/** Any look, and often enough one that others have as well. */
const look = fc.oneof(fc.constantFrom('same', 'twin'), text)
const trust = known<TrustView>('unverified', 'verified', 'changed')

const content = fc.oneof(
  fc.record({ kind: fc.constant('text' as const), text, missing_before: number }),
  fc.constantFrom(...CONTENTS),
  fc.record({ kind: fc.constant('refused' as const), code: text }),
  fc.record({ kind: text }) as never,
) as fc.Arbitrary<MessageContent>

export const messages: fc.Arbitrary<MessageView> = fc.record({
  room: account,
  seq: fc.oneof(fc.constant(null), number),
  id: account,
  from: account,
  content,
  sent_at: number,
  state: known<MessageState>('pending', 'failed', 'stored', 'delivered', 'read', 'received'),
  failure: fc.option(text),
})

const friend: fc.Arbitrary<FriendView> = fc.record({
  account,
  nickname: text,
  look,
  trust,
})

export const rooms: fc.Arbitrary<RoomView> = fc.record({
  room: account,
  kind: known<RoomKindView>('direct', 'group'),
  name: text,
  look,
  members: fc.array(
    friend.map((one) => ({ ...one, role: 'owner' })),
    { maxLength: 4 },
  ),
  last: fc.option(messages),
  unread: number,
  failed: number,
  left: fc.boolean(),
  removed: fc.boolean(),
  beyond_repair: fc.boolean(),
  replaced_by: fc.option(text),
  blocked: fc.option(text),
  order: fc.tuple(number, number),
})

const requests = fc.array(
  fc.record({ account, nickname: text, look, greeting: text, requested_at: number }),
  { maxLength: 4 },
)
export const friends: fc.Arbitrary<FriendsView> = fc.record({
  friends: fc.array(friend, { maxLength: 4 }),
  incoming: requests,
  outgoing: requests,
})

export const hits: fc.Arbitrary<SearchHit> = fc.record({
  message: messages,
  room_name: text,
  ranges: fc.array(fc.tuple(number, number), { maxLength: 6 }),
})

/** Of a fault of storage, and of no fault. */
export const faults = fc.option(known('disk_full', 'disk_failed', 'vault_damaged'))

export const numbers = number

import fc from 'fast-check'
import { expect, test } from 'vitest'

import {
  friends,
  friendView,
  memberView,
  requestView,
  rooms as room,
  roomView,
} from '../../test/views'
import type { FriendsView, RoomView } from '../backend/views'
import { lookalikesOf } from './names'

const OWN = { account: 'alice', look: 'alice' }
const NOBODY: FriendsView = { friends: [], incoming: [], outgoing: [] }
const LOOK = 'minjun kim'
const of = { nickname: 'Minjun Kim' }
const minjun = friendView('minjun_k', of)

const direct = (account: string, name = 'Minjun Kim') =>
  roomView({
    room: `with ${account}`,
    kind: 'direct',
    name,
    members: [memberView('alice'), memberView(account, { nickname: name })],
  })
const looks = (people: Partial<FriendsView>, rooms: RoomView[] = [], own = OWN) => [
  ...lookalikesOf(own, { ...NOBODY, ...people }, rooms),
]

test('one account counts once, in however many lists', () => {
  const one = { friends: [minjun], incoming: [requestView('minjun_k', of)] }
  const group = roomView({ members: [memberView('alice'), memberView('minjun_k', of)] })
  expect(looks(one, [direct('minjun_k'), group])).toEqual([])
})

test('a twin counts wherever it is', () => {
  const friends = [minjun]
  expect(looks({ friends: [minjun, friendView('minjun_f', of)] })).toEqual([LOOK])
  expect(looks({ friends, incoming: [requestView('minjun_i', of)] })).toEqual([LOOK])
  expect(looks({ friends, outgoing: [requestView('minjun_o', of)] })).toEqual([LOOK])
  const members = [memberView('alice'), memberView('minjun_m', of)]
  expect(looks({ friends }, [roomView({ members })])).toEqual([LOOK])
  expect(looks({ friends }, [direct('minjun_d')])).toEqual([LOOK])
  expect(looks({ friends }, [roomView({ name: 'Minjun Kim', members: [] })])).toEqual([LOOK])
})

test('it is the look that counts, and not how a name is spelt', () => {
  const cyrillic = friendView('minjun_c', { nickname: '\u041cinjun \u041aim', look: LOOK })
  expect(looks({ friends: [minjun, cyrillic] })).toEqual([LOOK])
  const other = friendView('minjun_x', { nickname: 'Minjun Kim', look: 'another' })
  expect(looks({ friends: [minjun, other] })).toEqual([])
})

test('groups count as themselves, rooms for two as the other', () => {
  const family = (room: string) => roomView({ room, name: 'Family', members: [] })
  expect(looks({}, [family('one')])).toEqual([])
  expect(looks({}, [family('one'), family('two')])).toEqual(['family'])
  expect(looks({}, [direct('minjun_k'), { ...direct('minjun_k'), room: 'again' }])).toEqual([])
  expect(looks({}, [direct('minjun_k'), direct('minjun_d')])).toEqual([LOOK])
  // An account and a room with one id are two.
  const group = roomView({ room: 'minjun_k', name: 'Minjun Kim', members: [] })
  expect(looks({ friends: [minjun] }, [group])).toEqual([LOOK])
})

test('the own account counts, as a member and before it is one', () => {
  const twin = friendView('alice_2', { nickname: 'ALICE' })
  expect(looks({ friends: [twin] })).toEqual(['alice'])
  const cyrillic = friendView('alice_3', { nickname: '\u0410lice', look: 'alice' })
  expect(looks({ friends: [cyrillic] })).toEqual(['alice'])
  const group = roomView({ members: [memberView('alice', { nickname: 'Alice' })] })
  expect(looks({}, [group])).toEqual([])
  expect([...lookalikesOf(null, { ...NOBODY, friends: [twin] }, [])]).toEqual([])
})

test('what is missing takes nothing with it', () => {
  const missing = null as never
  const friends = [missing, minjun, friendView('none', { nickname: missing, look: LOOK })]
  expect(looks({ friends, incoming: missing }, [roomView({ members: missing }), missing])).toEqual([
    LOOK,
  ])
})

test('a look is in it if, and only if, two have it', () => {
  const own = { account: 'nobody', look: '\u{1f9a9} nobody \u{1f9a9}' }
  fc.assert(
    fc.property(friends, fc.array(room, { maxLength: 4 }), (people, rooms) => {
      const everyone = [
        ...people.friends,
        ...people.incoming,
        ...people.outgoing,
        ...rooms.flatMap((one) => one.members),
      ].map(({ look, account }) => ({ look, of: `@${account}` }))
      const places = rooms.map(({ room, kind, look, members }) => {
        const other = kind === 'direct' ? members[0] : undefined
        return { look, of: other ? `@${other.account}` : `#${room}` }
      })
      const all = [...everyone, ...places]
      const twice = all
        .filter((one) => all.some((two) => two.look === one.look && two.of !== one.of))
        .map((one) => one.look)
      expect(lookalikesOf(own, people, rooms)).toEqual(new Set(twice))
    }),
    { numRuns: 300 },
  )
})

import { expect, test } from 'vitest'

import type { AccountView, ClientState, ServerView } from '../backend/views'
import { destinationOf, ownInvitation } from './invitation'

const server: ServerView = {
  link: 'mildam://host:7747/#key',
  address: 'host:7747',
  fingerprint: 'key',
  others: [],
}
const account = { account: 'alice' } as AccountView
const nobody = { friends: [], incoming: [], outgoing: [] }
const bob = { account: 'bob', nickname: 'Bob', trust: 'unverified' } as const

function invitation(fingerprint: string, from: string | null) {
  return { address: 'host:443', fingerprint, link: 'mildam://host:443/#key', account: from }
}

test('without an account it leads to the server, or to a new account there', () => {
  const on = (known: typeof server | null) =>
    destinationOf(invitation('key', 'bob'), { server: known, account: null }, nobody)
  expect(on(null)).toBe('server')
  expect(on({ ...server, fingerprint: 'another' })).toBe('server')
  expect(on(server)).toBe('sign_up')
})

test('with an account it leads to a friend on the same server, by whatever address', () => {
  const of = (from: string | null, friends = nobody) =>
    destinationOf(invitation('key', from), { server, account }, friends)
  expect(of('bob')).toBe('friend')
  expect(of(null)).toBe('here_already')
  expect(of('alice')).toBe('own')
  expect(of('bob', { ...nobody, friends: [bob] } as never)).toBe('friends_already')
})

test('another key is another server, also at the same address', () => {
  const other = { ...invitation('another', 'bob'), address: server.address }
  expect(destinationOf(other, { server, account }, nobody)).toBe('other_server')
})

test('an invitation of one’s own names the server, its key and the account', () => {
  const state = { connection: 'online', server, account } as ClientState
  expect(ownInvitation(state)).toBe('mildam://host:7747/#key/alice')
  expect(ownInvitation({ ...state, account: null })).toBe(null)
})

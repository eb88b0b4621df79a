import { beforeEach, expect, test, vi } from 'vitest'

import { clientState, messageView, roomView } from '../../test/views'
import { Conversation, messenger } from './messenger.svelte'

const backend = await vi.hoisted(async () => {
  const { standIn } = await import('../../test/backend')
  return standIn({})
})
vi.mock('../backend/tauri', () => ({ backend }))

beforeEach(async () => {
  messenger.rooms = []
  await messenger.start()
})

const order = () => messenger.rooms.map((room) => room.room)
const tell = (room: string, order: [number, number], sent_at = 0) =>
  backend.tell({ event: 'room', room: roomView({ room, order, last: messageView({ sent_at }) }) })

test('rooms stand in the order in which something arrived, whatever the clocks of senders say', () => {
  tell('old', [1, 900], 9e15)
  tell('first', [2, 10], Infinity)
  tell('second', [2, 20], -1)
  expect(order()).toEqual(['second', 'first', 'old'])
  tell('old', [2, 30], NaN)
  expect(order()).toEqual(['old', 'second', 'first'])
})

test('a room that changes without an arrival stays where it is', () => {
  tell('one', [1, 5])
  tell('two', [1, 5])
  tell('three', [1, 5])
  expect(order()).toEqual(['three', 'two', 'one'])
  tell('one', [1, 5])
  expect(order()).toEqual(['three', 'two', 'one'])
})

test('nobody takes the place of another message by its id', () => {
  const conversation = new Conversation('room')
  conversation.take(messageView({ id: 'same', from: 'bob', seq: 1 }))
  conversation.take(messageView({ id: 'same', from: 'carol', seq: 2 }))
  conversation.take(messageView({ id: 'same', from: 'carol', seq: 3 }))
  expect(conversation.lines.map((line) => line.seq)).toEqual([1, 2, 3])
  conversation.take(messageView({ id: 'own', from: 'alice', seq: null, state: 'pending' }))
  conversation.take(messageView({ id: 'own', from: 'alice', seq: 4, state: 'stored' }))
  expect(conversation.lines.map((line) => line.seq)).toEqual([1, 2, 3, 4])
})

test('an event that comes while a view is read does not give way to it', async () => {
  const state = (connection: 'connected' | 'online') => clientState({ connection, account: null })
  const replies = [state('connected'), state('online')]
  const asked = vi.fn(() => {
    const reply = replies.shift()!
    // The relay answers between the reading of the first view and its arrival here.
    if (reply.connection === 'connected') backend.tell({ event: 'state', state: state('online') })
    return Promise.resolve(reply)
  })
  Object.assign(backend, { state: asked })
  await messenger.reload()
  expect(messenger.client?.connection).toBe('online')
  expect(asked).toHaveBeenCalledTimes(2)
})

test('what was not confirmed is told nowhere', async () => {
  const fail = (code: string) => messenger.attempt(() => Promise.reject({ code, message: '' }))
  messenger.toast = null
  expect(await fail('not_confirmed')).toBeNull()
  expect(messenger.toast).toBeNull()
  expect(await fail('offline')).toBeNull()
  expect(messenger.toast).not.toBeNull()
})

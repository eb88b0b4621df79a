import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { Presence, WRITES_FOR } from './presence.svelte'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('who writes does so until nothing is heard of it any more', () => {
  const presence = new Presence()
  presence.writes('room', 'bob')
  vi.advanceTimersByTime(WRITES_FOR - 1)
  presence.writes('room', 'bob')
  vi.advanceTimersByTime(WRITES_FOR - 1)
  expect(presence.writers('room')).toEqual(['bob'])
  vi.advanceTimersByTime(1)
  expect(presence.writers('room')).toEqual([])
})

test('a message ends the writing of its sender, in its room', () => {
  const presence = new Presence()
  presence.writes('room', 'bob')
  presence.writes('room', 'carol')
  presence.writes('other', 'bob')
  presence.stopped('room', 'bob')
  expect(presence.writers('room')).toEqual(['carol'])
  expect(presence.writers('other')).toEqual(['bob'])
})

test('who hides sees nobody', () => {
  const presence = new Presence()
  presence.show({ visible: true, online: ['bob'] })
  presence.writes('room', 'bob')
  expect(presence.isOnline('bob')).toBe(true)
  presence.show({ visible: false, online: [] })
  expect(presence.isOnline('bob')).toBe(false)
  expect(presence.writers('room')).toEqual([])
  expect(presence.isOnline(undefined)).toBe(false)
})

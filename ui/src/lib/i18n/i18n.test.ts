import { afterEach, expect, test } from 'vitest'

import { i18n } from './i18n.svelte'

afterEach(() => void (i18n.language = 'en'))

test('a server that is busy says when to try again', () => {
  i18n.language = 'en'
  expect(i18n.error('busy', { retry_after: '1' })).toContain('in 1 second.')
  expect(i18n.error('busy', { retry_after: '30' })).toContain('in 30 seconds.')
  expect(i18n.error('busy', { retry_after: '121' })).toContain('in 3 minutes.')
  i18n.language = 'ko'
  expect(i18n.error('busy', { retry_after: '30' })).toContain('30초 뒤에')
})

test('without a time it says so without one', () => {
  i18n.language = 'en'
  expect(i18n.error('busy')).toBe('The server is busy. Try again in a moment.')
  expect(i18n.error('too_long', { retry_after: '30' })).toBe('This is too long.')
  expect(i18n.error('never heard of')).toBe('Something went wrong inside Mildam.')
})

test('a mistyped word is guessed', () => {
  i18n.language = 'en'
  expect(i18n.error('words_unknown', { position: '3', word: 'lake' })).toContain('“lake”')
  expect(i18n.error('words_unknown', { position: '3', word: '' })).toBe(
    'Word 3 is not in the list.',
  )
})

test('who has refused is told of no problem', () => {
  const refused = { code: 'not_confirmed', message: 'This was not confirmed.', details: {} }
  expect(i18n.failure(refused)).toBe('')
})

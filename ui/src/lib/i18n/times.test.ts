import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { NUMBERS } from '../../test/views'
import { i18n } from './i18n.svelte'
import { dateOf } from './times'

beforeEach(() => {
  vi.useFakeTimers()
  vi.setSystemTime(new Date(2026, 2, 1, 15, 30))
})
afterEach(() => {
  vi.useRealTimers()
  i18n.language = 'en'
})

test('every number is a time in the years that are shown', () => {
  for (const ms of [...NUMBERS, -8.64e15, 253_402_300_800_000]) {
    expect(dateOf(ms).toISOString()).toMatch(/^\d{4}-/)
    expect(dateOf(ms).getFullYear()).toBeGreaterThanOrEqual(1970)
    expect(dateOf(ms).getFullYear()).toBeLessThanOrEqual(9999)
    for (const language of ['en', 'ko'] as const) {
      i18n.language = language
      for (const as of ['time', 'day', 'date', 'when'] as const) {
        expect(i18n[as](ms)).toMatch(/\d/)
      }
    }
  }
  expect(dateOf(1_700_000_000_000).getTime()).toBe(1_700_000_000_000)
})

test('in lists a day is named as short as it is clear', () => {
  const at = (...date: [number, number, number, number]) => i18n.when(new Date(...date).getTime())
  i18n.language = 'en'
  expect(at(2026, 2, 1, 9)).toMatch(/^9:00.AM$/)
  expect(at(2026, 1, 28, 0)).toBe('Yesterday')
  expect(at(2026, 1, 27, 23)).toBe('Feb 27')
  expect(at(2025, 2, 1, 9)).toBe('Mar 1, 2025')
  i18n.language = 'ko'
  expect(at(2026, 1, 28, 23)).toBe('어제')
  expect(at(2026, 1, 27, 9)).toBe('2월 27일')
  expect(at(2025, 2, 1, 9)).toBe('2025년 3월 1일')
})

test('a span is told in the largest unit of which there are two', () => {
  i18n.language = 'en'
  const span = (seconds: number) => i18n.duration(seconds, Math.round)
  expect(span(NaN)).toBe('0 seconds')
  expect(span(90)).toBe('90 seconds')
  expect(span(3 * 60 + 20)).toBe('3 minutes')
  expect(span(36 * 3600)).toBe('36 hours')
  expect(span(3 * 86_400 + 5)).toBe('3 days')
  expect(span(40 * 31_557_600)).toBe('40 years')
  expect(span(Infinity)).toBe('9,999 years')
  i18n.language = 'ko'
  expect(span(3 * 86_400)).toBe('3일')
})

test('what is no count is shown as one', () => {
  i18n.language = 'en'
  expect(NUMBERS.map((value) => i18n.number(value))).toEqual([
    '0',
    '9,007,199,254,740,991',
    '-9,007,199,254,740,991',
    '-1',
    '-0',
    '0',
    '1',
    '100',
    '8,640,000,000,000,000',
    '9,000,000,000,000,000',
    '9,007,199,254,740,991',
    '9,007,199,254,740,991',
    '1,767,225,600,000',
  ])
})

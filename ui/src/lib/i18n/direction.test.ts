import { expect, test } from 'vitest'

import { isolated, oneLine } from './direction'
import { t } from './i18n.svelte'

/** How deep the stretches of a text are at its end, and at their lowest. */
function depth(text: string): { end: number; least: number } {
  let [end, least] = [0, 0]
  for (const mark of text.match(/[\u2066-\u2069]/g) ?? []) {
    end += mark === '\u2069' ? -1 : 1
    least = Math.min(least, end)
  }
  return { end, least }
}

test('a name cannot leave the stretch that it stands in', () => {
  for (const name of ['\u2069\u202eevil', '\u2067\u2066open', '\u2069\u2067\u2069\u2069', 'Bob']) {
    expect(depth(oneLine(name))).toEqual({ end: 0, least: 0 })
    expect(depth(isolated(name))).toEqual({ end: 0, least: 0 })
  }
  expect(oneLine('one\r\ntwo\u2029three\0four')).toBe('one two three four')
})

test('only what could turn a sentence is set apart in it', () => {
  expect(isolated('Bob')).toBe('Bob')
  expect(isolated('보람')).toBe('보람')
  expect(isolated('\u202ebob')).toBe('\u2068\u202ebob\u2069')
  expect(isolated('דוד')).toBe('\u2068דוד\u2069')
  expect(t('notice.left', { name: 'דוד' })).toBe('\u2068דוד\u2069 left.')
})

import { expect, it } from 'vitest'

import { pieces } from './pieces'

it('marks Korean by byte ranges', () => {
  expect(pieces('우리 학교에서 만나요', [[7, 13]])).toEqual([
    { text: '우리 ', marked: false },
    { text: '학교', marked: true },
    { text: '에서 만나요', marked: false },
  ])
})

it('begins near a match that lies deep in the text', () => {
  const [first, second] = pieces(`${'a'.repeat(100)}key`, [[100, 103]])
  expect(first?.text).toBe(`…${'a'.repeat(30)}`)
  expect(second).toEqual({ text: 'key', marked: true })
})

it('leaves a text without ranges whole', () => {
  expect(pieces('안녕', [])).toEqual([{ text: '안녕', marked: false }])
})

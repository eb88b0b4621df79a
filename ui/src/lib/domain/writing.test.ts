import { expect, test } from 'vitest'

import { PAUSE, Writing } from './writing'

test('others are told while the text changes, but not with every key', () => {
  let [now, told] = [0, 0]
  const writing = new Writing(
    () => (told += 1),
    () => now,
  )
  writing.changed('ㅇ')
  writing.changed('아')
  now = PAUSE - 1
  writing.changed('안')
  expect(told).toBe(1)
  now = PAUSE
  writing.changed('안녕')
  expect(told).toBe(2)
})

test('nobody is told of an empty box', () => {
  let told = 0
  const writing = new Writing(() => (told += 1))
  writing.changed('')
  writing.changed(' \n ')
  expect(told).toBe(0)
})

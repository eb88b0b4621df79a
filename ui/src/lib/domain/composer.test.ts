import { describe, expect, it } from 'vitest'

import { Composer } from './composer'

/** A text area and an input method, as far as the composer sees them. */
class Typed {
  composer = new Composer()
  text = ''
  sent: string[] = []

  #send() {
    if (this.text !== '') this.sent.push(this.text)
    this.text = ''
  }

  key(shiftKey = false) {
    this.composer.keydown({ shiftKey })
  }

  insert(text: string) {
    expect(this.composer.beforeInput({ inputType: 'insertText', isComposing: false })).toBe('pass')
    this.text += text
  }

  compose(text: string, replaces = 0) {
    const event = { inputType: 'insertCompositionText', isComposing: true }
    expect(this.composer.beforeInput(event)).toBe('pass')
    this.text = this.text.slice(0, this.text.length - replaces) + text
  }

  end() {
    if (this.composer.compositionEnd()) this.#send()
  }

  enter({ shift = false, isComposing = false } = {}) {
    this.key(shift)
    const outcome = this.composer.beforeInput({ inputType: 'insertLineBreak', isComposing })
    if (outcome === 'send') this.#send()
    if (outcome === 'pass') this.text += '\n'
  }
}

describe('composer', () => {
  it('sends Latin text with one Enter and breaks the line with Shift', () => {
    const typed = new Typed()
    typed.insert('hello')
    typed.enter({ shift: true })
    typed.insert('world')
    typed.enter()
    expect(typed.sent).toEqual(['hello\nworld'])
    expect(typed.text).toBe('')
  })

  it('WebKitGTK with preedit: the composition ends before the Enter that ends the word', () => {
    const typed = new Typed()
    typed.key()
    typed.composer.compositionStart()
    typed.compose('ㅎ')
    typed.compose('하', 1)
    typed.compose('한', 1)
    // A syllable that is committed is first cleared, then inserted.
    typed.compose('', 1)
    typed.end()
    typed.insert('한')
    typed.composer.compositionStart()
    typed.compose('글')
    typed.compose('', 1)
    typed.end()
    typed.insert('글')
    typed.enter()
    expect(typed.sent).toEqual(['한글'])
    expect(typed.text).toBe('')
  })

  it('WebKitGTK without preedit: syllables come as plain text', () => {
    const typed = new Typed()
    typed.key()
    typed.insert('한')
    typed.key()
    typed.insert('글')
    typed.enter()
    expect(typed.sent).toEqual(['한글'])
  })

  it('WKWebView: no composition events, replaced text, one Enter', () => {
    const typed = new Typed()
    for (const [text, replaces] of [
      ['ㅎ', 0],
      ['하', 1],
      ['한', 1],
    ] as const) {
      typed.compose(text, replaces)
      typed.key()
    }
    typed.enter()
    expect(typed.sent).toEqual(['한'])
  })

  it('WebView2: Enter comes while the syllable is still open, and sends it once', () => {
    const typed = new Typed()
    typed.composer.compositionStart()
    typed.compose('글')
    typed.enter({ isComposing: true })
    expect(typed.sent).toEqual([])
    typed.end()
    expect(typed.sent).toEqual(['글'])
    typed.end()
    expect(typed.sent).toEqual(['글'])
    expect(typed.text).toBe('')
  })

  it('an input method that takes Enter for itself sends nothing', () => {
    const typed = new Typed()
    typed.composer.compositionStart()
    typed.compose('にほん')
    typed.key()
    typed.compose('日本', 3)
    typed.end()
    expect(typed.sent).toEqual([])
    typed.enter()
    expect(typed.sent).toEqual(['日本'])
  })
})

/**
 * When Enter sends.
 *
 * Input methods differ in what they tell. While a Hangul syllable is composed, WebKitGTK sends
 * keydowns with code 229 and `isComposing` false, ends the composition before the keydown of the
 * Enter that ends the word, and WKWebView may report no composition at all. A composer that reads
 * keydowns is therefore wrong somewhere: it swallows an Enter, or sends the last syllable twice.
 *
 * So this one does not read Enter keydowns. It waits for what every engine reports alike: the
 * `beforeinput` of a line break, which comes once, only if the input method did not take the key
 * for itself. If a composition is still open at that moment, the text is sent as soon as it ends.
 */
export class Composer {
  #composing = false
  #shift = false
  #sendWhenDone = false

  /** A key goes down: only Shift matters, for Shift+Enter. */
  keydown(event: { shiftKey: boolean }): void {
    this.#shift = event.shiftKey
  }

  compositionStart(): void {
    this.#composing = true
  }

  /** True if the text is to be sent now, once the engine has put the last syllable in. */
  compositionEnd(): boolean {
    this.#composing = false
    const send = this.#sendWhenDone
    this.#sendWhenDone = false
    return send
  }

  /**
   * Something is about to be put in. `pass` lets it happen, `send` and `wait` prevent it: the text
   * is sent now, or when the composition ends.
   */
  beforeInput(event: { inputType: string; isComposing: boolean }): 'pass' | 'send' | 'wait' {
    const lineBreak = event.inputType === 'insertLineBreak' || event.inputType === 'insertParagraph'
    if (!lineBreak || this.#shift) return 'pass'
    if (this.#composing || event.isComposing) {
      this.#sendWhenDone = true
      return 'wait'
    }
    return 'send'
  }
}

/** Others are told at most once in so many milliseconds that one writes. */
export const PAUSE = 4000

/** When others are told that one writes: while a text grows that is not empty, and not too often. */
export class Writing {
  #last = Number.NEGATIVE_INFINITY

  constructor(
    private readonly tell: () => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The person has changed the text. */
  changed(text: string): void {
    if (text.trim() === '' || this.now() - this.#last < PAUSE) return
    this.#last = this.now()
    this.tell()
  }
}

import type { PresenceView } from '../backend/views'

/** For so long somebody is writing who was said to write, if nothing else is heard. */
export const WRITES_FOR = 6000

/** Somebody who writes in a room, and what ends it if nothing else is heard. */
interface Writer {
  readonly room: string
  readonly account: string
  readonly end: ReturnType<typeof setTimeout>
}

/** Who of the friends is online, and who is writing where. */
export class Presence {
  #view = $state.raw<PresenceView>({ visible: true, online: [] })
  /** In the order in which they began. */
  #writers = $state.raw<Writer[]>([])

  /** Whether friends see when this account is online or writing. */
  get visible(): boolean {
    return this.#view.visible
  }

  isOnline(account: string | undefined): boolean {
    return account !== undefined && this.#view.online.includes(account)
  }

  /** The accounts that write in a room. */
  writers(room: string): string[] {
    return this.#writers.filter((one) => one.room === room).map((one) => one.account)
  }

  show(view: PresenceView): void {
    this.#view = view
    if (!view.visible) this.#writers.forEach((one) => this.stopped(one.room, one.account))
  }

  /** Somebody writes, until they are done or nothing is heard of it any more. */
  writes(room: string, account: string): void {
    const end = setTimeout(() => this.stopped(room, account), WRITES_FOR)
    const at = this.#writers.findIndex((one) => one.room === room && one.account === account)
    clearTimeout(this.#writers[at]?.end)
    const writer = { room, account, end }
    this.#writers = at < 0 ? [...this.#writers, writer] : this.#writers.with(at, writer)
  }

  /** What was written is there, or it was given up. */
  stopped(room: string, account: string): void {
    const at = this.#writers.findIndex((one) => one.room === room && one.account === account)
    if (at < 0) return
    clearTimeout(this.#writers[at]?.end)
    this.#writers = this.#writers.toSpliced(at, 1)
  }

  forget(): void {
    this.show({ visible: false, online: [] })
    this.#view = { visible: true, online: [] }
  }
}

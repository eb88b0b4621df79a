import { i18n } from '../i18n/i18n.svelte'

/** What a form does when it is sent: whether it is under way, and what went wrong, in words. */
export class Attempt {
  busy = $state(false)
  problem = $state('')

  async run(action: () => Promise<void>): Promise<void> {
    this.problem = ''
    this.busy = true
    try {
      await action()
    } catch (error) {
      this.problem = i18n.failure(error)
    } finally {
      this.busy = false
    }
  }
}

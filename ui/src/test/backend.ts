// What stands in for the backend where a test needs the window and not the program behind it.
import type { Event } from '../lib/backend/views'

/**
 * A backend that starts and tells nothing by itself: `tell` is the listener, so that a test can tell
 * an event. `calls` are the further calls that the test answers.
 */
export function standIn<Calls extends object>(calls: Calls) {
  const backend = {
    tell: (() => {}) as (event: Event) => void,
    listen: (tell: (event: Event) => void) => {
      backend.tell = tell
      return Promise.resolve(() => {})
    },
    listenLinks: () => Promise.resolve(() => {}),
    takeInvitation: () => Promise.resolve(null),
    boot: () => Promise.resolve('passphrase'),
  }
  return Object.assign(backend, calls)
}

import { invoke } from '@tauri-apps/api/core'
import { listen } from '@tauri-apps/api/event'

import type { Backend } from './backend'
import type { Event } from './views'

/** The program behind the window, over Tauri's bridge. */
export const backend: Backend = {
  listen: (tell) => listen<Event>('mildam', (event) => tell(event.payload)),
  boot: () => invoke('boot'),
  unlock: (passphrase) => invoke('unlock', { passphrase }),
  state: () => invoke('state'),
  reconnect: () => invoke('reconnect'),
  connect: (link) => invoke('connect', { link }),
  signUp: (form) => invoke('sign_up', form),
  logIn: (account, password) => invoke('log_in', { account, password }),
  logOut: () => invoke('log_out'),
  confirmRecoveryWords: () => invoke('confirm_recovery_words'),
  friends: () => invoke('friends'),
  requestFriend: (account, greeting) => invoke('request_friend', { account, greeting }),
  acceptFriend: (account) => invoke('accept_friend', { account }),
  declineFriend: (account) => invoke('decline_friend', { account }),
  rooms: () => invoke('rooms'),
  openDirect: (account) => invoke('open_direct', { account }),
  createGroup: (name, accounts) => invoke('create_group', { name, accounts }),
  invite: (room, accounts) => invoke('invite', { room, accounts }),
  leave: (room) => invoke('leave', { room }),
  send: (room, text) => invoke('send', { room, text }),
  history: (room, before, limit) => invoke('history', { room, before, limit }),
  search: (query, limit) => invoke('search', { query, limit }),
  markRead: (room, seq) => invoke('mark_read', { room, seq }),
}

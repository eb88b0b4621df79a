import { invoke } from '@tauri-apps/api/core'
import { listen } from '@tauri-apps/api/event'

import type { Backend } from './backend'
import type { Event } from './views'

/** The program behind the window, over Tauri's bridge. */
export const backend: Backend = {
  listen: (tell) => listen<Event>('mildam', (event) => tell(event.payload)),
  listenLinks: (tell) => listen('mildam-link', () => tell()),
  takeInvitation: () => invoke('take_invitation'),
  boot: () => invoke('boot'),
  unlock: (passphrase) => invoke('unlock', { passphrase }),
  repair: (passphrase) => invoke('repair', { passphrase }),
  lock: () => invoke('lock'),
  protection: () => invoke('protection'),
  changeUnlock: (current, next) => invoke('change_unlock', { current, next }),
  eraseNow: () => invoke('erase_now'),
  state: () => invoke('state'),
  reconnect: () => invoke('reconnect'),
  connect: (link) => invoke('connect', { link }),
  decideServerKey: (found, accept) => invoke('decide_server_key', { found, accept }),
  signUp: (form) => invoke('sign_up', form),
  logIn: (account, password) => invoke('log_in', { account, password }),
  recover: (form) => invoke('recover', form),
  dismiss: (notice) => invoke('dismiss', { notice }),
  logOut: () => invoke('log_out'),
  confirmRecoveryWords: () => invoke('confirm_recovery_words'),
  contact: (account) => invoke('contact', { account }),
  setVerified: (account, verified) => invoke('set_verified', { account, verified }),
  compareSafetyNumber: (account, text) => invoke('compare_safety_number', { account, text }),
  comparePicture: (account, picture) =>
    invoke('compare_picture', { account, picture: Array.from(picture) }),
  decideIdentity: (account, accept) => invoke('decide_identity', { account, accept }),
  friends: () => invoke('friends'),
  requestFriend: (account, greeting) => invoke('request_friend', { account, greeting }),
  acceptFriend: (account) => invoke('accept_friend', { account }),
  declineFriend: (account) => invoke('decline_friend', { account }),
  rooms: () => invoke('rooms'),
  openDirect: (account) => invoke('open_direct', { account }),
  createGroup: (name, accounts) => invoke('create_group', { name, accounts }),
  invite: (room, accounts) => invoke('invite', { room, accounts }),
  endBlock: (room) => invoke('end_block', { room }),
  leave: (room) => invoke('leave', { room }),
  send: (room, text) => invoke('send', { room, text }),
  history: (room, before, limit) => invoke('history', { room, before, limit }),
  search: (query, limit) => invoke('search', { query, limit }),
  markRead: (room, seq) => invoke('mark_read', { room, seq }),
  presence: () => invoke('presence'),
  setPresence: (visible) => invoke('set_presence', { visible }),
  typing: (room) => invoke('typing', { room }),
  sessions: () => invoke('sessions'),
  endSession: (device) => invoke('end_session', { device }),
}

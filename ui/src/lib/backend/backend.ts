import type {
  AccountView,
  ClientState,
  ContactView,
  Event,
  FriendsView,
  HistoryPage,
  InvitationView,
  MessageView,
  Notice,
  PresenceView,
  RecoveryWordsView,
  RoomView,
  SearchHit,
  ServerView,
  SessionView,
} from './views'

/** What the first screen must ask for. */
export type Gate = 'open' | 'passphrase' | 'new_passphrase'

/** What a call tells when it is not done. */
export interface Failure {
  code: string
  message: string
  /** What the words for the code need to know, by name. */
  details: Record<string, string>
}

export function failureOf(error: unknown): Failure {
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    const details = 'details' in error ? (error.details as Record<string, string>) : {}
    return { code: String(error.code), message: String(error.message), details }
  }
  return { code: 'internal', message: String(error), details: {} }
}

/** Everything that the window can ask of the program behind it. */
export interface Backend {
  listen(tell: (event: Event) => void): Promise<() => void>
  /** Tells when the app was opened with a link. */
  listenLinks(tell: () => void): Promise<() => void>
  /** What that link leads to, once. Nothing is connected by it. */
  takeInvitation(): Promise<InvitationView | null>
  boot(): Promise<Gate>
  unlock(passphrase: string): Promise<void>
  /** Without a passphrase, the keyring opens the vault. */
  repair(passphrase: string | null): Promise<void>
  lock(): Promise<Gate>
  protection(): Promise<'passphrase' | 'keyring'>
  /** From one passphrase, or the keyring if there is none, to another. */
  changeUnlock(current: string | null, next: string | null): Promise<void>
  eraseNow(): Promise<void>
  state(): Promise<ClientState>
  reconnect(): Promise<void>
  connect(link: string): Promise<ServerView>
  /** Takes another key of the server, which was shown to the person, or keeps the known one. */
  decideServerKey(found: string, accept: boolean): Promise<ClientState>
  signUp(form: {
    account: string
    email: string
    password: string
    nickname: string
  }): Promise<AccountView>
  logIn(account: string, password: string): Promise<AccountView>
  recover(form: { account: string; words: string; password: string }): Promise<AccountView>
  dismiss(notice: Notice): Promise<void>
  logOut(): Promise<void>
  /** The words, as long as nobody has confirmed that they are written down. Only to be shown, never kept. */
  recoveryWords(): Promise<RecoveryWordsView | null>
  confirmRecoveryWords(): Promise<void>
  contact(account: string): Promise<ContactView>
  setVerified(account: string, verified: boolean): Promise<ContactView>
  compareSafetyNumber(account: string, text: string): Promise<ContactView>
  comparePicture(account: string, picture: Uint8Array): Promise<ContactView>
  decideIdentity(account: string, accept: boolean): Promise<ContactView>
  friends(): Promise<FriendsView>
  requestFriend(account: string, greeting: string): Promise<void>
  acceptFriend(account: string): Promise<void>
  declineFriend(account: string): Promise<void>
  rooms(): Promise<RoomView[]>
  openDirect(account: string): Promise<RoomView>
  createGroup(name: string, accounts: string[]): Promise<RoomView>
  invite(room: string, accounts: string[]): Promise<void>
  replaceRoom(room: string): Promise<RoomView>
  endBlock(room: string): Promise<RoomView>
  leave(room: string): Promise<void>
  send(room: string, text: string): Promise<MessageView>
  /** A message that could not be sent waits again. */
  retrySend(room: string, id: string): Promise<MessageView>
  /** Takes back what could not be sent, or was not yet, and gives its text. */
  discardSend(room: string, id: string): Promise<string>
  history(room: string, before: number | null, limit: number): Promise<HistoryPage>
  search(query: string, limit: number): Promise<SearchHit[]>
  markRead(room: string, seq: number): Promise<void>
  presence(): Promise<PresenceView>
  setPresence(visible: boolean): Promise<PresenceView>
  /** To be told every few seconds while somebody writes. */
  typing(room: string): Promise<void>
  sessions(): Promise<SessionView[]>
  endSession(device: string): Promise<void>
}

import type {
  AccountView,
  ClientState,
  Event,
  FriendsView,
  HistoryPage,
  MessageView,
  RoomView,
  SearchHit,
  ServerView,
} from './views'

/** What the first screen must ask for. */
export type Gate = 'open' | 'passphrase' | 'new_passphrase'

/** What a call tells when it is not done. */
export interface Failure {
  code: string
  message: string
}

export function failureOf(error: unknown): Failure {
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    return { code: String(error.code), message: String(error.message) }
  }
  return { code: 'internal', message: String(error) }
}

/** Everything that the window can ask of the program behind it. */
export interface Backend {
  listen(tell: (event: Event) => void): Promise<() => void>
  boot(): Promise<Gate>
  unlock(passphrase: string): Promise<void>
  state(): Promise<ClientState>
  reconnect(): Promise<void>
  connect(link: string): Promise<ServerView>
  signUp(form: {
    account: string
    email: string
    password: string
    nickname: string
  }): Promise<AccountView>
  logIn(account: string, password: string): Promise<AccountView>
  logOut(): Promise<void>
  confirmRecoveryWords(): Promise<void>
  friends(): Promise<FriendsView>
  requestFriend(account: string, greeting: string): Promise<void>
  acceptFriend(account: string): Promise<void>
  declineFriend(account: string): Promise<void>
  rooms(): Promise<RoomView[]>
  openDirect(account: string): Promise<RoomView>
  createGroup(name: string, accounts: string[]): Promise<RoomView>
  invite(room: string, accounts: string[]): Promise<void>
  leave(room: string): Promise<void>
  send(room: string, text: string): Promise<MessageView>
  history(room: string, before: number | null, limit: number): Promise<HistoryPage>
  search(query: string, limit: number): Promise<SearchHit[]>
  markRead(room: string, seq: number): Promise<void>
}

import { failureOf, type Backend, type Gate } from '../backend/backend'
import { backend } from '../backend/tauri'
import type {
  ClientState,
  Event,
  FriendsView,
  InvitationView,
  MemberView,
  MessageView,
  RoomView,
  SearchHit,
  SignUpStep,
} from '../backend/views'
import { i18n } from '../i18n/i18n.svelte'
import { destinationOf } from './invitation'
import { besidePerson, lookalikesOf, named } from './names'
import { newestFirst } from './order'
import { Presence } from './presence.svelte'

const PAGE = 60

/** One room's lines, as far as they were read from the vault. */
export class Conversation {
  lines = $state<MessageView[]>([])
  more = $state(false)
  /** The last line that was read when the room was opened: behind it the unread ones begin. */
  divider = $state<number | null>(null)
  /** A line to go to, after a search. */
  target = $state<number | null>(null)
  draft = $state('')
  /** Counts how often the box to write in was to get the focus. */
  focused = $state(0)

  constructor(readonly room: string) {}

  take(message: MessageView): void {
    const at = this.lines.findIndex((line) => isSame(line, message))
    if (at >= 0) this.lines.splice(at, 1)
    // Numbered lines in order; those that wait, last, in the order in which they were written.
    const place = message.seq ?? Number.MAX_SAFE_INTEGER
    const before = this.lines.findLastIndex(
      (line) => (line.seq ?? Number.MAX_SAFE_INTEGER) <= place,
    )
    this.lines.splice(at >= 0 && message.seq === null ? at : before + 1, 0, message)
  }

  /** One's own message is no longer to be sent. Others choose their ids: what is in the room stays. */
  drop(id: string): void {
    this.lines = this.lines.filter((line) => line.id !== id || line.seq !== null)
  }

  /** Puts a text before what is being written. */
  writeBefore(text: string): void {
    this.draft = this.draft === '' ? text : `${text}\n${this.draft}`
  }

  get lastSeq(): number | null {
    return this.lines.findLast((line) => line.seq !== null)?.seq ?? null
  }
}

/**
 * Whether two views are of one message. Others choose the ids of their messages, so that an id alone says
 * too little: nobody can take the place of somebody else's message, nor of an earlier one of their own.
 */
function isSame(one: MessageView, two: MessageView): boolean {
  const samePlace = one.seq === two.seq || one.seq === null || two.seq === null
  return one.id === two.id && one.from === two.from && samePlace
}

/** Everything that the window shows, fed by the backend's events. */
class Messenger {
  gate = $state<Gate | 'starting' | 'broken'>('starting')
  brokenCode = $state('')
  client = $state<ClientState | null>(null)
  friends = $state<FriendsView>({ friends: [], incoming: [], outgoing: [] })
  rooms = $state<RoomView[]>([])
  conversation = $state<Conversation | null>(null)
  step = $state<SignUpStep | null>(null)
  toast = $state<string | null>(null)
  query = $state('')
  hits = $state<SearchHit[] | null>(null)
  /** What a link leads to with which the app was opened, until the person has decided about it. */
  invitation = $state<InvitationView | null>(null)
  /** An account that an invitation names, for the form that asks it. */
  invited = $state<string | null>(null)
  /** An invitation that this account cannot follow. */
  elsewhere = $state<InvitationView | null>(null)
  /** The person wants another server than the known one. */
  choosingServer = $state(false)
  readonly presence = new Presence()
  /** The looks of names that are told apart by what stands beside them. */
  readonly lookalikes: ReadonlySet<string> = $derived(
    lookalikesOf(this.account, this.friends, this.rooms),
  )

  #conversations = new Map<string, Conversation>()
  #toastTimer: ReturnType<typeof setTimeout> | undefined
  /** How many events of each kind came. */
  readonly #heard = new Map<Event['event'], number>()
  #searches = 0

  constructor(private readonly backend: Backend) {}

  get account() {
    return this.client?.account ?? null
  }

  get room(): RoomView | null {
    return this.rooms.find((room) => room.room === this.conversation?.room) ?? null
  }

  get call(): Backend {
    return this.backend
  }

  async start(): Promise<void> {
    await this.backend.listen((event) => this.#on(event))
    await this.backend.listenLinks(() => void this.#takeInvitation())
    await this.boot()
    await this.#takeInvitation()
  }

  /** Opens what opens without asking. */
  async boot(): Promise<void> {
    try {
      this.gate = await this.backend.boot()
      if (this.gate === 'open') await this.reload()
    } catch (error) {
      this.break(failureOf(error).code)
    }
  }

  /** Shows what is wrong with the vault, and what can be done. */
  break(code: string): void {
    this.brokenCode = code
    this.gate = 'broken'
  }

  async unlock(passphrase: string): Promise<void> {
    try {
      await this.backend.unlock(passphrase)
    } catch (error) {
      if (failureOf(error).code !== 'vault_damaged') throw error
      this.break('vault_damaged')
      return
    }
    this.gate = 'open'
    await this.reload()
  }

  /** Puts the vault together again from what can be read. */
  async repair(passphrase: string | null): Promise<void> {
    await this.backend.repair(passphrase)
    this.#forget()
    this.gate = 'open'
    await this.reload()
  }

  /** Closes the vault. Nothing that it showed stays in the window. */
  async lock(): Promise<void> {
    this.gate = await this.backend.lock()
    this.#forget()
  }

  #forget(): void {
    this.client = null
    this.friends = { friends: [], incoming: [], outgoing: [] }
    this.rooms = []
    this.conversation = null
    this.#conversations.clear()
    this.query = ''
    this.hits = null
    this.presence.forget()
    this.invited = null
    this.elsewhere = null
  }

  /**
   * Reads a view, and once more if an event of its kind came meanwhile: the event may be newer than
   * what was read, and must not give way to it.
   */
  async #read<T>(kind: Event['event'], read: () => Promise<T>): Promise<T> {
    for (let turn = 1; ; turn++) {
      const heard = this.#heard.get(kind)
      const view = await read()
      if (this.#heard.get(kind) === heard || turn === 5) return view
    }
  }

  /** Reads every view anew. */
  async reload(): Promise<void> {
    this.client = await this.#read('state', () => this.backend.state())
    if (!this.client.account) return this.#follow()
    this.friends = await this.#read('friends', () => this.backend.friends())
    this.rooms = await this.#read('room', () => this.backend.rooms())
    this.presence.show(await this.#read('presence', () => this.backend.presence()))
    if (this.conversation) await this.#fill(this.conversation)
    this.#follow()
  }

  async #takeInvitation(): Promise<void> {
    const invitation = await this.attempt(() => this.backend.takeInvitation())
    if (!invitation) return
    this.invitation = invitation
    this.#follow()
  }

  /** Goes where the invitation leads, once it is known who got it. What is done there, the person does. */
  #follow(): void {
    const invitation = this.invitation
    if (!invitation || !this.client || this.gate !== 'open') return
    const destination = destinationOf(invitation, this.client, this.friends)
    // These wait in the form that they fill in.
    if (destination === 'server') this.choosingServer = true
    if (destination === 'server' || destination === 'sign_up') return
    this.invitation = null
    const account = invitation.account ?? ''
    const friend = this.friends.friends.find((one) => one.account === account)
    const name = named(this.nickname(account), besidePerson(friend, this.lookalikes))
    switch (destination) {
      case 'friend':
        this.invited = invitation.account
        this.hits = null
        this.query = ''
        this.close()
        break
      case 'own':
        return this.tell(i18n.t('invitation.own'))
      case 'friends_already':
        return this.tell(i18n.t('invitation.already', { name }))
      case 'here_already':
        return this.tell(i18n.t('invitation.here'))
      case 'other_server':
        this.elsewhere = invitation
    }
  }

  /** Connects to the server of a link. */
  async connect(link: string): Promise<void> {
    await this.backend.connect(link)
    this.client = await this.#read('state', () => this.backend.state())
    this.choosingServer = false
  }

  /** Does something, and tells in words if it was not done. */
  async attempt<T>(action: () => Promise<T>): Promise<T | null> {
    try {
      return await action()
    } catch (error) {
      const problem = i18n.failure(error)
      if (problem) this.tell(problem)
      return null
    }
  }

  tell(text: string): void {
    this.toast = text
    clearTimeout(this.#toastTimer)
    this.#toastTimer = setTimeout(() => (this.toast = null), 6000)
  }

  /** Whether nothing can be written in a room, so that it has no box to write in. */
  isClosed(room: string): boolean {
    const view = this.rooms.find((one) => one.room === room)
    return view !== undefined && (view.left || Boolean(view.blocked))
  }

  nickname(account: string): string {
    if (account === this.account?.account) return this.account.nickname
    const friend = this.friends.friends.find((one) => one.account === account)
    if (friend) return friend.nickname
    for (const room of this.rooms) {
      const member = room.members.find((one) => one.account === account)
      if (member) return member.nickname
    }
    return account
  }

  /** Somebody as a member of a room, as far as the room is known. */
  member(room: string, account: string): MemberView | undefined {
    return this.rooms
      .find((one) => one.room === room)
      ?.members.find((one) => one.account === account)
  }

  /** Opens the room with somebody; makes it, or the one that takes its place, if need be. */
  async talkTo(account: string): Promise<boolean> {
    return this.#enter(() => this.call.openDirect(account))
  }

  /** Goes on with the same people in a room that takes the place of one. */
  async replaceRoom(room: string): Promise<boolean> {
    return this.#enter(() => this.call.replaceRoom(room))
  }

  async #enter(ask: () => Promise<RoomView>): Promise<boolean> {
    const room = await this.attempt(ask)
    if (!room) return false
    if (!this.rooms.some((one) => one.room === room.room)) this.rooms.unshift(room)
    await this.open(room.room)
    return true
  }

  async open(room: string, target: number | null = null): Promise<void> {
    const conversation = this.#conversationOf(room)
    const view = this.rooms.find((one) => one.room === room)
    await this.attempt(() => this.#fill(conversation, target))
    const unread = view?.unread ?? 0
    const others = conversation.lines.filter(
      (line) => line.state === 'received' && line.content.kind === 'text',
    )
    const first = unread > 0 ? others.at(-unread) : undefined
    conversation.divider = first?.seq ?? null
    conversation.target = target
    this.conversation = conversation
    await this.markRead()
  }

  close(): void {
    this.conversation = null
  }

  async older(): Promise<void> {
    const conversation = this.conversation
    const first = conversation?.lines.find((line) => line.seq !== null)?.seq
    if (!conversation?.more || !first) return
    const page = await this.attempt(() => this.backend.history(conversation.room, first, PAGE))
    if (!page) return
    conversation.more = page.more
    conversation.lines.unshift(...page.messages)
  }

  async send(text: string): Promise<void> {
    const conversation = this.conversation
    if (!conversation || text.trim() === '') return
    const message = await this.attempt(() => this.backend.send(conversation.room, text))
    if (message) {
      conversation.divider = null
      if (!conversation.lines.some((line) => isSame(line, message))) conversation.take(message)
    } else {
      // What could not be stored is not lost, nor what was written meanwhile.
      conversation.writeBefore(text)
    }
  }

  /** Lets a message that could not be sent wait again. */
  async retrySend({ room, id }: MessageView): Promise<void> {
    const conversation = this.#conversationOf(room)
    // What becomes of it is told by events; some may overtake this answer.
    const message = await this.attempt(() => this.backend.retrySend(room, id))
    // The button is gone that had the focus.
    if (message) conversation.focused += 1
  }

  /** Takes a message of one's own back that was not sent. */
  async discardSend(message: MessageView): Promise<void> {
    await this.#takeBack(message, () => {})
  }

  /** Takes a message of one's own back that was not sent, to write it anew. */
  async editSend(message: MessageView): Promise<void> {
    await this.#takeBack(message, (conversation, text) => conversation.writeBefore(text))
  }

  async #takeBack(
    { room, id }: MessageView,
    then: (conversation: Conversation, text: string) => void,
  ): Promise<void> {
    // The person may be elsewhere when the answer comes.
    const conversation = this.#conversationOf(room)
    const text = await this.attempt(() => this.backend.discardSend(room, id))
    if (text === null) return
    then(conversation, text)
    conversation.focused += 1
  }

  async markRead(): Promise<void> {
    const conversation = this.conversation
    const seq = conversation?.lastSeq
    if (!conversation || !seq || !document.hasFocus()) return
    if ((this.room?.unread ?? 0) === 0) return
    await this.attempt(() => this.backend.markRead(conversation.room, seq))
  }

  async search(query: string): Promise<void> {
    this.query = query
    const turn = ++this.#searches
    if (query.trim() === '') {
      this.hits = null
      return
    }
    const hits = await this.attempt(() => this.backend.search(query, 100))
    // A later search overtook this one.
    if (turn === this.#searches && hits) this.hits = hits
  }

  #conversationOf(room: string): Conversation {
    const known = this.#conversations.get(room)
    if (known) return known
    const conversation = new Conversation(room)
    this.#conversations.set(room, conversation)
    return conversation
  }

  async #fill(conversation: Conversation, target: number | null = null): Promise<void> {
    let page = await this.backend.history(conversation.room, null, PAGE)
    const lines = page.messages
    while (target !== null && page.more && (lines[0]?.seq ?? 0) > target) {
      page = await this.backend.history(conversation.room, lines[0]?.seq ?? null, 500)
      lines.unshift(...page.messages)
    }
    conversation.lines = lines
    conversation.more = page.more
  }

  #on(event: Event): void {
    this.#heard.set(event.event, (this.#heard.get(event.event) ?? 0) + 1)
    switch (event.event) {
      case 'state': {
        const begins = !this.account && event.state.account !== null
        this.client = event.state
        if (begins) void this.reload()
        break
      }
      case 'sign_up':
        this.step = event.step
        break
      case 'friends':
        this.friends = event.friends
        break
      case 'room': {
        const at = this.rooms.findIndex((room) => room.room === event.room.room)
        const rooms = at < 0 ? [event.room, ...this.rooms] : this.rooms.with(at, event.room)
        this.rooms = rooms.sort(newestFirst)
        if (event.room.room === this.conversation?.room) void this.markRead()
        break
      }
      case 'message':
        this.#conversations.get(event.message.room)?.take(event.message)
        this.presence.stopped(event.message.room, event.message.from)
        break
      case 'message_gone':
        this.#conversations.get(event.room)?.drop(event.id)
        break
      case 'presence':
        this.presence.show(event.presence)
        break
      case 'typing':
        this.presence.writes(event.room, event.account)
        break
      case 'resync':
        void this.reload()
        break
    }
  }
}

export const messenger = new Messenger(backend)

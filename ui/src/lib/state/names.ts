import type { AccountView, FriendsView, RoomView } from '../backend/views'
import { isolated, oneLine } from '../i18n/direction'

/** So many members tell one group from another. */
const MOST = 3

/** What is there of a list: what is missing from it must not take the rest with it. */
function present<Item>(list: readonly Item[]): Item[] {
  return (list ?? []).filter((one) => one)
}

/** The looks that belong to more than one of the people and rooms that are known. */
export function lookalikesOf(
  own: Pick<AccountView, 'account' | 'look'> | null,
  { friends, incoming, outgoing }: FriendsView,
  rooms: readonly RoomView[],
): ReadonlySet<string> {
  const owners = new Map<string, Set<string>>()
  function add(look: string, kind: 'person' | 'room', id: string) {
    const known = owners.get(look)
    if (known) known.add(`${kind} ${id}`)
    else owners.set(look, new Set([`${kind} ${id}`]))
  }

  const people = [
    ...present(friends),
    ...present(incoming),
    ...present(outgoing),
    ...present(rooms).flatMap((room) => present(room.members)),
  ]
  for (const one of people) add(one.look, 'person', one.account)
  if (own) add(own.look, 'person', own.account)
  for (const room of present(rooms)) {
    const other =
      room.kind === 'direct'
        ? present(room.members).find((one) => one.account !== own?.account)
        : undefined
    if (other) add(room.look, 'person', other.account)
    else add(room.look, 'room', room.room)
  }
  return new Set([...owners].filter(([, of]) => of.size > 1).map(([look]) => look))
}

/** What belongs beside the name of a person: the id, if another name looks the same. */
export function besidePerson(
  person: { account: string; look: string } | undefined,
  lookalikes: ReadonlySet<string>,
): string {
  return person && lookalikes.has(person.look) ? person.account : ''
}

/** What belongs beside the name of a room, if another one looks the same: who is in it. */
export function besideRoom(
  room: RoomView | undefined,
  own: string | undefined,
  lookalikes: ReadonlySet<string>,
): string {
  if (!room || !lookalikes.has(room.look)) return ''
  const others = room.members.filter((one) => one.account !== own)
  if (room.kind === 'direct') return others[0]?.account ?? ''
  const names = others.slice(0, MOST).map((one) => isolated(oneLine(one.nickname)))
  return names.join(', ') + (others.length > MOST ? '…' : '')
}

/** A name with what belongs beside it, inside a sentence. */
export function named(name: string, beside: string): string {
  return beside ? `${isolated(name)} · ${beside}` : name
}

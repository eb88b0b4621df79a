import type { ClientState, FriendsView, InvitationView } from '../backend/views'

/**
 * Where an invitation leads a person, who then decides: to the address of a server, to the form of a new
 * account on the server that is known already, to a friend to ask, or to words about why there is nothing
 * to do.
 */
export type Destination =
  'server' | 'sign_up' | 'friend' | 'own' | 'friends_already' | 'here_already' | 'other_server'

export function destinationOf(
  invitation: InvitationView,
  client: Pick<ClientState, 'server' | 'account'>,
  friends: FriendsView,
): Destination {
  // The key is what a server is known by; it may have several addresses.
  const sameServer = client.server?.fingerprint === invitation.fingerprint
  if (!client.account) return sameServer ? 'sign_up' : 'server'
  if (!sameServer) return 'other_server'
  if (invitation.account === null) return 'here_already'
  if (invitation.account === client.account.account) return 'own'
  if (friends.friends.some((one) => one.account === invitation.account)) return 'friends_already'
  return 'friend'
}

/** The link by which others come to this server and ask this account to be a friend. */
export function ownInvitation(client: ClientState): string | null {
  return client.server && client.account ? `${client.server.link}/${client.account.account}` : null
}

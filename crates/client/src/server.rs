//! The relay that this device belongs to: one server key, and the addresses where it was found.

use mildam_protocol::ServerLink;
use mildam_protocol::link::InvitationToken;
use mildam_protocol::records::Hash;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::ServerView;

/// So many addresses are remembered. The one that was not used for longest goes first.
const MOST: usize = 4;

/// A relay, under the address that was used last, and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    first: ServerLink,
    others: Vec<ServerLink>,
    /// What lets one sign up there, until that is done.
    invitation: Option<InvitationToken>,
}

/// What lies in [`Slot::Server`](mildam_vault::Slot::Server). Until 0.1 it was one link alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ServerSlot {
    Links {
        links: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invitation: Option<String>,
    },
    Link(String),
}

impl Server {
    pub(crate) const fn new(first: ServerLink) -> Self {
        Self { first, others: Vec::new(), invitation: None }
    }

    /// The same with an invitation, in the place of the one before if there is one.
    pub(crate) fn invited(self, invitation: Option<InvitationToken>) -> Self {
        Self { invitation: invitation.or(self.invitation), first: self.first, others: self.others }
    }

    /// The same once an invitation is of no use any more.
    pub(crate) fn signed_up(&self) -> Self {
        Self { invitation: None, ..self.clone() }
    }

    pub(crate) const fn invitation(&self) -> Option<&InvitationToken> {
        self.invitation.as_ref()
    }

    /// The address that was used last.
    pub(crate) const fn first(&self) -> &ServerLink {
        &self.first
    }

    pub(crate) const fn fingerprint(&self) -> &Hash {
        self.first.fingerprint()
    }

    /// All addresses, the one that was used last first.
    pub(crate) fn links(&self) -> impl Iterator<Item = &ServerLink> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(crate) fn has(&self, link: &ServerLink) -> bool {
        self.links().any(|known| known == link)
    }

    /// The same with this address first. With another server key it is another relay, which has been found
    /// nowhere else yet.
    pub(crate) fn with_first(&self, link: ServerLink) -> Self {
        let mut others: Vec<ServerLink> =
            self.links().filter(|known| known.fingerprint() == link.fingerprint()).cloned().collect();
        others.retain(|known| *known != link);
        others.truncate(MOST - 1);
        let invitation = self.invitation.clone().filter(|_| link.fingerprint() == self.fingerprint());
        Self { first: link, others, invitation }
    }

    /// The same without an address; none if it is the only one.
    pub(crate) fn without(&self, link: &ServerLink) -> Option<Self> {
        let mut left = self.links().filter(|known| *known != link).cloned();
        Some(Self { first: left.next()?, others: left.collect(), invitation: self.invitation.clone() })
    }

    /// The same relay under another server key, at the address that showed it. Whether the others have it
    /// too is not known.
    pub(crate) fn under(&self, link: &ServerLink, fingerprint: Hash) -> Result<Self, Error> {
        let link = ServerLink::new(link.host(), link.port(), fingerprint)?;
        Ok(Self::new(link).invited(self.invitation.clone()))
    }

    pub(crate) fn to_slot(&self) -> Result<Vec<u8>, Error> {
        let links = self.links().map(ToString::to_string).collect();
        let invitation = self.invitation.as_ref().map(ToString::to_string);
        Ok(serde_json::to_vec(&ServerSlot::Links { links, invitation })?)
    }

    pub(crate) fn from_slot(bytes: &[u8]) -> Result<Self, Error> {
        let (links, invitation) = match serde_json::from_slice(bytes)? {
            ServerSlot::Links { links, invitation } => (links, invitation),
            ServerSlot::Link(link) => (vec![link], None),
        };
        let invitation = invitation.map(|token| token.parse::<InvitationToken>()).transpose()?;
        let mut links = links.iter().map(|link| link.parse());
        let first = links.next().ok_or_else(|| Error::internal("a server without an address"))??;
        Ok(Self { first, others: links.collect::<Result<_, _>>()?, invitation })
    }

    pub(crate) fn view(&self) -> ServerView {
        ServerView {
            link: self.first.to_string(),
            address: self.first.shown_address(),
            fingerprint: self.fingerprint().to_string(),
            others: self.others.iter().map(ServerLink::shown_address).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(host: &str, key: u8) -> ServerLink {
        ServerLink::new(host, 7747, Hash::from_bytes([key; 32])).unwrap()
    }

    fn hosts(server: &Server) -> Vec<&str> {
        server.links().map(ServerLink::host).collect()
    }

    #[test]
    fn the_newest_address_goes_first_and_the_oldest_goes() {
        let mut server = Server::new(link("a", 1));
        for host in ["b", "c", "b", "d", "e"] {
            server = server.with_first(link(host, 1));
        }
        assert_eq!(hosts(&server), ["e", "d", "b", "c"]);
        assert!(server.has(&link("c", 1)) && !server.has(&link("a", 1)) && !server.has(&link("c", 2)));
        server = server.without(&link("e", 1)).unwrap();
        assert_eq!(hosts(&server), ["d", "b", "c"]);
        assert_eq!(Server::new(link("a", 1)).without(&link("a", 1)), None);
    }

    #[test]
    fn another_key_is_another_relay() {
        let server = Server::new(link("a", 1)).with_first(link("b", 1));
        assert_eq!(hosts(&server.with_first(link("b", 2))), ["b"]);
        assert_eq!(hosts(&server.under(&link("a", 1), Hash::from_bytes([2; 32])).unwrap()), ["a"]);
    }

    #[test]
    fn an_invitation_stays_with_its_relay_until_it_is_used() {
        let token = |byte| Some(InvitationToken::from_bytes([byte; 16]));
        let server = Server::new(link("a", 1)).invited(token(1));
        let moved = server.with_first(link("b", 1)).invited(None);
        assert_eq!(moved.invitation().cloned(), token(1));
        assert_eq!(moved.without(&link("b", 1)).unwrap().invitation().cloned(), token(1));
        let renewed = moved.under(&link("a", 1), Hash::from_bytes([2; 32])).unwrap();
        assert_eq!(renewed.invitation().cloned(), token(1));
        assert_eq!(moved.with_first(link("b", 2)).invitation(), None);
        assert_eq!(moved.clone().invited(token(2)).invitation().cloned(), token(2));
        assert_eq!(moved.signed_up().invitation(), None);
    }

    #[test]
    fn a_slot_is_read_in_all_forms() {
        let server = Server::new(link("a", 1)).with_first(link("b", 1));
        assert_eq!(Server::from_slot(&server.to_slot().unwrap()).unwrap(), server);
        let before = br#"{"links":["mildam://a:7747/#AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"]}"#;
        assert_eq!(Server::from_slot(before).unwrap(), Server::new(link("a", 1)));
        let invited = server.invited(Some(InvitationToken::from_bytes([3; 16])));
        assert_eq!(Server::from_slot(&invited.to_slot().unwrap()).unwrap(), invited);
        // What 0.1.0 wrote.
        let old = serde_json::to_vec(&link("a", 1).to_string()).unwrap();
        assert_eq!(Server::from_slot(&old).unwrap(), Server::new(link("a", 1)));
        for bad in [&b"{}"[..], br#"{"links":[]}"#, br#"{"links":["http://a"]}"#, b"7"] {
            assert!(Server::from_slot(bad).is_err());
        }
    }
}

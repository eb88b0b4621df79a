//! The relay's address shows another server key.

use mildam_client::{OfferedKeyView, TransportView};

use crate::world::*;

/// A client that knows the relay of a folder, at an address where nobody listens any more.
async fn left_alone(folder: &Path) -> (Person, ClientState, String) {
    let server = Server::start(&folder.join("relay"), "127.0.0.1:0").await;
    let client = open(&folder.join("home")).await;
    let mut person = Person { events: client.subscribe(), client, home: folder.join("home") };
    person.client.connect(&server.link).await.unwrap();
    let state = person.client.state().await.unwrap();
    assert_eq!((state.connection, &state.offered_key), (ConnectionState::Connected, &None));
    assert_eq!(state.transport, Some(TransportView::Tls));
    let (_, listen) = server.stop().await;
    person.until_connection(ConnectionState::Offline).await;
    assert_eq!(person.client.state().await.unwrap().transport, None);
    (person, state, listen.to_string())
}

fn fingerprint(server: &Server) -> String {
    server.link.rsplit('#').next().unwrap().to_owned()
}

async fn until_offered(person: &mut Person) -> OfferedKeyView {
    person
        .until(|event| match event {
            Event::State { state } => state.offered_key.clone(),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_server_key_is_taken_only_by_decision_and_remembered_then() {
    let folder = tempfile::tempdir().unwrap();
    let (mut person, before, listen) = left_alone(folder.path()).await;
    let other = Server::start(&folder.path().join("other"), &listen).await;
    let known = before.server.unwrap().fingerprint;
    let found = fingerprint(&other);
    let offered = until_offered(&mut person).await;
    assert_eq!(offered, OfferedKeyView { known: known.clone(), found: found.clone() });
    assert_eq!(person.client.wait_online().await.unwrap_err().code(), "no_account");

    for wrong in [known.as_str(), "", "something"] {
        let refused = person.client.decide_server_key(wrong, true).await.unwrap_err();
        assert_eq!(refused.code(), "not_found");
    }
    let state = person.client.state().await.unwrap();
    assert_eq!((state.server.unwrap().fingerprint, state.offered_key), (known, Some(offered)));

    let state = person.client.decide_server_key(&found, true).await.unwrap();
    assert_eq!((state.server.unwrap().link, state.offered_key), (other.link.clone(), None));
    person.until_connection(ConnectionState::Connected).await;
    person.client.shut_down().await;
    let client = open(&person.home).await;
    assert_eq!(client.state().await.unwrap().server.unwrap().link, other.link);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_server_key_is_not_offered_again_but_another_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut person, before, listen) = left_alone(folder.path()).await;
    let other = Server::start(&folder.path().join("other"), &listen).await;
    let offered = until_offered(&mut person).await;
    let state = person.client.decide_server_key(&offered.found, false).await.unwrap();
    assert_eq!((state.server, state.offered_key), (before.server, None));
    let again = person.client.decide_server_key(&offered.found, true).await.unwrap_err();
    assert_eq!(again.code(), "not_found");

    // Two more attempts at the same key: it is refused, and not asked about.
    for _ in 0..2 {
        person.until_connection(ConnectionState::Connecting).await;
        person
            .until(|event| match event {
                Event::State { state } if state.connection == ConnectionState::Offline => {
                    assert_eq!(state.offered_key, None);
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    other.stop().await;
    let third = Server::start(&folder.path().join("third"), &listen).await;
    person.client.reconnect_now().await;
    assert_eq!(until_offered(&mut person).await.found, fingerprint(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_a_wrong_fingerprint_is_refused_and_neither_remembered_nor_offered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("relay"), "127.0.0.1:0").await;
    let other = Server::start(&folder.path().join("other"), "127.0.0.1:0").await;
    let client = open(&folder.path().join("home")).await;
    let wrong = server.link.replace(&fingerprint(&server), &fingerprint(&other));
    let refused = client.connect(&wrong).await.unwrap_err();
    assert_eq!(refused.code(), "wrong_fingerprint");
    assert_eq!(refused.details()["found"], fingerprint(&server));
    let state = client.state().await.unwrap();
    assert_eq!((state.connection, state.server), (ConnectionState::Unconfigured, None));
    assert_eq!(state.offered_key, None);
    // The invitation of somebody there leads to the same relay.
    let invitation = mildam_client::read_invitation(&format!("{}/alice", server.link)).unwrap();
    assert_eq!(client.connect(&format!("{}/alice", server.link)).await.unwrap().link, invitation.link);
}

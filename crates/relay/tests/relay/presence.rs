//! Who is online, who is writing, and the sessions of one's own account.

use mildam_protocol::command::{
    Attach, FriendList, PresenceList, PresenceSet, RoomList, SessionEnd, SessionList, Typing,
};
use mildam_protocol::{Code, Event};

use crate::client::Client;
use crate::devices::add_device;
use crate::person::{Person, code, two_talking};
use crate::relay::TestRelay;

/// Everything that a person is told before the relay has done what is queued now.
async fn told(person: &mut Person) -> Vec<Event> {
    let visible = person.client.ask(&PresenceList {}).await.unwrap().visible;
    person.client.ask(&PresenceSet { visible }).await.unwrap();
    person.client.events_until_now().await
}

/// The same, and from here on who comes and goes counts.
async fn watch(person: &mut Person) {
    told(person).await;
    person.client.wants_presence = true;
}

fn presence(person: &Person, online: bool) -> Event {
    Event::Presence { account: person.account.clone(), online }
}

// REQ T9
#[tokio::test]
async fn friends_are_told_who_comes_and_goes_and_nobody_else_is() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let mut carol = Person::new(&relay, "carol").await;
    alice.befriend(&mut bob).await;
    for person in [&mut alice, &mut bob, &mut carol] {
        watch(person).await;
    }
    assert_eq!(alice.client.ask(&PresenceList {}).await.unwrap().online, [bob.account.clone()]);
    assert_eq!(carol.client.ask(&PresenceList {}).await.unwrap().online, []);

    let session = bob.client.session.take();
    bob.client = Client::connect(&relay).await;
    assert_eq!(alice.client.event().await, presence(&bob, false));
    assert_eq!(alice.client.ask(&PresenceList {}).await.unwrap().online, []);
    bob.client.session = session;
    bob.attach().await.unwrap();
    assert_eq!(alice.client.event().await, presence(&bob, true));
    assert_eq!(told(&mut carol).await, []);
    relay.stop().await;
}

// REQ T9
#[tokio::test]
async fn an_account_is_online_as_long_as_one_of_its_connections_is() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    alice.befriend(&mut bob).await;
    let mut second = Client::connect(&relay).await;
    second.session = bob.client.session.clone();
    let proof = bob.secrets.sign_attach_proof(&second.transcript);
    second.ask(&Attach { proof }).await.unwrap();
    watch(&mut alice).await;
    drop(second);
    // The second connection's end is news to nobody; the first one's is.
    bob.client = Client::connect(&relay).await;
    assert_eq!(alice.client.event().await, presence(&bob, false));
    assert_eq!(told(&mut alice).await, []);
    relay.stop().await;
}

// REQ T9
#[tokio::test]
async fn who_hides_is_seen_by_nobody_and_sees_nobody() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    watch(&mut alice).await;
    watch(&mut bob).await;

    bob.client.ask(&PresenceSet { visible: false }).await.unwrap();
    assert_eq!(alice.client.event().await, presence(&bob, false));
    let seen = bob.client.ask(&PresenceList {}).await.unwrap();
    assert!(!seen.visible && seen.online.is_empty());
    assert_eq!(alice.client.ask(&PresenceList {}).await.unwrap().online, []);
    bob.client.ask(&Typing { room }).await.unwrap();
    let session = bob.client.session.take();
    bob.client = Client::connect(&relay).await;
    bob.client.session = session;
    bob.client.wants_presence = true;
    bob.attach().await.unwrap();
    alice.reconnect(&relay).await;
    alice.client.wants_presence = true;
    assert_eq!(told(&mut bob).await, []);
    assert_eq!(told(&mut alice).await, []);

    bob.client.ask(&PresenceSet { visible: true }).await.unwrap();
    assert_eq!(alice.client.event().await, presence(&bob, true));
    assert_eq!(bob.client.ask(&PresenceList {}).await.unwrap().online, [alice.account.clone()]);
    relay.stop().await;
}

// REQ T9, M5
#[tokio::test]
async fn members_are_told_who_is_writing_and_strangers_cannot_tell_them() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, room) = two_talking(&relay).await;
    let mut carol = Person::new(&relay, "carol").await;
    for person in [&mut alice, &mut bob, &mut carol] {
        watch(person).await;
    }
    alice.client.ask(&Typing { room }).await.unwrap();
    let account = alice.account.clone();
    assert_eq!(bob.client.event().await, Event::Typing { room, account });
    assert_eq!(told(&mut alice).await, []);
    assert_eq!(code(carol.client.ask(&Typing { room }).await), Code::NotFound);
    assert_eq!(told(&mut bob).await, []);
    assert_eq!(told(&mut carol).await, []);
    relay.stop().await;
}

// REQ T6, A5
#[tokio::test]
async fn sessions_are_listed_and_ended_from_another_device() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    alice.befriend(&mut bob).await;
    let mut phone = add_device(&relay, &mut alice).await;
    let listed = alice.client.ask(&SessionList {}).await.unwrap().sessions;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|session| session.online && session.expires_at > session.created_at));
    let device = phone.secrets.device();
    assert_eq!(code(bob.client.ask(&SessionEnd { device }).await), Code::NotFound, "it is not bob's");

    phone.client.events_until_now().await;
    alice.client.ask(&SessionEnd { device }).await.unwrap();
    assert_eq!(phone.client.event().await, Event::SessionEnded {});
    assert_eq!(code(phone.client.ask(&RoomList {}).await), Code::SessionRevoked);
    assert_eq!(code(phone.attach().await), Code::SessionRevoked);
    assert_eq!(code(alice.client.ask(&SessionEnd { device }).await), Code::NotFound, "it is over");
    let left = alice.client.ask(&SessionList {}).await.unwrap().sessions;
    assert_eq!(left.iter().map(|session| session.device).collect::<Vec<_>>(), [alice.secrets.device()]);
    // The device is still the account's, and the password brings it back.
    phone.log_in().await.unwrap();
    relay.stop().await;
}

// REQ T6
#[tokio::test]
async fn a_stolen_session_is_of_no_use_without_its_device() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let bob = Person::new(&relay, "bob").await;
    let mut thief = Client::connect(&relay).await;
    thief.session = alice.client.session.clone();
    assert_eq!(code(thief.ask(&FriendList {}).await), Code::NotAttached);
    for proof in [
        // By another device, and by the right one for another connection.
        bob.secrets.sign_attach_proof(&thief.transcript),
        alice.secrets.sign_attach_proof(&alice.client.transcript),
        alice.secrets.sign_login_proof(&thief.transcript),
    ] {
        assert_eq!(code(thief.ask(&Attach { proof }).await), Code::DeviceUnknown);
        assert_eq!(code(thief.ask(&FriendList {}).await), Code::NotAttached);
    }
    alice.client.ask(&FriendList {}).await.unwrap();
    relay.stop().await;
}

//! Friends, and who may know of whom.

use mildam_protocol::command::{
    FriendAccept, FriendDecline, FriendList, FriendRequest, GetAccountKeys, MAX_GREETING,
};
use mildam_protocol::records::{AccountId, RoomKind};
use mildam_protocol::{Code, Event};

use crate::person::{Person, account, code, three, two_friends};
use crate::relay::TestRelay;

fn request(to: &AccountId) -> FriendRequest {
    FriendRequest { account: to.clone(), greeting: "반가워요".into() }
}

// REQ R1, T9
#[tokio::test]
async fn a_request_is_asked_accepted_and_both_are_told() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    assert!(!alice.client.ask(&request(&bob.account)).await.unwrap().friends);
    let Event::FriendRequested { account, nickname, greeting, .. } = bob.client.event().await else {
        panic!("no request came");
    };
    assert_eq!((account, nickname.as_str()), (alice.account.clone(), "alice 님"));
    assert_eq!(greeting, "반가워요");

    let list = alice.client.ask(&FriendList {}).await.unwrap();
    assert_eq!((list.outgoing[0].account.as_str(), list.outgoing[0].nickname.as_str()), ("bob", ""));
    let list = bob.client.ask(&FriendList {}).await.unwrap();
    assert_eq!(list.incoming[0].greeting, "반가워요");

    let accept = FriendAccept { account: alice.account.clone() };
    bob.client.ask(&accept).await.unwrap();
    // The answer may have been lost.
    bob.client.ask(&accept).await.unwrap();
    let told = |event| match event {
        Event::FriendAccepted { account, nickname, .. } => (account.to_string(), nickname),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(alice.client.event().await), ("bob".into(), "bob 님".into()));
    assert_eq!(told(bob.client.event().await), ("alice".into(), "alice 님".into()));
    for (one, other) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        let list = one.client.ask(&FriendList {}).await.unwrap();
        assert_eq!(list.friends[0].account.as_str(), other);
        assert!(list.incoming.is_empty() && list.outgoing.is_empty());
    }
    relay.stop().await;
}

// REQ R1
#[tokio::test]
async fn two_who_ask_each_other_are_friends() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    assert!(!alice.client.ask(&request(&bob.account)).await.unwrap().friends);
    assert!(bob.client.ask(&request(&alice.account)).await.unwrap().friends);
    assert_eq!(code(alice.client.ask(&request(&bob.account)).await), Code::AlreadyFriends);
    relay.stop().await;
}

// REQ R1
#[tokio::test]
async fn a_declined_request_is_gone() {
    let relay = TestRelay::start().await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    alice.client.ask(&request(&bob.account)).await.unwrap();
    bob.client.ask(&FriendDecline { account: alice.account.clone() }).await.unwrap();
    assert_eq!(alice.client.event().await, Event::FriendDeclined { account: bob.account.clone() });
    let accept = FriendAccept { account: alice.account.clone() };
    assert_eq!(code(bob.client.ask(&accept).await), Code::NotFound);
    assert!(alice.client.ask(&FriendList {}).await.unwrap().outgoing.is_empty());
    relay.stop().await;
}

// REQ R1, R2
#[tokio::test]
async fn requests_have_limits() {
    let relay = TestRelay::start_with(|config| {
        config.limits.waiting_requests = 1;
        config.limits.friends = 1;
    })
    .await;
    let mut alice = Person::new(&relay, "alice").await;
    let mut bob = Person::new(&relay, "bob").await;
    let mut carol = Person::new(&relay, "carol").await;
    assert_eq!(code(alice.client.ask(&request(&account("nobody"))).await), Code::NotFound);
    assert_eq!(code(alice.client.ask(&request(&alice.account)).await), Code::Forbidden);
    let long = FriendRequest { greeting: "x".repeat(MAX_GREETING + 1), ..request(&bob.account) };
    assert_eq!(code(alice.client.ask(&long).await), Code::TooLarge);

    alice.client.ask(&request(&bob.account)).await.unwrap();
    // The same again is the same; another one is too many.
    alice.client.ask(&request(&bob.account)).await.unwrap();
    assert_eq!(code(alice.client.ask(&request(&carol.account)).await), Code::LimitReached);
    assert_eq!(code(carol.client.ask(&request(&bob.account)).await), Code::LimitReached);

    bob.client.ask(&FriendAccept { account: alice.account.clone() }).await.unwrap();
    assert_eq!(code(alice.client.ask(&request(&carol.account)).await), Code::LimitReached);
    relay.stop().await;
}

// REQ R1, R2, A8
#[tokio::test]
async fn keys_are_for_those_who_may_know() {
    let relay = TestRelay::start().await;
    let (mut alice, mut bob, carol) = three(&relay).await;
    let ask =
        |names: &[&AccountId]| GetAccountKeys { accounts: names.iter().map(|n| (*n).clone()).collect() };
    let all = ask(&[&bob.account, &carol.account, &account("nobody"), &alice.account]);
    let known = |answer: mildam_protocol::command::AccountKeysAnswer| -> Vec<String> {
        answer.accounts.iter().map(|known| known.keys.account.to_string()).collect()
    };
    assert_eq!(known(alice.client.ask(&all).await.unwrap()), ["bob", "carol", "alice"]);
    // Bob and Carol do not know each other ...
    assert_eq!(known(bob.client.ask(&all).await.unwrap()), ["bob", "alice"]);
    // ... until they meet in a room.
    alice.create(RoomKind::Group, &[&bob.account.clone(), &carol.account.clone()]).await;
    let answer = bob.client.ask(&all).await.unwrap();
    assert_eq!(answer.accounts[1].keys, carol.keys);
    assert_eq!(known(answer), ["bob", "carol", "alice"]);
    relay.stop().await;
}

#[tokio::test]
async fn too_many_keys_are_not_asked_for_at_once() {
    let relay = TestRelay::start().await;
    let (mut alice, bob) = two_friends(&relay).await;
    let too_many = GetAccountKeys { accounts: vec![bob.account.clone(); 101] };
    assert_eq!(code(alice.client.ask(&too_many).await), Code::TooLarge);
    relay.stop().await;
}

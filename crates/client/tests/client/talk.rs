//! Two and more people talk.

use crate::world::*;

// REQ T2, A4, R1, C1, M1, M2, L2
#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_and_read_it_again_without_the_relay() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let friends = alice.client.friends().await.unwrap();
    assert_eq!(friends.friends[0].nickname, "BOB");
    let number = alice.client.contact("bob").await.unwrap().safety_number;
    assert_eq!(number, bob.client.contact("alice").await.unwrap().safety_number);

    let room = alice.client.open_direct("bob").await.unwrap();
    assert_eq!((room.name.as_str(), room.members.len()), ("BOB", 2));
    let sent = alice.client.send(&room.room, "안녕하세요, 밥!").await.unwrap();
    assert_eq!(sent.state, MessageState::Pending);
    let received = bob.until_text("안녕하세요, 밥!", MessageState::Received).await;
    assert_eq!((received.from.as_str(), &received.id), ("alice", &sent.id));
    alice.until_text("안녕하세요, 밥!", MessageState::Delivered).await;
    assert_eq!(bob.client.room(&room.room).await.unwrap().unread, 1);
    bob.client.mark_read(&room.room, received.seq.unwrap()).await.unwrap();
    alice.until_text("안녕하세요, 밥!", MessageState::Read).await;
    assert_eq!(bob.client.room(&room.room).await.unwrap().unread, 0);
    bob.client.send(&room.room, "Hello, Alice!").await.unwrap();
    alice.until_text("Hello, Alice!", MessageState::Received).await;
    bob.until_text("Hello, Alice!", MessageState::Delivered).await;

    world.server.stop().await;
    let home = bob.home.clone();
    bob.client.shut_down().await;
    let bob = open(&home).await;
    let page = bob.history(&room.room, None, 50).await.unwrap();
    let texts: Vec<_> = page.messages.iter().filter_map(text_of).collect();
    assert_eq!(texts, ["안녕하세요, 밥!", "Hello, Alice!"]);
    let hits = bob.search("하세", 10).await.unwrap();
    assert_eq!((hits.len(), hits[0].room_name.as_str()), (1, "ALICE"));
    let waiting = bob.send(&room.room, "나중에").await.unwrap();
    assert_eq!(waiting.state, MessageState::Pending);
}

// REQ L3, M3
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_offline_goes_out_once_and_in_order() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let room = alice.client.open_direct("bob").await.unwrap().room;
    alice.client.send(&room, "하나").await.unwrap();
    bob.until_text("하나", MessageState::Received).await;
    alice.until_text("하나", MessageState::Stored).await;

    let World { folder, server } = world;
    let (data, listen) = server.stop().await;
    alice.until_connection(ConnectionState::Offline).await;
    for text in ["둘", "셋", "넷"] {
        alice.client.send(&room, text).await.unwrap();
    }
    // The client is closed in between: the outbox is in the vault.
    let home = alice.home.clone();
    alice.client.shut_down().await;
    let client = open(&home).await;
    let mut alice = Person { events: client.subscribe(), client, home };
    let server = Server::start(&data, &listen.to_string()).await;
    alice.client.reconnect_now().await;
    bob.client.reconnect_now().await;
    bob.until_text("넷", MessageState::Received).await;
    alice.until_text("넷", MessageState::Stored).await;
    assert_eq!(bob.texts(&room).await, ["하나", "둘", "셋", "넷"]);
    assert_eq!(alice.texts(&room).await, ["하나", "둘", "셋", "넷"]);
    server.stop().await;
    drop(folder);
}

// REQ C2, C5
#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_and_shrinks() {
    let world = World::new().await;
    let (mut alice, mut bob, mut carol) =
        tokio::join!(world.person("alice"), world.person("bob"), world.person("carol"));
    alice.befriend(&mut bob).await;
    alice.befriend(&mut carol).await;
    let room = alice.client.create_group("우리집", &["bob".to_owned()]).await.unwrap();
    assert_eq!(room.name, "우리집");
    let room = room.room;
    bob.until_room(|view| view.name == "우리집").await;
    alice.client.send(&room, "before carol").await.unwrap();
    bob.until_text("before carol", MessageState::Received).await;
    alice.client.invite(&room, &["carol".to_owned()]).await.unwrap();
    carol.until_room(|view| view.name == "우리집" && view.members.len() == 3).await;
    bob.until_room(|view| view.members.len() == 3).await;
    // Bob and Carol are not friends, but now know each other's keys.
    bob.client.send(&room, "welcome").await.unwrap();
    carol.until_text("welcome", MessageState::Received).await;
    assert_eq!(carol.texts(&room).await, ["welcome"]);
    assert_eq!(bob.client.invite(&room, &["alice".to_owned()]).await, Ok(()));

    bob.client.leave(&room).await.unwrap();
    assert!(bob.client.room(&room).await.unwrap().left);
    assert_eq!(bob.client.send(&room, "?").await.unwrap_err().code(), "not_member");
    carol.until_room(|view| view.members.len() == 2).await;
    carol.client.send(&room, "without bob").await.unwrap();
    alice.until_text("without bob", MessageState::Received).await;
    assert_eq!(bob.texts(&room).await, ["before carol", "welcome"]);

    // Who comes back reads from there on, and keeps what there was.
    alice.client.invite(&room, &["bob".to_owned()]).await.unwrap();
    bob.until_room(|view| !view.left && view.members.len() == 3).await;
    alice.client.send(&room, "back again").await.unwrap();
    bob.until_text("back again", MessageState::Received).await;
    assert_eq!(bob.texts(&room).await, ["before carol", "welcome", "back again"]);
    assert_eq!(carol.client.open_direct("bob").await.unwrap_err().code(), "not_friends");
}

// REQ C1
#[tokio::test(flavor = "multi_thread")]
async fn both_open_the_room_at_once_and_there_is_one() {
    let world = World::new().await;
    let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
    alice.befriend(&mut bob).await;
    let (one, two) = tokio::join!(alice.client.open_direct("bob"), bob.client.open_direct("alice"));
    assert_eq!(one.unwrap().room, two.unwrap().room);
}

// REQ T6, A5
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_has_its_code() {
    let world = World::new().await;
    let link = world.server.link.clone();
    let code = |error: mildam_client::Error| error.code().to_owned();
    let fresh = open(&world.folder.path().join("fresh")).await;
    assert_eq!(fresh.connect("relay.example.org").await.map_err(code), Err("bad_link".to_owned()));
    let wrong = format!("{}#{}", link.split('#').next().unwrap(), "A".repeat(43));
    assert_eq!(fresh.connect(&wrong).await.map_err(code), Err("wrong_fingerprint".to_owned()));
    let sign_up = |account: &str, password: &str| SignUp {
        account: account.to_owned(),
        email: "x@example.org".to_owned(),
        password: Zeroizing::new(password.to_owned()),
        nickname: String::new(),
    };
    assert_eq!(
        fresh.sign_up(sign_up("dave", "long enough")).await.map_err(code),
        Err("no_server".to_owned())
    );
    fresh.connect(&link).await.unwrap();
    assert_eq!(
        fresh.sign_up(sign_up("Dave", "long enough")).await.map_err(code),
        Err("bad_account".to_owned())
    );
    assert_eq!(fresh.sign_up(sign_up("dave", "short")).await.map_err(code), Err("bad_password".to_owned()));

    let alice = world.person("alice").await;
    assert_eq!(
        fresh.sign_up(sign_up("alice", "long enough")).await.map_err(code),
        Err("account_taken".to_owned())
    );
    assert_eq!(alice.client.request_friend("nobody", "").await.map_err(code), Err("not_found".to_owned()));
    assert_eq!(alice.client.open_direct("nobody").await.map_err(code), Err("not_friends".to_owned()));
    alice.client.log_out().await.unwrap();
    assert_eq!(
        alice.client.request_friend("nobody", "").await.map_err(code),
        Err("session_expired".to_owned())
    );
    let wrong = alice.client.log_in("alice", Zeroizing::new("wrong horse".to_owned())).await;
    assert_eq!(wrong.map_err(code), Err("wrong_credentials".to_owned()));
    let again = alice.client.log_in("alice", Zeroizing::new("correct horse".to_owned())).await.unwrap();
    assert!(again.logged_in);
    let locked =
        Client::open(&alice.home, Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()))).await;
    assert_eq!(locked.map(|_| ()).map_err(code), Err("vault_locked".to_owned()));
}

use getrandom::SysRng;
use mildam_records::id::AccountId;
use proptest::prelude::*;
use rand_core::UnwrapErr;
use serde_json::json;

use super::*;
use crate::command::{FriendRequest, Kind, REQUEST_LIMIT, Request, ServerInfo, SessionId};
use crate::event::Event;
use crate::frame::SESSION_LIMIT;
use crate::set_up::tests::established;

type Rng = UnwrapErr<SysRng>;

fn rng() -> Rng {
    UnwrapErr(SysRng)
}

struct Pair {
    client: (client::Sealer, client::Opener),
    server: (server::Opener, server::Sealer),
}

fn pair() -> Pair {
    let (client, server) = established(None);
    Pair { client: client.session.split(), server: server.session.split() }
}

fn ask(pair: &mut Pair, id: u64) -> Vec<u8> {
    pair.client.0.request(id, None, &ServerInfo {}, &mut rng()).unwrap()
}

// REQ T4
#[test]
fn requests_and_answers_pass() {
    let mut pair = pair();
    let session = SessionId::from_bytes([8; 32]);
    let account: AccountId = "bob".parse().unwrap();
    let command = FriendRequest { account, greeting: "안녕".into() };
    let payload = pair.client.0.request(7, Some(&session), &command, &mut rng()).unwrap();
    let plain = pair.server.0.open(payload).unwrap();
    let request = IncomingRequest::read(&plain).unwrap();
    assert_eq!((request.id, request.session.as_ref()), (7, Some(&session)));
    assert_eq!(request.kind, Ok(Kind::FriendRequest));
    assert!(matches!(request.request(), Ok(Request::FriendRequest(read)) if *read == command));

    let payload = pair.server.1.answer(7, &Ok(r#"{"friends":true}"#.to_owned()), &mut rng()).unwrap();
    let clear: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(clear["status"], "success");
    assert!(clear["data"].is_string() && clear.get("message").is_none());
    let answer = pair.client.1.open(&payload).unwrap();
    assert_eq!(answer, Incoming::Answer { id: 7, outcome: Ok(json!({"friends": true})) });

    let refusal = Refusal::new(Code::NotFriends, "friends first");
    let payload = pair.server.1.answer(8, &Err(refusal.clone()), &mut rng()).unwrap();
    let clear: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&clear["status"], &clear["message"]), (&json!("invalid"), &json!("friends first")));
    assert!(clear.get("data").is_none());
    assert_eq!(pair.client.1.open(&payload).unwrap(), Incoming::Answer { id: 8, outcome: Err(refusal) });
}

// REQ T9
#[test]
fn pushes_come_between_answers_and_unknown_ones_are_let_pass() {
    let mut pair = pair();
    let event = Event::FriendDeclined { account: "bob".parse().unwrap() };
    let payload = pair.server.1.push(&event.to_json(), &mut rng()).unwrap();
    assert_eq!(pair.client.1.open(&payload).unwrap(), Incoming::Push(Box::new(event)));
    let payload = pair.server.1.push(r#"{"event":"from_the_future","data":{}}"#, &mut rng()).unwrap();
    assert_eq!(pair.client.1.open(&payload).unwrap(), Incoming::UnknownPush);
}

// REQ T5
#[test]
fn replayed_reordered_and_reflected_requests_are_refused() {
    let mut pair = pair();
    let (first, second) = (ask(&mut pair, 1), ask(&mut pair, 2));
    let mut open = |payload: &[u8]| pair.server.0.open(payload.to_vec());
    assert_eq!(open(&second), Err(SessionError::NotAuthentic));
    assert!(open(&first).is_ok());
    assert_eq!(open(&first), Err(SessionError::NotAuthentic));
    let answer = pair.server.1.answer(1, &Ok("{}".to_owned()), &mut rng()).unwrap();
    assert!(open(&answer).is_err(), "an answer came back as a request");
    assert!(open(&second).is_ok());
    let (_, another) = established(None);
    let (mut opener, _) = another.session.split();
    assert_eq!(opener.open(first), Err(SessionError::NotAuthentic));
}

// REQ T5
#[test]
fn what_stands_in_clear_is_authenticated() {
    for (field, value) in
        [("status", json!("fail")), ("id", json!(9)), ("code", json!("internal")), ("message", json!("x"))]
    {
        let mut pair = pair();
        let refusal = Refusal::new(Code::NotFriends, "friends first");
        let payload = pair.server.1.answer(8, &Err(refusal), &mut rng()).unwrap();
        let mut clear: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        clear[field] = value;
        let altered = serde_json::to_vec(&clear).unwrap();
        assert_eq!(pair.client.1.open(&altered), Err(SessionError::NotAuthentic), "{field}");
    }
}

#[test]
fn a_request_that_means_nothing_is_answered() {
    let cases = [
        (r#"{"command":"fly","id":1,"data":{}}"#, Code::UnknownCommand),
        (r#"{"command":"friend_request","id":1,"data":{"account":5}}"#, Code::Malformed),
        (r#"{"command":"friend_request","id":1,"data":{}}"#, Code::Malformed),
        (r#"{"command":"friend_request","id":1}"#, Code::Malformed),
        (r#"{"command":"server_info","id":1,"data":{"more":1}}"#, Code::Malformed),
        (r#"{"command":"server_info","id":1,"data":{},"more":1}"#, Code::Malformed),
        (r#"{"command":"server_info","id":1,"session":5,"data":{}}"#, Code::Malformed),
        (r#"{"id":1}"#, Code::Malformed),
    ];
    for (text, code) in cases {
        let request = IncomingRequest::read(text.as_bytes()).unwrap();
        assert_eq!((request.id, request.request().unwrap_err().code), (1, code), "{text}");
    }
    for text in ["", "{", "[]", "{}", r#"{"command":"ping","data":{}}"#, r#"{"command":"ping","id":-1}"#] {
        assert_eq!(IncomingRequest::read(text.as_bytes()).unwrap_err(), SessionError::Malformed, "{text}");
    }
}

// REQ T4
#[test]
fn a_key_that_comes_twice_is_refused() {
    for text in [
        r#"{"command":"server_info","command":"ping","id":1,"data":{}}"#,
        r#"{"command":"server_info","id":1,"data":{},"data":{}}"#,
        r#"{"command":"friend_decline","id":1,"data":{"account":"bob","account":"carol"}}"#,
    ] {
        let refused = IncomingRequest::read(text.as_bytes()).unwrap().request().unwrap_err();
        assert_eq!(refused.code, Code::Malformed, "{text}");
    }
    // Whom to answer is not known.
    let text = br#"{"command":"server_info","id":1,"id":2,"data":{}}"#;
    assert_eq!(IncomingRequest::read(text).unwrap_err(), SessionError::Malformed);
    let mut pair = pair();
    let event = r#"{"event":"friend_declined","data":{"account":"bob","account":"carol"}}"#;
    let payload = pair.server.1.push(event, &mut rng()).unwrap();
    assert_eq!(pair.client.1.open(&payload), Err(SessionError::Malformed));
    let answer = r#"{"status":"success","id":1,"id":1,"data":""}"#;
    assert_eq!(pair.client.1.open(answer.as_bytes()), Err(SessionError::Malformed));
}

#[test]
fn a_command_says_how_long_it_may_be() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of(kind.name()), Some(*kind));
        assert!((REQUEST_LIMIT..=SESSION_LIMIT).contains(&kind.limit()), "{kind:?}");
    }
    let long: Vec<_> = Kind::ALL.iter().filter(|kind| kind.limit() > REQUEST_LIMIT).collect();
    assert_eq!(long.len(), 5, "{long:?}");
    assert_eq!(Kind::of("fly"), None);
}

#[test]
fn a_key_that_is_used_up_carries_nothing() {
    let mut pair = pair();
    pair.client.0.0.jump_to(FRAME_LIMIT);
    let refused = pair.client.0.request(1, None, &ServerInfo {}, &mut rng());
    assert_eq!(refused, Err(SessionError::UsedUp));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // REQ T5
    #[test]
    fn no_flipped_bit_and_no_cut_passes(at in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<bool>()) {
        let mut pair = pair();
        let mut payload = ask(&mut pair, 1);
        let at = at.index(payload.len());
        if cut { payload.truncate(at) } else { payload[at] ^= 1 << bit }
        prop_assert_eq!(pair.server.0.open(payload), Err(SessionError::NotAuthentic));
    }

    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut pair = pair();
        prop_assert!(pair.client.1.open(&bytes).is_err());
        prop_assert!(pair.server.0.open(bytes).is_err());
    }
}

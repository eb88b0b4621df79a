//! What stands in requests, answers and pushes, once they are open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_fuzz::json_reads_back;
use mildam_protocol::command;
use mildam_protocol::event::Event;
use mildam_protocol::session::{Incoming, IncomingRequest};
use mildam_records::json::Unambiguous;
use serde::de::DeserializeOwned;

/// Answers are read from a value, which has lost what its text had twice.
fn answer<T: serde::Serialize + DeserializeOwned>(value: &serde_json::Value) {
    if let Ok(read) = serde_json::from_value::<T>(value.clone()) {
        let written = serde_json::to_value(&read).expect("what was read can be written");
        let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
        assert_eq!(serde_json::to_value(&again).expect("what was read can be written"), written);
    }
}

fuzz_target!(|plain: &[u8]| {
    if IncomingRequest::read(plain).is_ok_and(|request| request.request().is_ok()) {
        assert!(serde_json::from_slice::<Unambiguous>(plain).is_ok());
    }
    if let Ok(Incoming::Push(event)) = Incoming::read(None, plain) {
        assert_eq!(json_reads_back::<Event>(plain), Some(*event));
    }
    if let Ok(Incoming::Answer { outcome: Ok(value), .. }) = Incoming::read(Some(1), plain) {
        answer::<command::ServerInfoAnswer>(&value);
        answer::<command::PasswordAnswer>(&value);
        answer::<command::SessionAnswer>(&value);
        answer::<command::RecoverStartAnswer>(&value);
        answer::<command::AttachAnswer>(&value);
        answer::<command::FriendRequestAnswer>(&value);
        answer::<command::FriendListAnswer>(&value);
        answer::<command::AccountKeysAnswer>(&value);
        answer::<command::RoomCreateAnswer>(&value);
        answer::<command::StoredAnswer>(&value);
        answer::<command::RoomListAnswer>(&value);
        answer::<command::RoomLogAnswer>(&value);
    }
});

//! What messages say, and what a room's profile says, once they are open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_e2ee::{Content, RoomProfile};

fuzz_target!(|json: &[u8]| {
    if let Some(content) = Content::read(json) {
        let written = serde_json::to_vec(&content).expect("what was read can be written");
        assert_eq!(Content::read(&written), Some(content));
    }
    if let Some(profile) = RoomProfile::read(json) {
        let written = serde_json::to_vec(&profile).expect("what was read can be written");
        assert_eq!(RoomProfile::read(&written), Some(profile));
    }
});

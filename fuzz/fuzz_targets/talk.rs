//! Clients and a relay that talk, in the order that the bytes say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_fuzz::talk::Talk;

/// Steps of one conversation: longer ones find nothing that two shorter ones do not.
const STEPS: usize = 48;

fuzz_target!(|schedule: &[u8]| {
    let mut talk = Talk::begin();
    for byte in schedule.iter().take(STEPS) {
        talk.step(*byte);
    }
    talk.end();
});

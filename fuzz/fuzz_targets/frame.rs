//! Cutting a stream into payloads: however it arrives, it is cut the same way, and what was cut is
//! what was sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_protocol::frame::{Decoder, SET_UP_LIMIT, encode};

fn cut(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(SET_UP_LIMIT);
    let mut payloads = Vec::new();
    for bytes in stream.chunks(piece) {
        decoder.extend(bytes);
        loop {
            match decoder.next() {
                Ok(Some(payload)) => payloads.push(payload),
                Ok(None) => break,
                Err(_) => return (payloads, false),
            }
        }
    }
    (payloads, true)
}

fuzz_target!(|bytes: (u8, &[u8])| {
    let (piece, stream) = bytes;
    let (payloads, whole) = cut(stream, usize::from(piece).max(1));
    assert_eq!((payloads.clone(), whole), cut(stream, stream.len().max(1)));
    let written: Vec<u8> = payloads.iter().flat_map(|payload| encode(payload).expect("a payload")).collect();
    assert!(stream.starts_with(&written));
});

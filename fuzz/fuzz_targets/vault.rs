//! What a vault reads from its folder. Where a checksum stands at the end, it is also made right, so
//! that what is behind it is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_vault::hazmat::{Form, rewrite};
use sha2::{Digest, Sha256};

const FORMS: [Form; 10] = [
    Form::KeySlot,
    Form::Snapshot,
    Form::Cell,
    Form::Head,
    Form::History,
    Form::Outbox,
    Form::Receipt,
    Form::Account,
    Form::Bucket,
    Form::Postings,
];

fuzz_target!(|input: (u8, &[u8])| {
    let (form, bytes) = (FORMS[usize::from(input.0) % FORMS.len()], input.1);
    let summed = [bytes, &Sha256::digest(bytes)].concat();
    for bytes in [bytes, &summed] {
        if let Some(written) = rewrite(form, bytes) {
            assert_eq!(written, bytes);
        }
    }
});

//! Server links, as people paste them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_protocol::ServerLink;

fuzz_target!(|text: &str| {
    if let Ok(link) = text.parse::<ServerLink>() {
        assert_eq!(link.to_string().parse(), Ok(link.clone()));
        assert_eq!(ServerLink::new(link.host(), link.port(), *link.fingerprint()), Ok(link));
    }
});

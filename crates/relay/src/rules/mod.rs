//! What a request must be like to be accepted, judged from values alone: no store, no clock.

pub mod epoch;
pub mod room;
pub mod text;

use mildam_protocol::records::RecordError;
use mildam_protocol::{Code, Refusal};

/// A refusal with its words.
pub(crate) fn refuse<T>(code: Code, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

/// Refuses unless `holds`.
pub(crate) fn require(holds: bool, code: Code, message: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(code, message) }
}

/// What is said of a record that does not verify. The reason names the part, never its content.
pub(crate) fn bad_record(error: &RecordError) -> Refusal {
    Refusal::new(Code::BadRecord, format!("{error}"))
}

/// What is said when the room, an epoch or a device list has moved on.
pub(crate) fn stale(what: &str) -> Refusal {
    Refusal::new(Code::Stale, format!("{what} has moved on; catch up and try again"))
}

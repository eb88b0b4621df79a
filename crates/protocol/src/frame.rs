//! Frames: a length, then so many bytes.
//!
//! ```text
//! frame = u32 big-endian length of the payload || payload
//! ```
//!
//! The length is judged before a byte of the payload is kept, so that no peer makes the other
//! allocate more than the limit of the phase that the connection is in.

/// Bytes of the length.
pub const HEADER: usize = 4;
/// The longest payload while the set-up is under way.
pub const SET_UP_LIMIT: usize = 16 * 1024;
/// The longest payload from a client that has not said yet who it is.
pub const UNBOUND_LIMIT: usize = 64 * 1024;
/// The longest payload afterwards: an epoch of the largest room fits.
pub const SESSION_LIMIT: usize = 8 * 1024 * 1024;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The payload is longer than the limit.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// What the frame says.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A payload of no bytes means nothing.
    #[error("an empty frame")]
    Empty,
}

fn judge(length: usize, limit: usize) -> Result<(), FrameError> {
    match length {
        0 => Err(FrameError::Empty),
        _ if length > limit => Err(FrameError::TooLong { length, limit }),
        _ => Ok(()),
    }
}

/// Puts the length before a payload.
///
/// # Errors
/// [`FrameError`] for a payload that no receiver would take.
pub fn encode(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    judge(payload.len(), SESSION_LIMIT)?;
    let length = u32::try_from(payload.len())
        .map_err(|_| FrameError::TooLong { length: payload.len(), limit: SESSION_LIMIT })?;
    let mut frame = Vec::with_capacity(HEADER.saturating_add(payload.len()));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// Reads the length of a frame, for who reads header and payload separately.
///
/// # Errors
/// [`FrameError`] for a length of zero or above the limit.
pub fn payload_length(header: [u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    judge(length, limit).map(|()| length)
}

/// Cuts a stream of bytes into payloads. Between frames it keeps no memory.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What has arrived and is not a whole payload yet.
    held: Vec<u8>,
}

impl Decoder {
    /// Begins a stream whose payloads have at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new() }
    }

    /// From the next frame on another limit holds.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes bytes as they arrive. It never makes room for more than the frame that is under way.
    pub fn extend(&mut self, bytes: &[u8]) {
        let needed = self.held.len().saturating_add(bytes.len());
        if needed > self.held.capacity() {
            let end = self.under_way().map_or(needed, |length| length.saturating_add(HEADER));
            let room = self.held.capacity().saturating_mul(2).min(end).max(needed);
            self.held.reserve_exact(room.saturating_sub(self.held.len()));
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next payload, if it is there whole. Its length is judged as soon as it is known.
    ///
    /// # Errors
    /// [`FrameError`] as soon as a length is known to be wrong. The stream is of no use then.
    #[expect(clippy::should_implement_trait, reason = "an error ends the stream, None does not")]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(header) = self.held.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let end = payload_length(*header, self.limit)?.saturating_add(HEADER);
        if self.held.len() < end {
            return Ok(None);
        }
        let rest = self.held.split_off(end);
        let mut payload = std::mem::replace(&mut self.held, rest);
        payload.drain(..HEADER);
        Ok(Some(payload))
    }

    /// Bytes of the payload that has begun to arrive, as far as its length is known; none between frames.
    #[must_use]
    pub fn under_way(&self) -> Option<usize> {
        match self.held.first_chunk::<HEADER>() {
            Some(header) => Some(usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX)),
            None if self.held.is_empty() => None,
            None => Some(0),
        }
    }

    /// Bytes of memory that it keeps.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.held.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // REQ T1
    #[test]
    fn a_length_is_judged_before_its_payload_arrives() {
        let mut decoder = Decoder::new(SET_UP_LIMIT);
        decoder.extend(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next(), Err(FrameError::TooLong { .. })));
        let mut decoder = Decoder::new(SET_UP_LIMIT);
        decoder.extend(&[0; 4]);
        assert_eq!(decoder.next(), Err(FrameError::Empty));
    }

    proptest! {
        #[test]
        fn payloads_come_back_however_the_stream_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..8),
            cut in 1_usize..64,
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|p| encode(p).unwrap()).collect();
            let mut decoder = Decoder::new(SESSION_LIMIT);
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.extend(piece);
                while let Some(payload) = decoder.next().unwrap() {
                    read.push(payload);
                }
            }
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::new(SET_UP_LIMIT);
            decoder.extend(&bytes);
            while let Ok(Some(payload)) = decoder.next() {
                prop_assert!(payload.len() <= SET_UP_LIMIT);
            }
        }
    }
}

//! Canonical bytes: `T(label, f1, f2, ...)`, the one encoding under every signature, hash, MAC,
//! AAD and HKDF info.
//!
//! ```text
//! T(label, f1, ...) = field(label) || field(f1) || ...
//! field(x)          = u32 big-endian length of x in bytes || x
//! integer           = a field of 8 bytes, u64 big-endian
//! string            = a field of its UTF-8 bytes, as they are
//! list              = u32 big-endian count || the elements, each a field
//! optional          = one byte 0, or one byte 1 followed by the field
//! ```
//!
//! The encoding is injective for a given label: the label fixes how many fields follow and of
//! which kind.

use sha2::{Digest, Sha256};

use crate::id::Hash;

/// A buffer that grows by one field at a time.
#[derive(Clone, Debug)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Begins `T(label, ...)`. Labels read `mildam/<purpose>/v1` and serve one purpose each.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(Vec::with_capacity(256)).bytes(label.as_bytes())
    }

    /// Begins an element of a list: fields without a label.
    #[must_use]
    pub fn element() -> Self {
        Self(Vec::new())
    }

    /// Appends a byte string.
    ///
    /// A length above `u32::MAX` cannot occur: frames are limited to far less, and a length that
    /// large is encoded as `u32::MAX`, which no honest decoder accepts.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        self.count(field.len());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends a string as its UTF-8 bytes.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Appends an integer as 8 bytes, big-endian.
    #[must_use]
    pub fn integer(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends an optional byte string: a presence byte, then the field if there is one.
    #[must_use]
    pub fn optional(mut self, field: Option<&[u8]>) -> Self {
        match field {
            None => {
                self.0.push(0);
                self
            }
            Some(bytes) => {
                self.0.push(1);
                self.bytes(bytes)
            }
        }
    }

    /// Appends a list: its count, then each element as a field.
    #[must_use]
    pub fn list<I>(mut self, elements: I) -> Self
    where
        I: IntoIterator<Item = Canonical>,
        I::IntoIter: ExactSizeIterator,
    {
        let elements = elements.into_iter();
        self.count(elements.len());
        elements.fold(self, |so_far, element| so_far.bytes(element.as_bytes()))
    }

    /// The bytes so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// SHA-256 over the bytes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::from_bytes(Sha256::digest(&self.0).into())
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&count.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_documented_one() {
        let bytes = Canonical::new("ab")
            .integer(258)
            .optional(None)
            .optional(Some(b"x"))
            .list([Canonical::element().text("가"), Canonical::element()])
            .into_bytes();
        let expected = [
            &[0, 0, 0, 2, b'a', b'b'][..],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2],
            &[0],
            &[1, 0, 0, 0, 1, b'x'],
            &[0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 3, 0xea, 0xb0, 0x80, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_border_between_fields_cannot_move() {
        let one = Canonical::new("l").text("ab").text("c").hash();
        let other = Canonical::new("l").text("a").text("bc").hash();
        assert_ne!(one, other);
    }
}

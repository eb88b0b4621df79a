//! Names of things: accounts, devices, rooms, messages, and hashes.

use serde::{Deserialize, Deserializer, Serialize};

use crate::bytes::fixed_bytes;
use crate::keys::RecordError;

fixed_bytes!(
    /// A SHA-256 value, 32 bytes.
    Hash,
    32
);

fixed_bytes!(
    /// A room: the hash of its `created` change, 32 bytes. It holds a nonce, so no two are alike.
    RoomId,
    32
);

fixed_bytes!(
    /// A device: the first 16 bytes of
    /// `SHA-256(T("mildam/device-id/v1", account, wrap key, device key))`. An id therefore belongs
    /// to one pair of keys for ever.
    DeviceId,
    16
);

fixed_bytes!(
    /// What the sender calls its message, 16 random bytes. A resend bears the same one.
    ClientMessageId,
    16
);

impl Hash {
    /// 32 zero bytes: what stands before the first entry of a log or chain.
    pub const ZERO: Self = Self::from_bytes([0; 32]);
}

impl From<Hash> for RoomId {
    fn from(hash: Hash) -> Self {
        Self::from_bytes(*hash.as_bytes())
    }
}

/// The id that a person chose: 3 to 32 characters of `a-z`, `0-9`, `_`, `.`, beginning with a
/// letter. It is an address, unique on its relay; the nickname is what people read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AccountId(String);

impl AccountId {
    /// Shortest id, in characters.
    pub const MIN: usize = 3;
    /// Longest id, in characters.
    pub const MAX: usize = 32;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for AccountId {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'.');
        let fits = (Self::MIN..=Self::MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && text.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
        fits.then(|| Self(text.to_owned())).ok_or(RecordError::Malformed("account id"))
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_are_narrow() {
        for good in ["bob", "alice.kim", "a_1", &"a".repeat(32)] {
            assert!(good.parse::<AccountId>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "1ab", ".ab", "Bob", "밀담밀담", "a b c", &"a".repeat(33)] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fixed_bytes_have_one_spelling() {
        let hash = Hash::from_bytes([7; 32]);
        let text = hash.to_string();
        assert_eq!(text.parse::<Hash>().unwrap(), hash);
        assert!(format!("{text}=").parse::<Hash>().is_err());
        // 43 base64url characters carry 258 bits; the two spare ones must be zero.
        let mut other = text.clone();
        other.pop();
        other.push('d');
        assert!(other.parse::<Hash>().is_err());
    }
}

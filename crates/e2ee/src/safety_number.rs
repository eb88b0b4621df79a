//! The safety number: what two people compare to know that nobody stands between them.

use std::fmt;

use mildam_records::{AccountId, Canonical, IdentityPublicKey};
use unicode_normalization::UnicodeNormalization;

use crate::KeyError;
use crate::seal;

/// Groups of digits.
const GROUPS: usize = 12;
/// Digits of a number.
pub const DIGITS: usize = 60;

/// 60 digits in 12 groups of five, the same on both sides:
/// `HKDF-SHA-256(salt "mildam/safety-number/v1", T("mildam/safety-number/v1", account, fingerprint,
/// account, fingerprint), info T("mildam/safety-number/v1"))`, 60 bytes, the account that sorts
/// first standing first; each 5 bytes as a big-endian number modulo 100,000.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SafetyNumber([u32; GROUPS]);

impl SafetyNumber {
    /// The number of two accounts, in any order.
    ///
    /// # Errors
    /// [`KeyError::Primitive`]
    pub fn of(
        one: (&AccountId, &IdentityPublicKey),
        two: (&AccountId, &IdentityPublicKey),
    ) -> Result<Self, KeyError> {
        const LABEL: &str = "mildam/safety-number/v1";
        let (first, second) = if one.0 <= two.0 { (one, two) } else { (two, one) };
        let material = [first, second].into_iter().fold(Canonical::new(LABEL), |bytes, (account, key)| {
            bytes.text(account.as_str()).bytes(key.fingerprint().as_bytes())
        });
        let bytes = seal::derive::<60>(LABEL.as_bytes(), material.as_bytes(), &Canonical::new(LABEL))?;
        let mut groups = [0; GROUPS];
        for (group, five) in groups.iter_mut().zip(bytes.chunks_exact(5)) {
            let number = five.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
            *group = u32::try_from(number % 100_000).unwrap_or(0);
        }
        Ok(Self(groups))
    }

    /// The twelve groups of five digits.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.0.iter().map(|group| format!("{group:05}")).collect()
    }
}

/// The digits of a number as people type or paste it: whatever stands between them is passed over,
/// and digits of other scripts count (１２３).
///
/// # Errors
/// How many digits there are, if not [`DIGITS`].
pub fn digits(text: &str) -> Result<String, usize> {
    let digits: String = text.nfkc().filter(char::is_ascii_digit).collect();
    if digits.len() == DIGITS { Ok(digits) } else { Err(digits.len()) }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.groups().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn of(one: &str, two: &str) -> SafetyNumber {
        let (one, two) = (testing::public(one), testing::public(two));
        SafetyNumber::of((&one.account, &one.identity_key), (&two.account, &two.identity_key)).unwrap()
    }

    // REQ C4
    #[test]
    fn both_sides_see_one_number() {
        let number = of("alice", "bob");
        assert_eq!(number, of("bob", "alice"));
        assert_ne!(number, of("alice", "carol"));
        assert_eq!(number.groups().len(), 12);
        let shown = number.to_string();
        assert!(shown.split(' ').all(|group| group.len() == 5 && group.bytes().all(|c| c.is_ascii_digit())));
    }

    #[test]
    fn another_identity_under_the_same_name_changes_it() {
        let (alice, bob) = (testing::public("alice"), testing::public("bob"));
        let imposter = testing::public("dave").identity_key;
        let number =
            SafetyNumber::of((&alice.account, &alice.identity_key), (&bob.account, &imposter)).unwrap();
        assert_ne!(number, of("alice", "bob"));
    }
}

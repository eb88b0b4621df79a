//! The recovery words: 12 words that stand for 128 random bits.

use std::fmt;

use bip39::{Language, Mnemonic};
use ed25519_dalek::{Signer, SigningKey};
use mildam_records::keys::Signature;
use mildam_records::{AccountId, Canonical, DevicePublicKey, Hash, recover_bytes};
use rand_core::CryptoRng;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::KeyError;
use crate::seal::{self, Key};

/// Bytes of entropy behind the words.
const ENTROPY: usize = 16;
/// How many words there are.
pub const WORDS: usize = 12;

/// The language of a word list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordLanguage {
    /// BIP-39 English.
    English,
    /// BIP-39 Korean.
    Korean,
}

impl WordLanguage {
    const fn list(self) -> Language {
        match self {
            Self::English => Language::English,
            Self::Korean => Language::Korean,
        }
    }
}

/// Why a text is not a set of recovery words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not twelve words.
    #[error("there must be 12 words, not {0}")]
    Count(usize),
    /// A word that no list has; counted from 1.
    #[error("word {position} is not in the list")]
    UnknownWord {
        /// Which one, from 1.
        position: usize,
        /// A word of the list that begins like it.
        suggestion: Option<&'static str>,
    },
    /// Each word is in a list, but together they do not fit: one is wrong, or two are swapped.
    #[error("the words do not fit together; check each one and their order")]
    Checksum,
}

/// The words. Who has them can start a new generation of devices for the account.
pub struct RecoveryWords(Zeroizing<[u8; ENTROPY]>);

impl RecoveryWords {
    /// Chooses new ones.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut entropy = Zeroizing::new([0; ENTROPY]);
        rng.fill_bytes(&mut *entropy);
        Self(entropy)
    }

    /// The words to write down, in order.
    #[must_use]
    pub fn words(&self, language: WordLanguage) -> Vec<&'static str> {
        // 128 bits always make twelve words.
        Mnemonic::from_entropy_in(language.list(), &*self.0)
            .map(|mnemonic| mnemonic.words().collect())
            .unwrap_or_default()
    }

    /// Reads words as a person typed or pasted them: in either language, with any white space and
    /// capitals, composed or decomposed Hangul.
    ///
    /// # Errors
    /// [`WordsError`] with what is wrong.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let count = text.split_whitespace().count();
        if count != WORDS {
            return Err(WordsError::Count(count));
        }
        let text = Zeroizing::new(text.to_lowercase());
        let words = Zeroizing::new(text.split_whitespace().collect::<Vec<_>>().join(" "));
        let language = if words.is_ascii() { Language::English } else { Language::Korean };
        let mnemonic = Mnemonic::parse_in(language, words.as_str()).map_err(|error| match error {
            bip39::Error::UnknownWord(at) => WordsError::UnknownWord {
                position: at.saturating_add(1),
                suggestion: words.split(' ').nth(at).and_then(|word| similar(word, language)),
            },
            _ => WordsError::Checksum,
        })?;
        let bytes = Zeroizing::new(mnemonic.to_entropy());
        let entropy = bytes.as_slice().try_into().map_err(|_| WordsError::Checksum)?;
        Ok(Self(Zeroizing::new(entropy)))
    }

    /// What an account's relay verifies proofs of the words under, Ed25519.
    ///
    /// # Errors
    /// [`KeyError::Primitive`]
    pub fn recovery_key(&self, account: &AccountId) -> Result<DevicePublicKey, KeyError> {
        DevicePublicKey::from_bytes(self.signer(account)?.verifying_key().as_bytes())
            .map_err(|_| KeyError::Primitive("recovery key"))
    }

    /// Proves, on the connection whose set-up has this transcript, that the words are known.
    ///
    /// # Errors
    /// [`KeyError::Primitive`]
    pub fn sign(&self, account: &AccountId, transcript: &Hash) -> Result<Signature, KeyError> {
        let signature = self.signer(account)?.sign(recover_bytes(account, transcript).as_bytes());
        Ok(Signature::from_bytes(signature.to_bytes()))
    }

    /// The seed is `HKDF-SHA-256(salt "mildam/recovery-auth/v1", entropy,
    /// T("mildam/recovery-auth/v1", account))`.
    fn signer(&self, account: &AccountId) -> Result<SigningKey, KeyError> {
        let info = Canonical::new("mildam/recovery-auth/v1").text(account.as_str());
        let seed: Key = seal::derive(b"mildam/recovery-auth/v1", &*self.0, &info)?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// `HKDF-SHA-256(salt "mildam/recovery/v1", entropy, T("mildam/recovery-key/v1", account))`.
    /// The entropy is 128 random bits, so no slow hash is needed.
    pub(crate) fn key(&self, account: &AccountId) -> Result<Key, KeyError> {
        let info = Canonical::new("mildam/recovery-key/v1").text(account.as_str());
        seal::derive(b"mildam/recovery/v1", &*self.0, &info)
    }
}

/// The only word of the list that begins like a mistyped one, if three letters or more agree.
fn similar(word: &str, language: Language) -> Option<&'static str> {
    let letters: Vec<char> = word.nfkd().collect();
    (3..=letters.len()).rev().find_map(|length| {
        let beginning: String = letters.iter().take(length).collect();
        let mut words = language.words_by_prefix_iter(&beginning);
        words.next().filter(|_| words.next().is_none())
    })
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, rng};

    fn error(text: &str) -> WordsError {
        RecoveryWords::parse(text).err().unwrap()
    }

    #[test]
    fn words_are_read_as_people_type_them() {
        let words = RecoveryWords::generate(&mut rng());
        for language in [WordLanguage::English, WordLanguage::Korean] {
            let list = words.words(language);
            assert_eq!(list.len(), WORDS);
            for typed in
                [list.join(" "), list.join("\u{3000}"), list.join(" \n "), list.join(" ").to_uppercase()]
            {
                assert_eq!(*RecoveryWords::parse(&typed).unwrap().0, *words.0, "{typed}");
            }
        }
    }

    #[test]
    fn hangul_may_be_composed_or_not() {
        let zero = RecoveryWords(Zeroizing::new([0; ENTROPY]));
        let composed = format!("{} 가능", "가격 ".repeat(11).trim_end());
        let shown = zero.words(WordLanguage::Korean).join(" ");
        assert_eq!(*RecoveryWords::parse(&composed).unwrap().0, *zero.0);
        assert_eq!(*RecoveryWords::parse(&shown).unwrap().0, *zero.0);
    }

    #[test]
    fn wrong_words_are_named() {
        let eleven = "abandon ".repeat(11);
        assert_eq!(error("abandon"), WordsError::Count(1));
        let unknown = |position, suggestion| WordsError::UnknownWord { position, suggestion };
        assert_eq!(error(&format!("{eleven} mildam")), unknown(12, None));
        assert_eq!(error(&format!("abandom {eleven}")), unknown(1, Some("abandon")));
        let korean = format!("{} 가걱", "가격 ".repeat(11).trim_end());
        assert!(matches!(error(&korean), WordsError::UnknownWord { position: 12, .. }));
        assert_eq!(error(&format!("{eleven} abandon")), WordsError::Checksum);
        assert!(RecoveryWords::parse(&format!("{eleven} ABOUT")).is_ok());
    }

    // REQ A4
    #[test]
    fn words_prove_themselves_for_one_account_and_connection() {
        let (words, others) = (RecoveryWords::generate(&mut rng()), RecoveryWords::generate(&mut rng()));
        let (alice, bob) = (account("alice"), account("bob"));
        let (transcript, elsewhere) = (Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32]));
        let key = words.recovery_key(&alice).unwrap();
        let verifies = |words: &RecoveryWords, of: &AccountId, on: &Hash| {
            let proof = words.sign(of, on).unwrap();
            key.verify(recover_bytes(&alice, &transcript).as_bytes(), &proof, "proof").is_ok()
        };
        assert!(verifies(&words, &alice, &transcript));
        assert!(!verifies(&words, &alice, &elsewhere));
        assert!(!verifies(&words, &bob, &transcript));
        assert!(!verifies(&others, &alice, &transcript));
        assert_ne!(words.recovery_key(&bob).unwrap(), key);
    }

    #[test]
    fn words_do_not_show() {
        assert_eq!(format!("{:?}", RecoveryWords::generate(&mut rng())), "RecoveryWords(..)");
    }
}

//! Search postings: which messages of a bucket may hold which terms.
//!
//! The usual layout, one row per term and message under a keyed hash of the term, would suit a
//! text of Hangul badly. A message has about 35 terms (syllable pairs, syllables, beginnings of
//! words), so a million messages would mean 35 million rows, 35 random pages written for each
//! message, and, worse, the hashes would show to a thief without any key how often each syllable
//! pair occurs and with which others, which is enough to guess text.
//!
//! So postings are kept by message and not by term: for each message a sorted set of 16-bit
//! fingerprints of its terms, some messages to a block, each block sealed under its bucket's key
//! like the messages themselves. A file shows nothing of the terms, a bucket that loses its key
//! loses its postings, a message costs one block of 2 KiB to write, and a million messages make
//! about 90 MB of blocks. A search reads them newest period first and stops when it has enough.
//! A fingerprint that fits is only a hint: every candidate is checked against its text.
//!
//! ```text
//! block       = the entries, one after another
//! entry       = field(seq) || field(sent_at) || field(fingerprints, 2 bytes each, ascending)
//! fingerprint = h >> 16 xor h & 0xffff, where h = FNV-1a-32(kind || each character as u32 LE)
//! kind        = 1 for one character or a pair found anywhere, 2 for the beginning of a word (1 to
//!               4 characters)
//! ```

use std::collections::BTreeSet;

use mildam_records::Canonical;

use crate::fields::Fields;
use crate::fold::{Class, Folded, Term};

/// A block that has reached this length, in bytes, gets no more entries.
pub(crate) const BLOCK_LENGTH: usize = 2048;

/// The longest beginning of a word that has a fingerprint, in characters.
const PREFIX: usize = 4;

/// The fingerprints of a text's terms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fingerprints(BTreeSet<u16>);

impl Fingerprints {
    /// Of everything that can be searched for in a text.
    pub(crate) fn of_text(text: &str) -> Self {
        let mut set = BTreeSet::new();
        for run in runs(Folded::new(text).chars()) {
            match Class::of(run.first().copied().unwrap_or(' ')) {
                Class::Separator => {}
                Class::Infix => {
                    set.extend(run.windows(1).chain(run.windows(2)).map(infix));
                }
                Class::Word => {
                    let longest = run.len().min(PREFIX);
                    set.extend((1..=longest).filter_map(|length| run.get(..length)).map(prefix));
                }
            }
        }
        Self(set)
    }

    /// Of what must be there for the terms to be found.
    pub(crate) fn of_terms(terms: &[Term]) -> Self {
        let mut set = BTreeSet::new();
        for run in terms.iter().flat_map(|term| runs(term.chars())) {
            match Class::of(run.first().copied().unwrap_or(' ')) {
                Class::Separator => {}
                Class::Infix => set.extend(run.windows(run.len().min(2)).map(infix)),
                Class::Word => set.extend(run.get(..run.len().min(PREFIX)).map(prefix)),
            }
        }
        Self(set)
    }
}

/// What a block says of one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) seq: u64,
    pub(crate) sent_at: u64,
    fingerprints: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Appends a message to a block.
    pub(crate) fn append(block: &mut Vec<u8>, seq: u64, sent_at: u64, found: &Fingerprints) {
        let bytes: Vec<u8> = found.0.iter().flat_map(|print| print.to_be_bytes()).collect();
        let entry = Canonical::element().integer(seq).integer(sent_at).bytes(&bytes);
        block.extend_from_slice(entry.as_bytes());
    }

    /// The entries of a block; none if it is malformed.
    pub(crate) fn all_of(block: &'a [u8]) -> Option<Vec<Self>> {
        let mut fields = Fields::new(block);
        let mut entries = Vec::new();
        while !fields.is_empty() {
            entries.push(Self {
                seq: fields.integer()?,
                sent_at: fields.integer()?,
                fingerprints: fields.bytes()?,
            });
        }
        Some(entries)
    }

    /// Whether the message may hold all that is wanted.
    pub(crate) fn may_hold(&self, wanted: &Fingerprints) -> bool {
        let (prints, _) = self.fingerprints.as_chunks::<2>();
        wanted.0.iter().all(|print| prints.binary_search(&print.to_be_bytes()).is_ok())
    }
}

/// Maximal runs of characters of one class.
fn runs(chars: &[char]) -> impl Iterator<Item = &[char]> {
    chars.chunk_by(|one, next| Class::of(*one) == Class::of(*next))
}

fn infix(chars: &[char]) -> u16 {
    fingerprint(1, chars)
}

fn prefix(chars: &[char]) -> u16 {
    fingerprint(2, chars)
}

/// Only a filter, kept inside sealed blocks: it needs to be short and stable, not secure.
fn fingerprint(kind: u8, chars: &[char]) -> u16 {
    let hash = std::iter::once(kind)
        .chain(chars.iter().flat_map(|c| u32::from(*c).to_le_bytes()))
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_match(text: &str, query: &str) -> bool {
        let mut block = Vec::new();
        Entry::append(&mut block, 1, 2, &Fingerprints::of_text(text));
        let entries = Entry::all_of(&block).unwrap();
        entries[0].may_hold(&Fingerprints::of_terms(&Term::all_of(query)))
    }

    #[test]
    fn fingerprints_never_change() {
        // They are on people's disks.
        let prints: Vec<u16> = Fingerprints::of_text("학교 ab").0.into_iter().collect();
        assert_eq!(prints, [2508, 7808, 30671, 44829, 52826]);
    }

    #[test]
    fn terms_of_every_kind_are_posted() {
        for (text, query) in [
            ("오늘 학교에서", "학교"),
            ("오늘 학교에서", "서"),
            ("카톡pc버전", "pc버"),
            ("Hello", "h"),
            ("Hello", "hello"),
            ("🎉", "🎉"),
        ] {
            assert!(may_match(text, query), "{text} {query}");
        }
        assert!(!may_match("오늘 학교에서", "교학"));
        assert!(!may_match("Hello", "ello"));
    }

    #[test]
    fn a_malformed_block_is_refused() {
        let mut block = Vec::new();
        Entry::append(&mut block, 1, 2, &Fingerprints::of_text("가나"));
        for length in 1..block.len() {
            assert!(Entry::all_of(&block[..length]).is_none());
        }
        assert_eq!(Entry::all_of(&[]), Some(Vec::new()));
    }
}

//! Search postings: which messages of a bucket may hold which terms.
//!
//! The usual layout, one row per term and message under a keyed hash of the term, would suit a
//! text of Hangul badly. A message has about 35 terms (syllable pairs, syllables, parts of words), so
//! a million messages would mean 35 million rows, 35 random pages written for each
//! message, and, worse, the hashes would show to a thief without any key how often each syllable
//! pair occurs and with which others, which is enough to guess text.
//!
//! So postings are kept by message and not by term: for each message a sorted set of 16-bit
//! fingerprints of its terms, some messages to a block, each block sealed under its bucket's key
//! like the messages themselves. A file shows nothing of the terms, a bucket that loses its key
//! loses its postings, a message costs one block of 2 KiB to write, and a million messages make
//! about 100 MB of blocks. A search reads them newest period first and stops when it has enough.
//! A fingerprint that fits is only a hint: every candidate is checked against its text.
//!
//! ```text
//! block       = the entries, one after another
//! entry       = field(seq) || field(sent_at) || field(fingerprints, 2 bytes each, ascending)
//! fingerprint = h >> 16 xor h & 0xffff, where h = FNV-1a-32(kind || each character as u32 LE)
//! kind        = 1 for one character or a pair that says something by itself: digits, Hangul and the
//!               like, and symbols, of which the punctuation of sentences counts in pairs only
//!               2 for the first letter and the first two, where a short term may begin
//!               3 for three letters in a row
//! ```
//!
//! Whatever a term matches has all fingerprints of the term. Letters of a term that has more than
//! two count from three in a row, for before and behind them there may be others; where something
//! else goes before, they begin there, in the text as well. Symbols in pairs let `:)` and `?!` be
//! found without reading everything. Only a query of single punctuation marks (`?`) has no fingerprints and
//! proposes every message: then texts are read newest first, a period at a time, until there are enough
//! hits, and most such marks are in many texts.
//!
//! What that costs, in fingerprints for a message, counted over ten chat messages each: English 25 with
//! beginnings of words only (formats 1 and 2) and 34 now, 95 bytes an entry; Korean 25 and 28, 83 bytes,
//! nearly all of it for numbers and codes.

use std::collections::BTreeSet;

use mildam_records::Canonical;

use crate::fields::Fields;
use crate::fold::{Class, Folded, Term, is_sentence_mark};

/// A block that has reached this length, in bytes, gets no more entries.
pub(crate) const BLOCK_LENGTH: usize = 2048;

/// As many letters as a term may have that is found only where a word begins.
const BEGINNING: usize = 2;

/// So many letters in a row are found anywhere.
const INSIDE: usize = 3;

/// The fingerprints of a text's terms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fingerprints(BTreeSet<u16>);

impl Fingerprints {
    /// Of everything that can be searched for in a text.
    pub(crate) fn of_text(text: &str) -> Self {
        let folded = Folded::new(text);
        let mut set = BTreeSet::new();
        for run in runs(folded.chars()) {
            match class_of(run) {
                Class::Space => {}
                Class::Symbol => {
                    set.extend(run.iter().filter(|c| !is_sentence_mark(**c)).map(|c| infix(&[*c])));
                    set.extend(run.windows(2).map(infix));
                }
                Class::Infix => {
                    set.extend(run.windows(1).chain(run.windows(2)).map(infix));
                }
                Class::Word => set.extend(run.windows(INSIDE).map(inside)),
            }
        }
        for at in (0..folded.chars().len()).filter(|at| folded.begins_at(*at)) {
            let rest = folded.chars().get(at..).unwrap_or_default();
            let letters = rest.iter().take(BEGINNING).take_while(|c| Class::of(**c) == Class::Word);
            set.extend((1..=letters.count()).filter_map(|length| rest.get(..length)).map(beginning));
        }
        Self(set)
    }

    /// Of what must be there for the terms to be found.
    pub(crate) fn of_terms(terms: &[Term]) -> Self {
        let mut set = BTreeSet::new();
        for term in terms {
            for (place, run) in runs(term.chars()).enumerate() {
                match (class_of(run), run) {
                    (Class::Space, _) => {}
                    (Class::Symbol, [mark]) if is_sentence_mark(*mark) => {}
                    (Class::Symbol | Class::Infix, _) => {
                        set.extend(run.windows(run.len().min(2)).map(infix));
                    }
                    (Class::Word, _) => {
                        set.extend(run.windows(INSIDE).map(inside));
                        // The letters behind something else begin there.
                        if place > 0 || term.is_bound() {
                            set.extend(run.get(..run.len().min(BEGINNING)).map(beginning));
                        }
                    }
                }
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

fn class_of(run: &[char]) -> Class {
    run.first().map_or(Class::Space, |c| Class::of(*c))
}

fn infix(chars: &[char]) -> u16 {
    fingerprint(1, chars)
}

fn beginning(chars: &[char]) -> u16 {
    fingerprint(2, chars)
}

fn inside(chars: &[char]) -> u16 {
    fingerprint(3, chars)
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
    use proptest::prelude::*;

    use super::*;
    use crate::fold::matches;

    fn may_match(text: &str, query: &str) -> bool {
        let mut block = Vec::new();
        Entry::append(&mut block, 1, 2, &Fingerprints::of_text(text));
        let entries = Entry::all_of(&block).unwrap();
        entries[0].may_hold(&Fingerprints::of_terms(&Term::all_of(query)))
    }

    #[test]
    fn fingerprints_never_change() {
        // They are on people's disks: other ones make a new format of the vault.
        let prints: Vec<u16> = Fingerprints::of_text("학교 Łabć7 C++?!").0.into_iter().collect();
        assert_eq!(
            prints,
            [7808, 8865, 10873, 22149, 28419, 38492, 40930, 41777, 44829, 46452, 52826, 61882, 64393]
        );
    }

    #[test]
    fn terms_of_every_kind_are_posted() {
        for (text, query) in [
            ("오늘 학교에서", "학교"),
            ("오늘 학교에서", "서"),
            ("카톡pc버전", "pc버"),
            ("카톡pc버전", "c버"),
            ("Hello", "h"),
            ("Hello", "hello"),
            ("Hello", "ello"),
            ("getUserName", "na"),
            ("KE907편", "e9"),
            ("01012345678", "5678"),
            ("I write C++", "C++"),
            ("joke :)", ":)"),
            ("why?", "?"),
            ("🎉", "🎉"),
        ] {
            assert!(may_match(text, query), "{text} {query}");
        }
        for (text, query) in [
            ("오늘 학교에서", "교학"),
            ("Hello", "lo"),
            ("Hello", "hullo"),
            ("01012345678", "79"),
            ("vitamin C", "C++"),
            ("100 people", "$100"),
            ("joke: (none)", ":)"),
        ] {
            assert!(!may_match(text, query), "{text} {query}");
        }
    }

    /// Texts in which everything meets everything.
    fn text() -> impl Strategy<Value = String> {
        let letter = prop::sample::select(vec![
            "학", "교", "ㅋ", "a", "b", "B", "é", "e\u{301}", "ß", "Æ", "й", "Σ", "ا", "\u{64e}", "ก", "が",
            "1", "2", " ", " ", ".", "?", "(", ")", ":", "+", "#", "$", "-", "\u{2019}", "🎉", "🇰", "🇷",
            "\u{200b}", "\u{301}", "ﬃ", "½",
        ]);
        let letters = prop::collection::vec(letter, 0..16).prop_map(|letters| letters.concat());
        prop_oneof![4 => letters, 1 => any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// REQ L2: no message that matches is passed over.
        #[test]
        fn whatever_matches_is_proposed(text in text(), other in text(), from: u8, length: u8) {
            let letters: Vec<char> = text.chars().collect();
            let from = usize::from(from) % letters.len().max(1);
            let length = usize::from(length) % letters.len().max(1) + 1;
            let part: String = letters.iter().skip(from).take(length).collect();
            for query in [part.to_uppercase(), part.to_lowercase(), part, text.clone(), other] {
                let terms = Term::all_of(&query);
                if !terms.is_empty() && matches(&text, &terms).is_some() {
                    prop_assert!(may_match(&text, &query), "{:?} in {:?}", query, text);
                }
            }
        }
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

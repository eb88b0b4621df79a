//! REQ L2: search finds what a scan of all texts would find, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use mildam_records::{AccountId, ClientMessageId, RoomId};
use mildam_vault::hazmat::{Argon2Cost, open_with_argon2, write_store};
use mildam_vault::{Changes, HistoryRow, Unlock, Vault};
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

const BEGIN: u64 = 1_700_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// An independent telling of what matches, for texts of composed Hangul, ASCII and emoji: each part of
/// the query between spaces stands somewhere, in small letters; a stop behind it or alone does not
/// count; one or two letters by themselves begin a word, or are a capital behind a small letter.
fn scan_matches(text: &str, query: &str) -> bool {
    let text: Vec<char> = text.nfc().collect();
    let query = query.nfc().collect::<String>().to_lowercase();
    let says = |part: &str| part.chars().any(|c| !".#?".contains(c));
    let parts: Vec<&str> = query
        .split_whitespace()
        .map(|part| if says(part) { part.trim_end_matches(['.', '?']) } else { part })
        .collect();
    let counts = |part: &str| part != "." && part != "?";
    let only_marks = !parts.iter().any(|part| counts(part));
    !parts.is_empty()
        && parts.iter().filter(|part| only_marks || counts(part)).all(|part| {
            let part: Vec<char> = part.chars().collect();
            let letters = part.iter().filter(|c| c.is_ascii_alphabetic()).count();
            let bound = part[0].is_ascii_alphabetic()
                && letters <= 2
                && part.iter().all(|c| c.is_ascii_alphabetic() || ".#?".contains(*c));
            (0..text.len()).any(|at| {
                let stands = text[at..].len() >= part.len()
                    && part.iter().zip(&text[at..]).all(|(one, other)| *one == other.to_ascii_lowercase());
                let begins = at == 0
                    || !text[at - 1].is_ascii_alphabetic()
                    || (text[at - 1].is_ascii_lowercase() && text[at].is_ascii_uppercase());
                stands && (!bound || begins)
            })
        })
}

/// Few letters, so that texts and queries meet.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec![
        '학', '교', '에', '서', '하', '각', 'ㅋ', 'a', 'B', 'b', '1', '2', ' ', ' ', '.', '?', '#', '🎉',
    ]);
    (prop::collection::vec(letter, 1..=longest), any::<bool>()).prop_map(|(letters, decompose)| {
        let text: String = letters.into_iter().collect();
        if decompose { text.nfd().collect() } else { text }
    })
}

fn line(seq: u64, sent_at: u64, text: &str) -> HistoryRow {
    let from: AccountId = "alice".parse().unwrap();
    HistoryRow {
        seq,
        id: ClientMessageId::from_bytes([u8::try_from(seq % 256).unwrap(); 16]),
        from,
        sent_at,
        body: Vec::new(),
        text: Some(text.to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn search_agrees_with_a_scan(
        lines in prop::collection::vec((text(24), 1u8..4, 0u64..100), 1..60),
        queries in prop::collection::vec(text(4), 12),
    ) {
        let vault = Vault::in_memory().unwrap();
        let mut rows = Vec::new();
        for batch in lines.chunks(7) {
            let mut changes = Changes::new();
            for (text, room, day) in batch {
                let seq = rows.len() as u64 + 1;
                let row = line(seq, BEGIN + day * DAY, text);
                changes.put_message(&RoomId::from_bytes([*room; 32]), row.clone());
                rows.push((*room, row));
            }
            vault.commit(changes).unwrap();
        }
        rows.sort_by_key(|(_, row)| std::cmp::Reverse((row.sent_at, row.seq)));
        for query in queries {
            let expected: Vec<_> = rows
                .iter()
                .filter(|(_, row)| scan_matches(row.text.as_deref().unwrap(), &query))
                .map(|(room, row)| (*room, row.seq))
                .collect();
            let hits = vault.search(&query, usize::MAX).unwrap();
            let found: Vec<_> = hits
                .iter()
                .map(|hit| (hit.room.as_bytes()[0], hit.row.seq))
                .collect();
            prop_assert_eq!(&found, &expected, "{:?}", query);
            for hit in hits {
                let text = hit.row.text.as_deref().unwrap();
                prop_assert!(!hit.ranges.is_empty());
                prop_assert!(hit.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                for (start, end) in hit.ranges {
                    prop_assert!(text.get(start as usize..end as usize).is_some_and(|s| !s.is_empty()));
                }
            }
        }
    }

    #[test]
    fn any_text_and_query_are_taken(text: String, query: String) {
        let vault = Vault::in_memory().unwrap();
        let mut changes = Changes::new();
        changes.put_message(&RoomId::from_bytes([1; 32]), line(1, u64::MAX, &text));
        vault.commit(changes).unwrap();
        for query in [query.as_str(), text.as_str()] {
            for hit in vault.search(query, 10).unwrap() {
                for (start, end) in hit.ranges {
                    prop_assert!(text.get(start as usize..end as usize).is_some());
                }
            }
        }
        // A text that says anything is found by itself. Vowel signs alone, and the line that stretches
        // Arabic words, say nothing.
        let own = vault.search(&text, 10).unwrap();
        let says = |c: char| c.is_alphanumeric() && !is_combining_mark(c) && c != '\u{640}';
        let holds_word = text.nfkd().any(says);
        prop_assert!(!holds_word || own.len() == 1);
    }
}

/// The texts of a vault that is searched.
fn with_texts(texts: &[&str]) -> Vault {
    let vault = Vault::in_memory().unwrap();
    let mut changes = Changes::new();
    for (text, seq) in texts.iter().zip(1..) {
        changes.put_message(&RoomId::from_bytes([1; 32]), line(seq, BEGIN + seq, text));
    }
    vault.commit(changes).unwrap();
    vault
}

/// What is found, in the order in which it was written.
fn found(vault: &Vault, query: &str) -> Vec<String> {
    let hits = vault.search(query, usize::MAX).unwrap();
    hits.into_iter().rev().filter_map(|hit| hit.row.text).collect()
}

#[test]
fn parts_of_numbers_codes_and_words_are_found() {
    let cases = [
        ("전화 01012345678 로 주세요", "5678"),
        ("주문번호 A20241128KR77 확인", "1128"),
        ("비행기 KE907편", "907"),
        ("13학년 아니고", "3학년"),
        ("see getUserName()", "UserName"),
        ("Donaudampfschifffahrt", "schiff"),
        ("https://github.com/x", "hub"),
        ("breed", "eed"),
    ];
    let vault = with_texts(&cases.map(|(text, _)| text));
    for (text, query) in cases {
        assert_eq!(found(&vault, query), [text], "{query}");
    }
}

#[test]
fn what_accents_hide_is_found() {
    let cases = [
        ("Lucía llega", "lucia"),
        ("café", "cafe"),
        ("Žižek", "zizek"),
        ("Đà Nẵng", "da nang"),
        ("İstanbul", "istanbul"),
        ("crème brûlée", "CREME BRULEE"),
        ("Straße", "STRASSE"),
        ("Ελλάδα", "ελλαδα"),
    ];
    let vault = with_texts(&cases.map(|(text, _)| text));
    for (text, query) in cases {
        assert_eq!(found(&vault, query), [text], "{query}");
        assert_eq!(found(&vault, text), [text], "{query}");
    }
}

#[test]
fn symbols_count_and_punctuation_around_words_does_not() {
    let vault = with_texts(&[
        "I write C++",
        "I write C#",
        "vitamin C",
        "price $100",
        "100 people",
        "flags 🇰🇷🇺🇸",
        "flag 🇷🇺",
        "joke :)",
        "really?!",
        "ticket #123",
        "room 123",
        "hello world",
    ]);
    assert_eq!(found(&vault, "C++"), ["I write C++"]);
    assert_eq!(found(&vault, "C#"), ["I write C#"]);
    assert_eq!(found(&vault, "C"), ["I write C++", "I write C#", "vitamin C"]);
    assert_eq!(found(&vault, "$100"), ["price $100"]);
    assert_eq!(found(&vault, "#123"), ["ticket #123"]);
    assert_eq!(found(&vault, "🇷🇺"), ["flag 🇷🇺"]);
    assert_eq!(found(&vault, ":)"), ["joke :)"]);
    assert_eq!(found(&vault, "?!"), ["really?!"]);
    assert_eq!(found(&vault, "?"), ["really?!"]);
    assert_eq!(found(&vault, "hello,"), ["hello world"]);
    assert_eq!(found(&vault, "\u{201c}Hello world!\u{201d}"), ["hello world"]);
}

/// A vault that version 0.1.0 wrote is searched as one of today: its postings are made anew once.
#[test]
fn a_vault_of_format_1_is_searched_inside() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture.join("keys.mildam"), folder.path().join("keys.mildam")).unwrap();
    write_store(folder.path(), &fixture.join("rows.mildam")).unwrap();
    for _ in 0..2 {
        let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let unlock = Unlock::Passphrase("비밀".to_owned().into());
        let vault = open_with_argon2(folder.path(), unlock, cheap).unwrap();
        vault.verify().unwrap();
        let whole = vault.search("apple7", 9).unwrap();
        assert_eq!(whole.len(), 2);
        let inside = vault.search("le7", 9).unwrap();
        assert_eq!(inside.len(), 2);
        assert!(whole.iter().zip(&inside).all(|(whole, inside)| whole.row == inside.row));
    }
}

//! REQ L2: search finds what a scan of all texts would find, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use mildam_records::{AccountId, ClientMessageId, RoomId};
use mildam_vault::{Changes, HistoryRow, Vault};
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;

const BEGIN: u64 = 1_700_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// An independent telling of what matches, for texts of composed Hangul, ASCII and emoji: lower
/// case, then each word of the query anywhere, but a Latin beginning only where no Latin goes
/// before.
fn scan_matches(text: &str, query: &str) -> bool {
    let text: Vec<char> = text.nfc().collect::<String>().to_lowercase().chars().collect();
    let query = query.nfc().collect::<String>().to_lowercase();
    let mut words = query
        .split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .peekable();
    words.peek().is_some()
        && words.all(|word| {
            let word: Vec<char> = word.chars().collect();
            (0..text.len()).any(|at| {
                text[at..].starts_with(&word)
                    && (!word[0].is_ascii() || at == 0 || !text[at - 1].is_ascii_alphanumeric())
            })
        })
}

/// Few letters, so that texts and queries meet.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec![
        '학', '교', '에', '서', '하', '각', 'ㅋ', 'a', 'B', 'b', '1', ' ', ' ', '.', '🎉',
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
        // A text that holds anything but separators is found by itself.
        let own = vault.search(&text, 10).unwrap();
        let holds_word = text.chars().any(|c| c.is_alphanumeric());
        prop_assert!(!holds_word || own.len() == 1);
    }
}

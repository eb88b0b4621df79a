//! Text as search sees it: without differences of spelling that readers do not see, and with the
//! way back to the bytes of the original.
//!
//! Folding brings text to NFKC and to one case, so that decomposed Hangul (as macOS types file
//! names), full-width letters, half-width Kana and ligatures are found. It works on clusters, a
//! character with the marks and conjoining vowels that follow it, because every folded character
//! must know which bytes it came from. Compatibility jamo stay apart: ㅋㅠ is laughter and
//! weeping, not 큐.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What a folded character is to the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stands between words: space, punctuation.
    Separator,
    /// Is found anywhere: Hangul, Hanja, Kana, scripts without spaces, symbols such as emoji.
    Infix,
    /// Is found from the beginning of its word: letters and digits of all other scripts.
    Word,
}

impl Class {
    pub(crate) fn of(c: char) -> Self {
        if c.is_alphanumeric() || is_combining_mark(c) {
            if is_infix_script(c) { Self::Infix } else { Self::Word }
        } else if c.is_whitespace()
            || c.is_control()
            || matches!(c, '\0'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}')
        {
            Self::Separator
        } else {
            Self::Infix
        }
    }
}

/// Folded text: its characters, and for each the byte range of the original that it came from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    chars: Vec<char>,
    spans: Vec<(u32, u32)>,
}

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        let mut folded = Self::default();
        let mut rest = text.char_indices().peekable();
        while let Some((start, first)) = rest.next() {
            let mut end = start + first.len_utf8();
            while let Some((at, next)) = rest.next_if(|(_, next)| continues_cluster(*next)) {
                end = at + next.len_utf8();
            }
            let cluster = text.get(start..end).unwrap_or_default();
            folded.push(cluster, (offset(start), offset(end)));
        }
        folded
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    /// Byte ranges of the original where the term stands. They may overlap.
    pub(crate) fn find<'a>(&'a self, term: &'a Term) -> impl Iterator<Item = (u32, u32)> + 'a {
        self.chars
            .windows(term.0.len().max(1))
            .zip(0..)
            .filter(|(window, at)| *window == term.0 && self.may_begin_at(*at))
            .filter_map(|(window, at)| {
                let (start, _) = self.spans.get(at)?;
                let (_, end) = self.spans.get(at + window.len() - 1)?;
                Some((*start, *end))
            })
    }

    /// A word is found from its beginning only.
    fn may_begin_at(&self, at: usize) -> bool {
        let class = |at: usize| self.chars.get(at).map(|c| Class::of(*c));
        class(at) != Some(Class::Word) || at.checked_sub(1).and_then(class) != Some(Class::Word)
    }

    fn push(&mut self, cluster: &str, span: (u32, u32)) {
        if let [byte @ 0..=0x7f] = cluster.as_bytes() {
            self.chars.push(char::from(byte.to_ascii_lowercase()));
            self.spans.push(span);
            return;
        }
        // Upper case first: 'ß' becomes "ss", final and other sigma become one.
        let cased: String =
            cluster.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
        for c in cased.nfkc().filter(|c| !is_ignorable(*c)) {
            self.chars.push(c);
            self.spans.push(span);
        }
    }
}

/// One part of a query: folded characters, none of them a separator, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term(Vec<char>);

impl Term {
    /// The terms of a query. All of them must be found.
    pub(crate) fn all_of(query: &str) -> Vec<Self> {
        Folded::new(query)
            .chars
            .split(|c| Class::of(*c) == Class::Separator)
            .filter(|term| !term.is_empty())
            .map(|term| Self(term.to_vec()))
            .collect()
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.0
    }
}

/// Where a text matches all the terms: byte ranges in order, those that touch made one. None if a
/// term is missing.
pub(crate) fn matches(text: &str, terms: &[Term]) -> Option<Vec<(u32, u32)>> {
    let folded = Folded::new(text);
    let mut found = Vec::new();
    for term in terms {
        let before = found.len();
        found.extend(folded.find(term));
        if found.len() == before {
            return None;
        }
    }
    found.sort_unstable();
    let mut apart: Vec<(u32, u32)> = Vec::new();
    for (start, end) in found {
        match apart.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => apart.push((start, end)),
        }
    }
    Some(apart)
}

/// Messages are far below 4 GiB; a longer text would be marked wrongly, nothing worse.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn continues_cluster(c: char) -> bool {
    is_combining_mark(c)
        || matches!(c,
            '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}' // conjoining vowels and finals
            | '\u{ff9e}' | '\u{ff9f}') // half-width voicing marks
}

fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn is_infix_script(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' // Thai, Lao
        | '\u{1000}'..='\u{109f}' // Myanmar
        | '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}' // jamo
        | '\u{1780}'..='\u{17ff}' // Khmer
        | '\u{3000}'..='\u{312f}' // iteration marks, Kana, Bopomofo
        | '\u{3130}'..='\u{31ff}' // compatibility jamo, more Bopomofo and Kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' // Hanja
        | '\u{ac00}'..='\u{d7a3}' // Hangul
        | '\u{1b000}'..='\u{1b16f}' // more Kana
        | '\u{20000}'..='\u{3ffff}') // more Hanja
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked<'a>(text: &'a str, query: &str) -> Option<Vec<&'a str>> {
        matches(text, &Term::all_of(query)).map(|ranges| {
            ranges.into_iter().map(|(start, end)| &text[start as usize..end as usize]).collect()
        })
    }

    #[test]
    fn hangul_is_found_inside_words() {
        // REQ L2
        assert_eq!(marked("오늘 학교에서 봤어", "학교"), Some(vec!["학교"]));
        assert_eq!(marked("텔레그램이", "그램"), Some(vec!["그램"]));
        assert_eq!(marked("밥 먹었어?", "밥"), Some(vec!["밥"]));
        assert_eq!(marked("대학 교수", "학교"), None);
        assert_eq!(marked("ㅋㅋㅋㅠㅠ", "ㅋㅋ"), Some(vec!["ㅋㅋㅋ"]));
        assert_eq!(marked("ㅋㅠ", "큐"), None);
        assert_eq!(marked("漢字와 カナ", "字 ナ"), Some(vec!["字", "ナ"]));
    }

    #[test]
    fn words_are_found_from_their_beginning() {
        assert_eq!(marked("Hello there", "he"), Some(vec!["He"]));
        assert_eq!(marked("Hello there", "THERE hel"), Some(vec!["Hel", "there"]));
        assert_eq!(marked("Hello there", "ello"), None);
        assert_eq!(marked("카톡pc버전", "PC"), Some(vec!["pc"]));
        assert_eq!(marked("3학년 2반", "3학년"), Some(vec!["3학년"]));
        assert_eq!(marked("13학년", "3학년"), None);
        assert_eq!(marked("13학년", "학년"), Some(vec!["학년"]));
        assert_eq!(marked("alice.kim@example.org", "kim exam"), Some(vec!["kim", "exam"]));
    }

    #[test]
    fn spelling_does_not_matter_and_ranges_are_of_the_original() {
        let decomposed: String = "학교에서".nfd().collect();
        let found = marked(&decomposed, "학교").unwrap();
        assert_eq!(found[0].nfc().collect::<String>(), "학교");
        let query: String = "학교".nfd().collect();
        assert_eq!(marked("학교에서", &query), Some(vec!["학교"]));
        assert_eq!(marked("ＡＢＣ１２", "abc12"), Some(vec!["ＡＢＣ１２"]));
        assert_eq!(marked("ﾊﾟﾝ", "パン"), Some(vec!["ﾊﾟﾝ"]));
        assert_eq!(marked("Straße", "STRASSE"), Some(vec!["Straße"]));
        assert_eq!(marked("ΟΔΟΣ", "οδος"), Some(vec!["ΟΔΟΣ"]));
        assert_eq!(marked("Cafe\u{301}!", "café"), Some(vec!["Cafe\u{301}"]));
        assert_eq!(marked("학\u{200b}교", "학교"), Some(vec!["학\u{200b}교"]));
    }

    #[test]
    fn emoji_are_found_and_separators_are_not_searched_for() {
        assert_eq!(marked("축하해🎉🎉", "🎉"), Some(vec!["🎉🎉"]));
        assert!(Term::all_of(" .,!? \n").is_empty());
    }
}

//! Text as search sees it: without differences of spelling that readers do not see, and with the
//! way back to the bytes of the original.
//!
//! Folding brings text to NFKC and to one case, so that decomposed Hangul (as macOS types file
//! names), full-width letters, half-width Kana and ligatures are found. It works on clusters, a
//! character with the marks and conjoining vowels that follow it, because every folded character
//! must know which bytes it came from. Compatibility jamo stay apart: ㅋㅠ is laughter and
//! weeping, not 큐. Two regional indicators are one cluster, and a flag is never cut in two.
//!
//! **Accents** go where people leave them out when they type:
//!
//! * Latin, Greek, Cyrillic: all marks (`lucia` finds Lucía), and letters that are another letter
//!   with a stroke, or two letters, are written out (đ ø ł ı as d o l i; æ œ ß þ as ae oe ss th).
//!   ä is a, not ae: one letter cannot be two spellings. In Cyrillic й ў ї ѓ ќ stay, for nobody
//!   who knows them types the letter without the mark; ё becomes е, as most print it.
//! * Hebrew points and Arabic vowel signs go, and the Arabic stretching line, and hamza and madda on
//!   alef: people type without them. ؤ and ئ stay.
//! * Everywhere else a mark is part of the letter: Kana (か is not が), Thai, Indic, Hangul.
//!
//! **A query** is cut at white space into terms, all of which must be found, each as it was typed:
//! `C++` is not C, `$100` is not 100, `3.14` is not 3 and 14. Only the punctuation of sentences is
//! taken away around a term that has letters, digits or emoji: quotes and brackets before and behind
//! it, and `. , ; : ! ?` behind it. So what was copied out of a sentence is found in another one,
//! and `:D` or `.env` stays whole. A single such mark between spaces counts only if nothing else is
//! asked for. A term of symbols alone (`:)`, `?!`) is searched for as it is. Curly quotes and
//! long dashes are the ones on the keyboard.
//!
//! **Where** a term may stand: anywhere, inside words, numbers, codes and addresses. Only a term that has
//! one or two letters of a script with spaces, and no digit, Hangul or the like (`a`, `he`, `C++`), begins
//! where a word does: behind anything but a letter, or at a capital behind a small letter (`na` finds
//! getName). Inside words, one or two letters are nearly everywhere.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What a folded character is to the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stands between terms: white space, control.
    Space,
    /// Punctuation, and the symbols of keyboards.
    Symbol,
    /// Says something by itself: digits, Hangul, Hanja, Kana, scripts without spaces, emoji.
    Infix,
    /// A letter of any other script, or a mark that is part of one.
    Word,
}

impl Class {
    pub(crate) fn of(c: char) -> Self {
        if c.is_alphanumeric() || is_combining_mark(c) {
            if c.is_numeric() || is_infix_script(c) { Self::Infix } else { Self::Word }
        } else if c.is_whitespace() || c.is_control() {
            Self::Space
        } else if matches!(c, '\0'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}')
            || is_sentence_mark(c)
        {
            Self::Symbol
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
    /// Whether the original has a capital here behind a small letter.
    capitals: Vec<bool>,
}

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        let mut folded = Self::default();
        let mut rest = text.char_indices().peekable();
        let mut after_small = false;
        while let Some((start, first)) = rest.next() {
            let mut end = start + first.len_utf8();
            if is_regional(first)
                && let Some((at, second)) = rest.next_if(|(_, next)| is_regional(*next))
            {
                end = at + second.len_utf8();
            }
            while let Some((at, next)) = rest.next_if(|(_, next)| continues_cluster(*next)) {
                end = at + next.len_utf8();
            }
            let cluster = text.get(start..end).unwrap_or_default();
            let before = folded.chars.len();
            folded.push(cluster, (offset(start), offset(end)));
            if folded.chars.len() > before {
                folded.capitals.push(after_small && first.is_uppercase());
                folded.capitals.resize(folded.chars.len(), false);
                after_small = first.is_lowercase();
            }
        }
        folded
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    /// Byte ranges of the original where the term stands. They may overlap.
    pub(crate) fn find<'a>(&'a self, term: &'a Term) -> impl Iterator<Item = (u32, u32)> + 'a {
        let bound = term.is_bound();
        self.chars
            .windows(term.0.len().max(1))
            .zip(0..)
            .filter(move |(window, at)| *window == term.0 && (!bound || self.begins_at(*at)))
            .filter(|(window, at)| !self.cuts_flag(*at) && !self.cuts_flag(at + window.len()))
            .filter_map(|(window, at)| {
                let (start, _) = self.spans.get(at)?;
                let (_, end) = self.spans.get(at + window.len() - 1)?;
                Some((*start, *end))
            })
    }

    /// Whether a letter stands here that a short term may begin with.
    pub(crate) fn begins_at(&self, at: usize) -> bool {
        let is_letter = |at: usize| self.chars.get(at).is_some_and(|c| Class::of(*c) == Class::Word);
        is_letter(at) && (!at.checked_sub(1).is_some_and(is_letter) || self.capitals.get(at) == Some(&true))
    }

    /// Whether both halves of one flag stand around this place.
    fn cuts_flag(&self, at: usize) -> bool {
        at.checked_sub(1).is_some_and(|before| {
            self.chars.get(at).is_some_and(|c| is_regional(*c))
                && self.chars.get(before).is_some_and(|c| is_regional(*c))
                && self.spans.get(before) == self.spans.get(at)
        })
    }

    fn push(&mut self, cluster: &str, span: (u32, u32)) {
        if let [byte @ 0..=0x7f] = cluster.as_bytes() {
            self.chars.push(char::from(byte.to_ascii_lowercase()));
            self.spans.push(span);
            return;
        }
        let mut base = None;
        let plain: String = cluster
            .nfkd()
            .filter(|c| {
                if is_combining_mark(*c) {
                    return !base.is_some_and(|base| is_left_out(base, *c));
                }
                base = Some(*c);
                true
            })
            .collect();
        // Upper case first: 'ß' becomes "ss", final and other sigma become one.
        let cased: String = plain.nfc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
        for c in cased.nfkc().filter(|c| !is_ignorable(*c)) {
            match written_out(c) {
                Some(plain) => self.chars.extend(plain.chars()),
                None => self.chars.push(c),
            }
        }
        self.spans.resize(self.chars.len(), span);
    }
}

/// One part of a query: folded characters, none of them a space, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term(Vec<char>);

impl Term {
    /// The terms of a query. All of them must be found.
    pub(crate) fn all_of(query: &str) -> Vec<Self> {
        let folded = Folded::new(query);
        let parts: Vec<&[char]> = folded
            .chars
            .split(|c| Class::of(*c) == Class::Space)
            .map(without_sentence)
            .filter(|part| !part.is_empty())
            .collect();
        let counts = |part: &[char]| !matches!(part, [mark] if is_sentence_mark(*mark));
        let some_count = parts.iter().any(|part| counts(part));
        parts.into_iter().filter(|part| !some_count || counts(part)).map(|part| Self(part.to_vec())).collect()
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.0
    }

    /// Whether it is found only where a word begins: it begins with a letter and has no more than
    /// two of them, and nothing but symbols else.
    pub(crate) fn is_bound(&self) -> bool {
        let count = |class| self.0.iter().filter(|c| Class::of(**c) == class).count();
        self.0.first().is_some_and(|c| Class::of(*c) == Class::Word)
            && count(Class::Word) <= 2
            && count(Class::Infix) == 0
    }
}

/// A part of a query without the punctuation of the sentence that it may have stood in.
fn without_sentence(part: &[char]) -> &[char] {
    let start = part.iter().position(|c| !is_around(*c) && !matches!(c, '¿' | '¡'));
    let end = part.iter().rposition(|c| !is_sentence_mark(*c));
    match (start, end) {
        (Some(start), Some(end)) if part.iter().any(|c| Class::of(*c) != Class::Symbol) => {
            part.get(start..=end).unwrap_or(part)
        }
        _ => part,
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

/// Half a flag.
fn is_regional(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{640}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// What stands around words and parts of sentences: quotes and brackets.
fn is_around(c: char) -> bool {
    matches!(c,
        '"' | '\'' | '`' | '(' | ')' | '[' | ']' | '{' | '}'
        | '«' | '»' | '\u{2039}' | '\u{203a}' // guillemets
        | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301b}' | '\u{301d}'..='\u{301f}') // of East Asia
}

/// The punctuation of sentences. Everything else that is no letter (+ # $ % & @ * / = ~ ^ _ - < >) says
/// something of the word beside it.
pub(crate) fn is_sentence_mark(c: char) -> bool {
    is_around(c)
        || matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '¿' | '¡' | '\u{3001}' | '\u{3002}')
        // Arabic, Indic, Armenian
        || matches!(c, '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{6d4}' | '\u{964}' | '\u{965}' | '\u{589}')
}

/// Whether people leave a mark out when they type, on the letter that it follows, both decomposed.
fn is_left_out(base: char, mark: char) -> bool {
    match base {
        // й, ў, ї, ѓ and ќ are letters of their own.
        'и' | 'И' | 'у' | 'У' => mark != '\u{306}',
        'і' | 'І' => mark != '\u{308}',
        'г' | 'Г' | 'к' | 'К' => mark != '\u{301}',
        'ا' => true,
        // Hamza and madda make other letters.
        _ if is_arabic(base) => !matches!(mark, '\u{653}'..='\u{655}'),
        _ => base.is_alphabetic() && has_accents(base),
    }
}

fn is_arabic(c: char) -> bool {
    matches!(c, '\u{620}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{8a0}'..='\u{8ff}')
}

/// Whether a letter is of a script in which marks may be left out.
fn has_accents(letter: char) -> bool {
    matches!(letter,
        'A'..='Z' | 'a'..='z' | '\u{aa}'..='\u{2af}' | '\u{1e00}'..='\u{1eff}'
        | '\u{2c60}'..='\u{2c7f}' | '\u{a722}'..='\u{a7ff}' | '\u{ab30}'..='\u{ab6f}' // Latin
        | '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' // Greek
        | '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}' | '\u{a640}'..='\u{a69f}' // Cyrillic
        | '\u{5d0}'..='\u{5f2}') // Hebrew
}

/// How people type a character that their keyboard lacks and that does not decompose.
fn written_out(c: char) -> Option<&'static str> {
    Some(match c {
        'æ' => "ae",
        'œ' => "oe",
        'ß' => "ss",
        'þ' => "th",
        'ƀ' | 'ɓ' => "b",
        'ȼ' => "c",
        'đ' | 'ð' | 'ɖ' | 'ɗ' => "d",
        'ə' | 'ǝ' | 'ɛ' => "e",
        'ƒ' => "f",
        'ħ' => "h",
        'ı' | 'ɨ' => "i",
        'ƙ' => "k",
        'ł' | 'ƚ' => "l",
        'ŋ' => "n",
        'ø' | 'ɔ' => "o",
        'ŧ' => "t",
        'ƴ' => "y",
        'ƶ' => "z",
        '\u{2018}'..='\u{201b}' | '\u{2bc}' => "'",
        '\u{201c}'..='\u{201f}' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        _ => return None,
    })
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
    fn one_or_two_letters_begin_a_word() {
        assert_eq!(marked("Hello there", "he"), Some(vec!["He"]));
        assert_eq!(marked("Hello there", "THERE hel"), Some(vec!["Hel", "there"]));
        assert_eq!(marked("Hello there", "lo"), None);
        assert_eq!(marked("카톡pc버전", "PC"), Some(vec!["pc"]));
        assert_eq!(marked("KE907편", "ke"), Some(vec!["KE"]));
        assert_eq!(marked("3kg or 4KG", "kg"), Some(vec!["kg", "KG"]));
        assert_eq!(marked("getUserName()", "us na"), Some(vec!["Us", "Na"]));
        assert_eq!(marked("getUserName()", "er"), None);
        assert_eq!(marked("OCaml Ruby", "c"), None);
    }

    #[test]
    fn everything_longer_is_found_inside() {
        assert_eq!(marked("Hello there", "ello"), Some(vec!["ello"]));
        assert_eq!(marked("01012345678", "5678"), Some(vec!["5678"]));
        assert_eq!(marked("A20241128KR77", "1128"), Some(vec!["1128"]));
        assert_eq!(marked("A20241128KR77", "1"), Some(vec!["11"]));
        assert_eq!(marked("KE907편", "907"), Some(vec!["907"]));
        assert_eq!(marked("KE907편", "e9"), Some(vec!["E9"]));
        assert_eq!(marked("카톡pc버전", "c버"), Some(vec!["c버"]));
        assert_eq!(marked("3학년 2반", "3학년"), Some(vec!["3학년"]));
        assert_eq!(marked("13학년", "3학년"), Some(vec!["3학년"]));
        assert_eq!(marked("13학년", "학년"), Some(vec!["학년"]));
        assert_eq!(marked("see getUserName()", "UserName"), Some(vec!["UserName"]));
        assert_eq!(marked("Donaudampfschifffahrt", "schiff"), Some(vec!["schiff"]));
        assert_eq!(marked("https://github.com/x", "hub"), Some(vec!["hub"]));
        assert_eq!(marked("breed", "eed"), Some(vec!["eed"]));
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
    fn accents_need_not_be_typed() {
        for (text, query) in [
            ("Lucía llega", "lucia"),
            ("cafe\u{301}", "CAFE"),
            ("cafe", "café"),
            ("naïve", "naive"),
            ("Žižek", "zizek"),
            ("Đà Nẵng", "da nang"),
            ("İstanbul", "istanbul"),
            ("ISPARTA", "ısparta"),
            ("crème brûlée", "CREME BRULEE"),
            ("STRAẞE", "strasse"),
            ("Ελλάδα", "ελλαδα"),
            ("Łódź", "lodz"),
            ("smørrebrød", "smorrebrod"),
            ("Þór Æsir cœur", "thor aesir coeur"),
            ("ещё", "еще"),
            ("за́мок", "замок"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("أحمـــد", "احمد"),
        ] {
            assert!(marked(text, query).is_some(), "{query} in {text}");
        }
        assert_eq!(marked("la Lucía!", "lucia"), Some(vec!["Lucía"]));
        assert_eq!(marked("Æsir", "aes"), Some(vec!["Æs"]));
    }

    #[test]
    fn marks_that_make_another_letter_count() {
        for (text, query) in
            [("мой", "мои"), ("її", "іі"), ("がく", "かく"), ("ก้น", "กน"), ("हिंदी", "हंदी"), ("سؤال", "سوال")]
        {
            assert_eq!(marked(text, query), None, "{query} in {text}");
            assert!(marked(text, text).is_some());
        }
        let decomposed: String = "мой".nfd().collect();
        assert!(marked(&decomposed, "мой").is_some());
    }

    #[test]
    fn symbols_count() {
        assert_eq!(marked("I write C++", "c++"), Some(vec!["C++"]));
        for (text, query) in [
            ("vitamin C", "C++"),
            ("I write C#", "C++"),
            ("I write C++", "C#"),
            ("100 people", "$100"),
            ("room 123", "#123"),
            ("3 or 14", "3.14"),
            ("a bug", ":D"),
            ("100", "100%"),
            ("well known", "well-known"),
        ] {
            assert_eq!(marked(text, query), None, "{query} in {text}");
        }
        assert_eq!(marked("joke :)", ":)"), Some(vec![":)"]));
        assert_eq!(marked("really?!", "?!"), Some(vec!["?!"]));
        assert_eq!(marked("really?!", "really ?!"), Some(vec!["really?!"]));
        assert_eq!(marked("I don\u{2019}t", "don't"), Some(vec!["don\u{2019}t"]));
        assert_eq!(marked("1990\u{2013}2000", "1990-2000"), Some(vec!["1990\u{2013}2000"]));
    }

    #[test]
    fn punctuation_around_words_does_not_count() {
        for (text, query) in [
            ("hello world", "hello,"),
            ("hello world", "\"Hello world!\""),
            ("hello world", "(hello) \u{201c}world\u{201d}..."),
            ("밥 먹었어", "밥 먹었어?!"),
            ("여기 학교", "「학교」。"),
            ("Bonjour", "Bonjour !"),
            ("I write C++", "C++."),
            ("getUserName", "getUserName()"),
            ("🎉", "🎉!"),
            ("مرحبا", "مرحبا،"),
        ] {
            assert!(marked(text, query).is_some(), "{query} in {text}");
        }
        assert_eq!(marked("really", "?!"), None);
        assert_eq!(marked("really?", "?"), Some(vec!["?"]));
    }

    #[test]
    fn flags_are_not_cut_in_two() {
        assert_eq!(marked("flag 🇷🇺", "🇷🇺"), Some(vec!["🇷🇺"]));
        assert_eq!(marked("🇰🇷🇺🇸", "🇷🇺"), None);
        assert_eq!(marked("🇰🇷🇺🇸", "🇺🇸"), Some(vec!["🇺🇸"]));
        assert_eq!(marked("🇰🇷🇺🇸", "🇰🇷🇺🇸"), Some(vec!["🇰🇷🇺🇸"]));
        assert_eq!(marked("🇰🇷", "🇰"), None);
    }

    #[test]
    fn emoji_are_found_and_space_is_not_searched_for() {
        assert_eq!(marked("축하해🎉🎉", "🎉"), Some(vec!["🎉🎉"]));
        assert!(Term::all_of(" \t \n").is_empty());
    }
}

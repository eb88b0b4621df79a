//! Names and texts that people read: which names are taken, and how to show what others wrote where
//! characters could do more than be read.

use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether a text can stand as a name: one line, with something to see in it, and nothing that would turn
/// or hide what stands around it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let mut before = None;
    let plain = text.chars().all(|c| {
        let fits = !acts(c) && (!is_hidden(c) || joins(before, c));
        before = Some(c);
        fits
    });
    plain && text.chars().any(is_seen)
}

/// A name as somebody typed or pasted it, with a space in place of each control character, line breaks
/// included, and none around it.
#[must_use]
pub fn tidy_name(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.trim().to_owned()
}

/// The same text with every character that would act on a screen, instead of being read, written as
/// `\u{1b}`. Line breaks stay: see [`one_line`].
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) && c != '\n' { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// As [`harmless`], with line breaks written as `\n` as well.
#[must_use]
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// Control characters, separators of lines, and what turns the direction of text.
fn acts(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        GeneralCategory::Control | GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<BidiControl>().contains(c)
}

/// Characters that show nothing by themselves.
fn is_hidden(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a hidden character belongs to the visible one before it: joiners and variations of emoji and of
/// scripts, and the tags of a flag.
fn joins(before: Option<char>, c: char) -> bool {
    const FLAG: char = '\u{1f3f4}';
    let tag = |c: char| ('\u{e0020}'..='\u{e007f}').contains(&c);
    match c {
        '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => before.is_some_and(is_seen_or_hidden_mark),
        c if tag(c) => before.is_some_and(|before| before == FLAG || tag(before)),
        _ => false,
    }
}

fn is_seen_or_hidden_mark(c: char) -> bool {
    is_seen(c) || matches!(c, '\u{fe00}'..='\u{fe0f}')
}

fn is_seen(c: char) -> bool {
    // An empty Braille cell is a symbol by its category, and a blank to the eye.
    !c.is_whitespace() && !is_hidden(c) && !acts(c) && c != '\u{2800}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_something_and_turns_nothing() {
        let names = [
            "밀담",
            "Minjun Kim",
            "O'Brien",
            "김 민준",
            "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
            "👨‍👩‍👧 가족",
            "❤️",
            "نام",
            "می‌خواهم",
            "שלום",
            "a\u{301}",
            "...",
            "1",
        ];
        for name in names {
            assert!(is_name(name), "{name:?}");
        }
        let blank_or_turning = [
            "",
            " ",
            "\t",
            "\u{3164}",
            "\u{200b}",
            "\u{2060}\u{2060}",
            "\u{2800}",
            "\u{202e}bob",
            "\u{e0041}",
            "\u{ad}",
            "a\u{2028}b",
            "a\nb",
            "a\u{0}b",
            "\u{1b}[31m",
            "\u{200d}",
            "\u{fe0f}",
            "\u{a0}",
            "a\u{e0041}",
            "bob\u{200b}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{2066}a\u{2069}",
            "a\u{200f}",
            "\u{85}",
        ];
        for name in blank_or_turning {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_pasted_name_is_tidied() {
        assert_eq!(tidy_name(" team\u{1b}[31m\nx\t"), "team [31m x");
        assert_eq!(tidy_name("\n\u{7}"), "");
        // What is no control character stays for `is_name` to judge.
        assert_eq!(tidy_name("a\u{2028}b"), "a\u{2028}b");
    }

    #[test]
    fn what_acts_on_a_terminal_is_written_out() {
        assert_eq!(harmless("title \u{1b}]0;owned\u{7}"), "title \\u{1b}]0;owned\\u{7}");
        assert_eq!(harmless("c1 \u{9b}31m\r"), "c1 \\u{9b}31m\\u{d}");
        assert_eq!(harmless("bidi \u{202e}gnp.exe"), "bidi \\u{202e}gnp.exe");
        assert_eq!(harmless("두 줄\n👨‍👩‍👧 ok"), "두 줄\n👨‍👩‍👧 ok");
        assert_eq!(one_line("a\nb\u{2028}c\td"), "a\\nb\\u{2028}c\\u{9}d");
    }
}

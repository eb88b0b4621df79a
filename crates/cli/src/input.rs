//! What a command reads: this process's standard input, or what somebody else gave for it.

use std::cell::RefCell;
use std::io::{self, BufRead, Cursor, Read as _};

use zeroize::Zeroizing;

use crate::output::Failure;

pub(crate) enum Input {
    /// Standard input.
    Process,
    /// A text in its place.
    Given(RefCell<Cursor<Zeroizing<Vec<u8>>>>),
}

impl Input {
    pub(crate) fn given(text: String) -> Self {
        Self::Given(RefCell::new(Cursor::new(Zeroizing::new(text.into_bytes()))))
    }

    /// The next line, without its end.
    pub(crate) fn line(&self, what: &str) -> Result<Zeroizing<String>, Failure> {
        let mut line = Zeroizing::new(String::new());
        self.read(|from| from.read_line(&mut line))?;
        let line = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
        if line.is_empty() {
            return Err(Failure::Usage(format!("standard input lacks {what}")));
        }
        Ok(line)
    }

    /// All that is left, without the end of its last line.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        self.read(|from| from.read_to_string(&mut text))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }

    fn read<T>(&self, read: impl FnOnce(&mut dyn BufRead) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Process => read(&mut io::stdin().lock()),
            Self::Given(given) => read(&mut *given.borrow_mut()),
        }
    }
}

/// How much of standard input a command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdinNeed {
    Nothing,
    /// So many lines: who types them is not asked for more.
    Lines(usize),
    Everything,
}

impl StdinNeed {
    /// Reads so much, for another process that carries the command out.
    ///
    /// # Errors
    /// If it is longer than `limit` bytes, or no text.
    pub(crate) fn read(
        self,
        from: &mut impl BufRead,
        limit: u32,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        let mut bytes = Zeroizing::new(Vec::new());
        let mut from = from.take(u64::from(limit) + 1);
        match self {
            Self::Nothing => return Ok(None),
            Self::Lines(lines) => {
                for _ in 0..lines {
                    from.read_until(b'\n', &mut bytes)?;
                }
            }
            Self::Everything => {
                from.read_to_end(&mut bytes)?;
            }
        }
        if from.limit() == 0 {
            return Err(Failure::too_long());
        }
        let text = String::from_utf8(std::mem::take(&mut *bytes));
        let text =
            text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "standard input is not UTF-8"))?;
        Ok(Some(Zeroizing::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_text_is_read_like_standard_input() {
        let input = Input::given("words\r\npassword\nrest\nof it\n".to_owned());
        assert_eq!(input.line("words").unwrap().as_str(), "words");
        assert_eq!(input.line("a password").unwrap().as_str(), "password");
        assert_eq!(input.text().unwrap(), "rest\nof it");
        assert!(matches!(input.line("more"), Err(Failure::Usage(_))));
    }

    #[test]
    fn no_more_is_read_than_the_command_needs() {
        let mut from = Cursor::new("one\ntwo\nthree");
        let mut read = |stdin_need: StdinNeed| stdin_need.read(&mut from, 9).unwrap();
        assert!(read(StdinNeed::Nothing).is_none());
        assert_eq!(read(StdinNeed::Lines(1)).unwrap().as_str(), "one\n");
        assert_eq!(read(StdinNeed::Everything).unwrap().as_str(), "two\nthree");
        let long = StdinNeed::Everything.read(&mut Cursor::new("너무 길다"), 4).unwrap_err();
        assert!(matches!(long, Failure::Host { code: "too_long", .. }), "{long:?}");
    }
}

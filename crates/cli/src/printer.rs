//! Standard output of a process that has other things to do meanwhile.

use std::io::ErrorKind;

use tokio::io::{AsyncWriteExt as _, Stdout};

use crate::output::{Failure, Line, Output};

/// Prints without holding anything else up: a reader who waits for another command to end before reading
/// on would wait for ever if that command waited for the reader.
pub(crate) struct Printer {
    out: Stdout,
    gone: bool,
}

impl Printer {
    pub(crate) fn new() -> Self {
        Self { out: tokio::io::stdout(), gone: false }
    }

    /// Whether nobody reads any more.
    pub(crate) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Prints what a page has kept.
    pub(crate) async fn print(&mut self, page: &Output) -> Result<(), Failure> {
        for line in page.take() {
            if self.gone {
                return Ok(());
            }
            let (Line::Out(mut line) | Line::Err(mut line)) = line;
            line.push('\n');
            match self.write(&line).await {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.gone = true,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    async fn write(&mut self, line: &str) -> std::io::Result<()> {
        self.out.write_all(line.as_bytes()).await?;
        self.out.flush().await
    }
}

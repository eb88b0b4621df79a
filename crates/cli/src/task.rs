//! A command that this process carries out for somebody else: its output is kept, and is the answer.

use mildam_client::Client;

use crate::args::Command;
use crate::input::Input;
use crate::key::Key;
use crate::output::{Failure, Line, Output};
use crate::run;

/// What is to be done.
pub(crate) struct Task {
    /// The command, or why there is none.
    pub(crate) command: Result<Command, Failure>,
    /// What it reads in place of standard input.
    pub(crate) stdin: Option<String>,
    /// Whether it answers in JSON.
    pub(crate) json: bool,
    /// What opens the vault.
    pub(crate) key: Key,
}

/// What it came to.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<Line>,
    pub(crate) exit: u8,
}

impl Task {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let Self { command, stdin, json, key } = self;
        let (input, output) = (Input::given(stdin.unwrap_or_default()), Output::kept(json));
        let outcome = match command {
            Ok(command) => run::command(client, client.subscribe(), command, &key, &input, &output).await,
            Err(failure) => Err(failure),
        };
        Outcome::of(outcome, &output)
    }
}

impl Outcome {
    /// What could not even be begun.
    pub(crate) fn refused(failure: Failure, json: bool) -> Self {
        Self::of(Err(failure), &Output::kept(json))
    }

    fn of(outcome: Result<(), Failure>, output: &Output) -> Self {
        let exit = outcome.map_or_else(|failure| output.failure(&failure), |()| 0);
        Self { lines: output.take(), exit }
    }
}

//! `bot`: events out, commands in, one vault.
//!
//! ```text
//! standard input    {"id":"1","args":["send","ROOM","hello"],"stdin":null}
//! standard output   {"event":"message",...}
//!                   {"event":"answer","id":"1","exit":0,"output":[{...}],"error":null}
//! ```

use std::io::{self, BufRead};

use mildam_client::{Client, EventStream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::{Args, Command};
use crate::key::Key;
use crate::listen::{tell, tell_state};
use crate::output::{Failure, Line, Output};
use crate::printer::Printer;
use crate::task::{Outcome, Task};

/// How many commands are carried out at a time. More wait where they are written.
const MAX_COMMANDS: usize = 16;
/// How long a line of standard input may be, in bytes without its end.
const MAX_LINE: usize = 1024 * 1024;

/// Prints events and carries out commands until standard input has ended and all of them are done. Whoever
/// started this holds the other end, so its end is theirs; so is the end of those who read the output.
pub(crate) async fn bot(client: &Client, mut events: EventStream, key: &Key) -> Result<(), Failure> {
    let (page, mut printer) = (Output::kept(true), Printer::new());
    tell_state(client, &page).await?;
    printer.print(&page).await?;
    let (mut orders, mut commands) = (read_orders()?, JoinSet::new());
    let mut ended = false;
    while !(ended && commands.is_empty()) {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => tell(&event, &page)?,
                None => return Ok(()),
            },
            line = orders.recv(), if !ended && commands.len() < MAX_COMMANDS => match line {
                Some(line) => {
                    let (id, task) = task(line?, key);
                    let client = client.clone();
                    commands.spawn_local(async move { answer(&id, task.run(&client).await) });
                }
                None => ended = true,
            },
            Some(answer) = commands.join_next() => {
                // One that panicked has been told on standard error.
                if let Ok(answer) = answer {
                    page.json(&answer)?;
                }
            }
        }
        printer.print(&page).await?;
        ended |= printer.is_gone();
    }
    Ok(())
}

/// A command, as a line of standard input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// The answer has the same.
    #[serde(default)]
    id: Value,
    args: Vec<String>,
    stdin: Option<String>,
}

/// What a line asks for, and its id.
fn task(line: Taken, key: &Key) -> (Value, Task) {
    let order = match line {
        Taken::Line(line) => {
            serde_json::from_slice::<Value>(&line).map_err(|error| (Value::Null, error.to_string()))
        }
        Taken::TooLong => Err((Value::Null, "the line is longer than 1 MiB".to_owned())),
    };
    let order = order.and_then(|order| {
        // Where there is an id, the answer has it, whatever else is wrong.
        let id = order.get("id").cloned().unwrap_or_default();
        serde_json::from_value::<Order>(order).map_err(|error| (id, error.to_string()))
    });
    let (id, command, stdin) = match order {
        Ok(order) => (order.id, command(&order.args), order.stdin),
        Err((id, error)) => (id, Err(Failure::Usage(format!("this is not a command: {error}"))), None),
    };
    (id, Task { command, stdin, json: true, key: key.clone() })
}

fn command(args: &[String]) -> Result<Command, Failure> {
    let args = Args::read(args)?;
    if args.home.is_some() {
        return Err(Failure::Usage("a bot has one account: leave --home away".to_owned()));
    }
    Ok(args.command)
}

/// What a command printed, as one object.
fn answer(id: &Value, done: Outcome) -> Value {
    let (mut output, mut error) = (Vec::new(), Value::Null);
    for line in done.lines {
        match line {
            Line::Out(line) => output.push(serde_json::from_str(&line).unwrap_or(Value::String(line))),
            Line::Err(line) => {
                let told: Value = serde_json::from_str(&line).unwrap_or_default();
                error = told.get("error").cloned().unwrap_or_default();
            }
        }
    }
    json!({"event": "answer", "id": id, "exit": done.exit, "output": output, "error": error})
}

/// A line of standard input.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Line(Vec<u8>),
    TooLong,
}

/// Reads standard input in a thread of its own, which ends with the process: nothing else can end it.
fn read_orders() -> io::Result<mpsc::Receiver<io::Result<Taken>>> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut from = io::stdin().lock();
        while let Some(line) = next_line(&mut from).transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(orders)
}

/// The next line that is not blank; none at the end. What is too long is passed over, and not kept.
fn next_line(from: &mut impl BufRead) -> io::Result<Option<Taken>> {
    let (mut line, mut too_long) = (Vec::new(), false);
    loop {
        let chunk = match from.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let at_end = chunk.is_empty();
        let mut parts = chunk.splitn(2, |byte| *byte == b'\n');
        let part = parts.next().unwrap_or_default();
        let complete = parts.next().is_some();
        let used = part.len() + usize::from(complete);
        if !too_long && line.len() + part.len() <= MAX_LINE {
            line.extend_from_slice(part);
        } else {
            (line, too_long) = (Vec::new(), true);
        }
        from.consume(used);
        if !complete && !at_end {
            continue;
        }
        if too_long {
            return Ok(Some(Taken::TooLong));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Taken::Line(line)));
        }
        if at_end {
            return Ok(None);
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read as _};

    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_and_never_more_than_fits() {
        let most = u64::try_from(MAX_LINE).unwrap();
        let (long, full) = (io::repeat(b'x').take(most + 1), io::repeat(b'y').take(most));
        let text = Cursor::new("one\n\n \r\ntwo\r\n").chain(long).chain(Cursor::new("\n")).chain(full);
        let mut from = BufReader::with_capacity(1000, text.chain(Cursor::new("\nlast")));
        let mut next = || next_line(&mut from).unwrap();
        assert_eq!(next(), Some(Taken::Line(b"one".to_vec())));
        assert_eq!(next(), Some(Taken::Line(b"two\r".to_vec())));
        assert_eq!(next(), Some(Taken::TooLong));
        assert!(matches!(next(), Some(Taken::Line(line)) if line.len() == MAX_LINE));
        assert_eq!(next(), Some(Taken::Line(b"last".to_vec())));
        assert_eq!(next(), None);
    }

    fn read(line: &str) -> (Value, Task) {
        task(Taken::Line(line.as_bytes().to_vec()), &Key::new(None))
    }

    #[test]
    fn a_line_is_a_command_with_an_id() {
        let (id, task) = read(r#"{"id":7,"args":["send","ROOM","--stdin"],"stdin":"hello"}"#);
        assert_eq!(id, json!(7));
        assert!(matches!(task.command, Ok(Command::Send { .. })));
        assert_eq!(task.stdin.as_deref(), Some("hello"));
        assert!(matches!(read(r#"{"args":["sync"]}"#), (Value::Null, Task { command: Ok(_), .. })));
    }

    #[test]
    fn what_is_no_command_is_answered_with_what_id_it_has() {
        let lines = [
            ("nonsense", Value::Null),
            (r#"{"id":"1","args":"sync"}"#, json!("1")),
            (r#"{"id":"2","args":["sync"],"stdim":"x"}"#, json!("2")),
            (r#"{"id":"3","args":["sync","--home","elsewhere"]}"#, json!("3")),
            (r#"["sync"]"#, Value::Null),
        ];
        for (line, expected) in lines {
            let (id, task) = read(line);
            assert_eq!(id, expected, "{line}");
            assert!(matches!(task.command, Err(Failure::Usage(_))), "{line}");
        }
    }

    #[test]
    fn an_answer_has_what_was_printed() {
        let failed = Outcome::refused(Failure::Usage("not so".to_owned()), true);
        let expected = json!({"event": "answer", "id": "1", "exit": 2, "output": [],
            "error": {"code": "usage", "message": "not so"}});
        assert_eq!(answer(&json!("1"), failed), expected);
        let done = Outcome { lines: vec![Line::Out(r#"{"unread":0}"#.to_owned())], exit: 0 };
        let expected =
            json!({"event": "answer", "id": null, "exit": 0, "output": [{"unread": 0}], "error": null});
        assert_eq!(answer(&Value::Null, done), expected);
    }
}

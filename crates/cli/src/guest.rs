//! A command whose vault another process has: it is carried out there.

use std::path::Path;

use zeroize::Zeroizing;

use crate::args::Command;
use crate::frame::{self, Answer, MAX_ANSWER, MAX_REQUEST, Request, VERSION};
use crate::key::Key;
use crate::output::{Failure, Line, Output};
use crate::socket::connect;

/// Asks the process that has the vault of this folder, and prints what it answers; gives the exit code,
/// or none if that process lets nobody in.
pub(crate) async fn ask(
    home: &Path,
    key: &Key,
    command: &Command,
    output: &Output,
) -> Result<Option<u8>, Failure> {
    let stdin_need = command.stdin_need();
    // Nobody types a password for nothing, and nobody is made to type fast.
    if connect(home).await.is_none() {
        return Ok(None);
    }
    let mut stdin = stdin_need.read(&mut std::io::stdin().lock(), MAX_REQUEST)?;
    let request = Request {
        version: VERSION,
        args: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
        json: output.is_json(),
        stdin: stdin.as_mut().map(|text| std::mem::take::<String>(text)),
        passphrase: key.passphrase().map(str::to_owned),
    };
    let bytes = request.to_bytes()?;
    if u32::try_from(bytes.len()).is_ok_and(|length| length > MAX_REQUEST) {
        return Err(Failure::too_long());
    }
    let Some(stream) = connect(home).await else { return Ok(None) };
    let mut end = &stream;
    frame::write(&mut end, &bytes).await.map_err(|_| Failure::host_gone())?;
    let (mut lines, mut exit) = (Vec::new(), None);
    // It is taken in one go, so that nobody waits there for whoever reads it here.
    while exit.is_none() {
        let document: Zeroizing<Vec<u8>> =
            frame::read(&mut end, MAX_ANSWER).await.map_err(|_| Failure::host_gone())?;
        match serde_json::from_slice(&document) {
            Ok(Answer::Line(line)) => lines.push(line),
            Ok(Answer::Exit { exit: code }) => exit = Some(code),
            Err(_) => return Err(Failure::other_version()),
        }
    }
    for line in lines {
        match line {
            Line::Out(line) => output.line(&line)?,
            Line::Err(line) => output.complain(&line),
        }
    }
    Ok(exit)
}

//! The process that has the vault carries out the commands of the others.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use mildam_client::Client;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::args::Args;
use crate::frame::{self, Answer, MAX_REQUEST, Request};
use crate::key::Key;
use crate::output::Failure;
use crate::socket::HostSocket;
use crate::task::{Outcome, Task};

/// How many are let in at a time. More wait before the socket.
const MAX_GUESTS: usize = 16;
/// How long a guest may take to say what it wants, and to take the answer.
const GUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait when nobody can be let in, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Lets guests in, for ever. Without a socket there are none.
pub(crate) async fn serve(socket: Option<&HostSocket>, client: &Client) -> Infallible {
    let Some(socket) = socket else { return std::future::pending().await };
    let turn = Rc::new(Mutex::new(()));
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            stream = socket.accept(), if guests.len() < MAX_GUESTS => match stream {
                Ok(stream) => {
                    guests.spawn_local(attend(stream, client.clone(), Rc::clone(&turn)));
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

/// Does what one guest asks for. Whoever says nothing, or goes away, gets no answer.
async fn attend(stream: Stream, client: Client, turn: Rc<Mutex<()>>) {
    let mut end = &stream;
    let Ok(Ok(bytes)) = timeout(GUEST_LIMIT, frame::read(&mut end, MAX_REQUEST)).await else { return };
    let done = match Request::parse(&bytes) {
        Ok(request) => {
            let task = admit(request, &client, &turn).await;
            tokio::select! {
                done = task.run(&client) => done,
                () = gone(&stream) => return,
            }
        }
        Err((failure, json)) => Outcome::refused(failure, json),
    };
    drop(timeout(GUEST_LIMIT, answer(&stream, done)).await);
}

/// Lets a guest have what the vault holds if it has what opens the vault. Guesses are made one after
/// another, each as slow as when the vault is opened, whether or not the guest waits for the outcome.
async fn admit(mut request: Request, client: &Client, turn: &Mutex<()>) -> Task {
    let key = Key::new(request.passphrase.take());
    let checked = {
        let _turn = turn.lock().await;
        client.check_unlock(key.unlock()).await
    };
    let command = match checked {
        Ok(()) => Args::read(&request.args).map(|args| args.command),
        Err(error) => Err(Failure::Client(error)),
    };
    Task { command, stdin: request.stdin.take(), json: request.json, key }
}

/// Ends when the guest has gone. It says nothing after its request.
async fn gone(stream: &Stream) {
    let (mut end, mut more) = (stream, [0]);
    drop(end.read(&mut more).await);
}

async fn answer(stream: &Stream, done: Outcome) -> io::Result<()> {
    let mut end = stream;
    let lines = done.lines.into_iter().map(Answer::Line);
    for document in lines.chain([Answer::Exit { exit: done.exit }]) {
        frame::write(&mut end, &serde_json::to_vec(&document)?).await?;
    }
    Ok(())
}

//! The process that has the vault carries out the commands of the others.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use mildam_client::Client;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinSet, LocalSet};
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

/// Carries out commands of other processes in a thread of its own, until it is dropped: for a program that has
/// the vault open and other things to do.
pub struct Host {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Begins, for the account in this folder. The client has its vault open.
    ///
    /// # Errors
    /// If no thread can be started. Where no socket can be made, that is logged, and nobody is let in.
    pub fn start(home: &Path, client: Client) -> io::Result<Self> {
        let (home, stop) = (home.to_owned(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let serving = async {
                let socket = HostSocket::open(&home);
                if let Err(error) = &socket {
                    tracing::warn!(%error, "other commands of this account have to wait until this ends");
                }
                tokio::select! {
                    () = stopped.notified() => {}
                    never = serve(socket.as_ref().ok(), &client) => match never {},
                }
            };
            LocalSet::new().block_on(&runtime, serving);
            // What a command still does on another thread is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("host".to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

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

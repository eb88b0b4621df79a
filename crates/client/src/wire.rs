//! A live connection, as the engine uses it: ask, and be answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mildam_protocol::command::{self, Command, SessionId};
use mildam_protocol::records::Hash;
use mildam_protocol::session::{Incoming, Refusal, client};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::carrier::{self, Connection, Stream};
use crate::connection::News;
use crate::error::Error;
use crate::keep_alive::{self, Heard};
use crate::way::Way;

/// An answer that takes longer is not waited for: the connection counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

type Outcome = Result<serde_json::Value, Refusal>;
/// Who waits for which answer; none once the connection has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>>;

struct Writer {
    sealer: client::Sealer,
    stream: WriteHalf<Box<dyn Stream>>,
    next_id: u64,
}

/// The asking side of a connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Wire {
    writer: Arc<tokio::sync::Mutex<Writer>>,
    waiting: Waiting,
    passed_over: Arc<AtomicBool>,
    transcript: Hash,
    way: Way,
    peer: SocketAddr,
    heard: Heard,
}

/// The reading side, for the task that owns the connection.
pub(crate) struct Reading {
    opener: client::Opener,
    stream: ReadHalf<Box<dyn Stream>>,
    waiting: Waiting,
    passed_over: Arc<AtomicBool>,
    heard: Heard,
}

impl Wire {
    pub(crate) fn new(connection: Connection) -> (Self, Reading) {
        let (way, peer) = (connection.way, connection.peer);
        let (read, write) = tokio::io::split(connection.stream);
        let transcript = connection.established.transcript;
        let (sealer, opener) = connection.established.session.split();
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let passed_over = Arc::new(AtomicBool::new(false));
        let heard = connection.heard;
        let writer = Writer { sealer, stream: write, next_id: 1 };
        let wire = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            waiting: Arc::clone(&waiting),
            passed_over: Arc::clone(&passed_over),
            transcript,
            way,
            peer,
            heard: heard.clone(),
        };
        (wire, Reading { opener, stream: read, waiting, passed_over, heard })
    }

    /// Whether pushes were passed over since it was asked last, because too many were waiting. What
    /// they told must be asked for.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.passed_over.swap(false, Ordering::AcqRel)
    }

    /// Returns once the relay is not heard any more, although it was asked. It is asked at once when
    /// there is a doubt.
    pub(crate) async fn gone(&self, doubt: &Notify) {
        let ask = || async move { self.ask(None, &command::Ping {}).await.is_ok() };
        keep_alive::until_gone(ask, &self.heard, doubt).await;
    }

    /// The way that the connection takes.
    pub(crate) const fn way(&self) -> Way {
        self.way
    }

    /// Where TCP leads to: the relay, or a proxy.
    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Hash of the connection's set-up, which login proofs are bound to.
    pub(crate) const fn transcript(&self) -> &Hash {
        &self.transcript
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<C: Command + Sync>(
        &self,
        session: Option<&SessionId>,
        command: &C,
    ) -> Result<C::Answer, Error> {
        let answer = self.send(session, command).await?;
        let outcome = timeout(ANSWER_LIMIT, answer).await.map_err(|_| Error::offline())?;
        let value = outcome.map_err(|_| Error::offline())??;
        serde_json::from_value(value).map_err(|_| Error::internal("an answer of another form"))
    }

    async fn send<C: Command + Sync>(
        &self,
        session: Option<&SessionId>,
        command: &C,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let mut writer = self.writer.lock().await;
        let id = writer.next_id;
        writer.next_id = id.wrapping_add(1);
        let payload = writer.sealer.request(id, session, command, &mut crate::rng())?;
        let (reply, answer) = oneshot::channel();
        match lock(&self.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, reply),
            None => return Err(Error::offline()),
        };
        carrier::write(&mut writer.stream, &payload).await?;
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reading {
    /// Reads until the connection ends. Whoever still waits for an answer then gets none.
    pub(crate) async fn run(mut self, news: &mpsc::Sender<News>) {
        loop {
            let Ok(payload) = carrier::read_session(&mut self.stream, &self.heard).await else { break };
            match self.opener.open(&payload) {
                Ok(Incoming::Answer { id, outcome }) => {
                    if let Some(reply) = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&id))
                    {
                        let _ = reply.send(outcome);
                    }
                }
                // Pushes never make an answer wait: the engine may be waiting for it.
                Ok(Incoming::Push(event)) => match news.try_send(News::Push(event)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => self.passed_over.store(true, Ordering::Release),
                    Err(TrySendError::Closed(_)) => break,
                },
                Ok(Incoming::UnknownPush) => tracing::debug!("a push of an unknown kind"),
                Err(error) => {
                    tracing::warn!(%error, "the session ends");
                    break;
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        lock(&self.waiting).take();
    }
}

//! One connection: its set-up, then requests in and answers and pushes out, all in one task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mildam_protocol::frame::{self, Decoder, FrameError, SESSION_LIMIT, SET_UP_LIMIT, UNBOUND_LIMIT};
use mildam_protocol::records::id::Hash;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::session::server::{Opener, Sealer};
use mildam_protocol::session::{IncomingRequest, ServerSession};
use mildam_protocol::set_up::{self, ChannelBinding, Established, SetUpError};
use mildam_protocol::{Code, Refusal, Request, SessionError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::Subscription;
use crate::context::{Context, rng};
use crate::handler::{self, Admission, Admitted, Approach, Caller, Plan, Ticket, presence};
use crate::outbox::{Outbox, Outgoing, Reply};
use crate::store::Settle;

/// Requests of one connection that may be in hand. Who sends more waits.
const IN_HAND: u32 = 64;
/// Requests that are still answered, with `draining`, while the last ones in hand are finished.
const DRAIN_ANSWERS: u32 = 16;
/// A peer that takes nothing for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long the last words may take to arrive.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Bytes that are written at once, if so many wait.
const BATCH: usize = 64 * 1024;
/// The bytes of JSON that a push may have, so that sealed and encoded it fits a frame.
const PUSH_BUDGET: usize = 700 * 1024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("the relay is stopping")]
    Draining,
    #[error("it took too long to set up")]
    TimedOut,
    #[error("the peer takes nothing any more")]
    Stuck,
    #[error("too many wrong passwords or words")]
    Guessing,
    #[error("input or output failed: {0}")]
    Io(#[from] io::Error),
    #[error("frame: {0}")]
    Frame(#[from] FrameError),
    #[error("set-up: {0}")]
    SetUp(#[from] SetUpError),
    #[error("session: {0}")]
    Session(#[from] SessionError),
    #[error("a task was lost: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

/// Serves a connection until one side ends it.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut stream: S,
    binding: ChannelBinding,
    deadline: Instant,
    context: Arc<Context>,
) {
    let mut frames = Frames::new(SET_UP_LIMIT);
    let set_up = tokio::select! {
        outcome = timeout_at(deadline, set_up(&mut stream, &mut frames, binding, &context)) => {
            outcome.unwrap_or(Err(Ended::TimedOut))
        }
        () = context.draining.cancelled() => Err(Ended::Draining),
    };
    let reason = match set_up {
        Ok(established) => {
            frames.set_limit(UNBOUND_LIMIT);
            converse(&mut stream, frames, established, context).await
        }
        Err(reason) => {
            if let Some(last_words) = last_words(&reason) {
                // They may not arrive: the peer may be gone.
                let _ = timeout(CLOSE_LIMIT, write_frame(&mut stream, &last_words)).await;
            }
            reason
        }
    };
    match reason {
        Ended::Closed | Ended::Draining => tracing::debug!(%reason, "the connection ended"),
        reason => tracing::info!(%reason, "the connection ended"),
    }
    close(&mut stream).await;
}

/// What a set-up that fails is told.
fn last_words(reason: &Ended) -> Option<Vec<u8>> {
    match reason {
        Ended::TimedOut => Some(set_up::timed_out()),
        Ended::SetUp(error) => Some(error.refusal()),
        Ended::Frame(_) => Some(SetUpError::Malformed("frame").refusal()),
        _ => None,
    }
}

async fn set_up<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    frames: &mut Frames,
    binding: ChannelBinding,
    context: &Context,
) -> Result<Established<ServerSession>, Ended> {
    let (greeting, state) = set_up::server::start(&context.key, &context.name, binding, &mut rng())?;
    write_frame(stream, &greeting).await?;
    let answer = frames.next(stream).await?;
    // RSA takes milliseconds: not on the threads that serve everybody.
    let key_delivery = tokio::task::spawn_blocking(move || state.handle(&answer, &mut rng()));
    let (delivery, state) = key_delivery.await??;
    write_frame(stream, &delivery).await?;
    let confirmation = frames.next(stream).await?;
    let (success, established) = state.handle(&confirmation)?;
    write_frame(stream, &success).await?;
    Ok(established)
}

/// Reads and writes side by side. When reading ends, what is in hand is finished and written.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    frames: Frames,
    established: Established<ServerSession>,
    context: Arc<Context>,
) -> Ended {
    let (opener, sealer) = established.session.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::new(context.limits.pushes));
    let mut conversation = Conversation {
        frames,
        opener,
        transcript: established.transcript,
        bound: None,
        subscription: None,
        approach: Approach::default(),
        outbox: Arc::clone(&outbox),
        in_hand: Arc::new(Semaphore::new(IN_HAND as usize)),
        context,
    };
    tokio::select! {
        reason = conversation.listen(&mut reader) => reason,
        Err(reason) = speak(&mut writer, &outbox, sealer) => reason,
    }
}

/// The reading half of a connection and all that it knows of its peer.
struct Conversation {
    frames: Frames,
    opener: Opener,
    transcript: Hash,
    /// To whom the connection belongs.
    bound: Option<Caller>,
    subscription: Option<Subscription>,
    approach: Approach,
    outbox: Arc<Outbox>,
    in_hand: Arc<Semaphore>,
    context: Arc<Context>,
}

impl Conversation {
    async fn listen(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Ended {
        let draining = self.context.draining.clone();
        let reason = loop {
            let heard = tokio::select! {
                biased;
                () = draining.cancelled() => break Ended::Draining,
                () = news_end(&self.subscription) => {
                    self.unsubscribe().await;
                    self.bound = None;
                    continue;
                }
                heard = self.frames.next(reader) => heard,
            };
            let taken = match heard {
                Ok(payload) => self.take(&payload).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = taken {
                break reason;
            }
        };
        // No more news; answers are still written by the other half.
        self.unsubscribe().await;
        self.finish(reader, matches!(reason, Ended::Draining)).await;
        reason
    }

    /// Waits until everything in hand is answered, and meanwhile, if the peer may still ask, says
    /// that the relay is stopping.
    async fn finish(&mut self, reader: &mut (impl AsyncRead + Unpin), mut hearing: bool) {
        let in_hand = Arc::clone(&self.in_hand);
        let finished = in_hand.acquire_many(IN_HAND);
        tokio::pin!(finished);
        let spare = Arc::new(Semaphore::new(DRAIN_ANSWERS as usize));
        loop {
            let heard = tokio::select! {
                biased;
                _ = &mut finished => break,
                heard = self.frames.next(reader), if hearing => heard,
            };
            hearing = match (heard, Arc::clone(&spare).try_acquire_owned()) {
                (Ok(payload), Ok(permit)) => match self.opener.open(&payload) {
                    Ok(request) => {
                        let outbox = Arc::clone(&self.outbox);
                        let reply = Reply::new(request.id, "draining", outbox, permit);
                        reply.send(Err(Refusal::new(Code::Draining, "the relay is stopping: connect again")));
                        true
                    }
                    Err(_) => false,
                },
                _ => false,
            };
        }
        // A closed semaphore cannot be; either way there is nothing left to wait for.
        let _ = spare.acquire_many(DRAIN_ANSWERS).await;
    }

    async fn take(&mut self, payload: &[u8]) -> Result<(), Ended> {
        let IncomingRequest { id, session, request } = self.opener.open(payload)?;
        let Ok(permit) = Arc::clone(&self.in_hand).acquire_owned().await else {
            return Err(Ended::Draining);
        };
        let name = request.as_ref().map_or("unreadable", Request::name);
        let reply = Reply::new(id, name, Arc::clone(&self.outbox), permit);
        let context = Arc::clone(&self.context);
        let now = context.clock.now();
        let ticket = session.map(|session| Ticket {
            tag: handler::session_tag(&session),
            bound: self.bound.clone(),
            now,
        });
        let plan = request.and_then(|request| handler::plan(request, ticket, now, &context));
        match plan {
            Err(refusal) => reply.send(Err(refusal)),
            Ok(Plan::Answer(answer)) => reply.send(Ok(answer)),
            Ok(Plan::Read(work)) => {
                self.context.tasks.spawn(async move {
                    match context.store.read(work).await {
                        Ok(committed) => {
                            reply.send(Ok(committed.answer));
                            for news in committed.news {
                                context.broker.publish(news);
                            }
                        }
                        Err(rejection) => reply.send(Err(handler::refusal(rejection))),
                    }
                });
            }
            Ok(Plan::Write(work)) => {
                let broker = Arc::clone(&context.broker);
                let settle: Settle = Box::new(move |outcome| match outcome {
                    Ok(committed) => {
                        reply.send(Ok(committed.answer));
                        for news in committed.news {
                            broker.publish(news);
                        }
                    }
                    Err(rejection) => reply.send(Err(handler::refusal(rejection))),
                });
                if let Err(error) = context.store.write(work, settle).await {
                    // The reply went with the work, and says by itself that it was given up.
                    tracing::error!(%error, "a request could not be queued");
                }
            }
            Ok(Plan::Admit(admission)) => self.admit(admission, reply, now).await?,
        }
        Ok(())
    }

    /// Carries out a request that changes to whom the connection belongs. The next request waits,
    /// so that it finds this settled.
    async fn admit(&mut self, admission: Admission, reply: Reply, now: u64) -> Result<(), Ended> {
        let context = Arc::clone(&self.context);
        let (bound, transcript) = (self.bound.as_ref(), &self.transcript);
        let approach = &mut self.approach;
        if approach.is_spent() && matches!(admission, Admission::SignUpStart(_) | Admission::LogInStart(_)) {
            let spent = "too many passwords or words were tried on this connection: open a new one";
            reply.send(Err(Refusal::new(Code::LimitReached, spent)));
            return Err(Ended::Guessing);
        }
        let outcome = match admission {
            Admission::SignUpStart(command) => Err(handler::sign_up_start(&context, approach, *command)),
            Admission::LogInStart(command) => {
                Err(handler::log_in_start(&context, approach, transcript, *command).await)
            }
            Admission::RecoverStart(command) => {
                Err(handler::recover_start(&context, approach, transcript, *command).await)
            }
            Admission::SignUp(command) => {
                Ok(handler::sign_up(&context, bound, approach, transcript, *command, now).await)
            }
            Admission::LogIn(command) => {
                Ok(handler::log_in(&context, bound, approach, transcript, *command, now).await)
            }
            Admission::Recover(command) => {
                Ok(handler::recover(&context, bound, approach, transcript, *command, now).await)
            }
            Admission::Attach(ticket, proof) => {
                self.attach(ticket, proof, reply).await;
                return Ok(());
            }
            Admission::LogOut(ticket) => {
                self.log_out(ticket, reply).await;
                return Ok(());
            }
        };
        let wrong = matches!(
            &outcome,
            Ok(Err(refusal)) | Err(Err(refusal))
                if matches!(refusal.code, Code::WrongCredentials | Code::WrongWords)
        );
        match outcome {
            // A first step: the connection belongs to whom it belonged.
            Err(first) => reply.send(first),
            Ok(Err(refusal)) => reply.send(Err(refusal)),
            Ok(Ok(Admitted { answer, caller })) => {
                reply.send(Ok(answer));
                self.bind(caller);
            }
        }
        if wrong && self.approach.is_spent() {
            return Err(Ended::Guessing);
        }
        Ok(())
    }

    /// Attaches the connection to the device of a session. Its news begin while the store settles
    /// this, in the order of the commits: if a later one takes the device off the list, this
    /// connection is among those that are told and cut off.
    async fn attach(&mut self, ticket: Ticket, proof: Signature, reply: Reply) {
        let switchboard = Arc::clone(&self.context.switchboard);
        let outbox = Arc::clone(&self.outbox);
        let (put, got) = oneshot::channel();
        let settle: Settle = Box::new(move |outcome| match handler::attached(outcome) {
            Err(refusal) => reply.send(Err(refusal)),
            Ok(Admitted { answer, caller }) => {
                // Nothing can be read by the peer before the answer is.
                reply.send(Ok(answer));
                let (subscription, came) =
                    switchboard.subscribe(caller.account.clone(), caller.device, outbox);
                // If nobody waits any more, the news end at once.
                let _ = put.send((caller, subscription, came));
            }
        });
        let work = handler::attach(&self.context, &self.transcript, ticket, proof);
        if let Err(error) = self.context.store.write(work, settle).await {
            // The reply went with the work, and says by itself that it was given up.
            tracing::error!(%error, "a request could not be queued");
        }
        if let Ok((caller, subscription, came)) = got.await {
            self.subscription = Some(subscription);
            if came {
                presence::changed(&self.context, caller.account.clone()).await;
            }
            self.bind(caller);
        }
    }

    /// The connection belongs to a device from now on.
    fn bind(&mut self, caller: Caller) {
        self.bound = Some(caller);
        self.frames.set_limit(SESSION_LIMIT);
    }

    /// Ends the news. If no other connection of the account is left, its friends are told.
    async fn unsubscribe(&mut self) {
        let went = self.subscription.take().is_some_and(Subscription::end);
        if went && let Some(caller) = &self.bound {
            presence::changed(&self.context, caller.account.clone()).await;
        }
    }

    async fn log_out(&mut self, ticket: Ticket, reply: Reply) {
        match handler::log_out(&self.context, ticket).await {
            Err(refusal) => reply.send(Err(refusal)),
            Ok(committed) => {
                self.unsubscribe().await;
                self.bound = None;
                reply.send(Ok(committed.answer));
                for news in committed.news {
                    self.context.broker.publish(news);
                }
            }
        }
    }
}

/// Waits until the session of a connection that has news is ended from elsewhere.
async fn news_end(subscription: &Option<Subscription>) {
    match subscription {
        Some(subscription) => subscription.ended().await,
        None => std::future::pending().await,
    }
}

/// Writes what the outbox holds, for ever.
async fn speak(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    mut sealer: Sealer,
) -> Result<(), Ended> {
    loop {
        let mut next = Some(outbox.next().await);
        let mut bytes = Vec::new();
        let mut permits = Vec::new();
        while let Some(item) = next {
            let payload = match item {
                Outgoing::Answer { id, outcome, permit } => {
                    permits.push(permit);
                    sealer.answer(id, &outcome, &mut rng())?
                }
                Outgoing::Push(event) if event.len() > PUSH_BUDGET => {
                    sealer.push(Outbox::catch_up(), &mut rng())?
                }
                Outgoing::Push(event) | Outgoing::CatchUp(event) => sealer.push(&event, &mut rng())?,
            };
            bytes.extend(frame::encode(&payload)?);
            next = if bytes.len() < BATCH { outbox.take() } else { None };
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        timeout(WRITE_LIMIT, written).await.map_err(|_| Ended::Stuck)??;
        // Only now are these requests done with.
        drop(permits);
    }
}

/// Cuts what arrives into payloads.
struct Frames {
    decoder: Decoder,
    buffer: Box<[u8]>,
}

impl Frames {
    fn new(limit: usize) -> Self {
        Self { decoder: Decoder::new(limit), buffer: vec![0; 16 * 1024].into_boxed_slice() }
    }

    fn set_limit(&mut self, limit: usize) {
        self.decoder.set_limit(limit);
    }

    /// The next payload. Nothing is lost if this is dropped before it is done.
    async fn next(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(payload) = self.decoder.next()? {
                return Ok(payload);
            }
            let count = reader.read(&mut self.buffer).await?;
            match self.buffer.get(..count) {
                Some(bytes) if !bytes.is_empty() => self.decoder.extend(bytes),
                _ => return Err(Ended::Closed),
            }
        }
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> Result<(), Ended> {
    stream.write_all(&frame::encode(payload)?).await?;
    Ok(stream.flush().await?)
}

/// Closes so that the last words arrive: a socket that is closed with bytes unread resets the
/// connection, and the peer may lose what it has not read yet.
async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let goodbye = async {
        stream.shutdown().await?;
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    // Whether it succeeds is the peer's affair.
    let _ = timeout(CLOSE_LIMIT, goodbye).await;
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use async_trait::async_trait;
    use mildam_protocol::Event;
    use mildam_protocol::command::{Attach, FriendList, ServerInfo, SessionId};
    use mildam_protocol::session::{ClientSession, Incoming};
    use mildam_protocol::set_up::{ClientKey, ServerKey, client};
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::broker::{Address, Broker, News, Switchboard};
    use crate::clock::Clock;
    use crate::config::Limits;
    use crate::proxy::Proxies;
    use crate::secrets::{SECRET_BYTES, Secrets};
    use crate::store::{Committed, Rejection, Store, StoreError, Work};
    use mildam_protocol::password::ServerKeys;

    /// Nobody looks at its proof: the store does nothing.
    fn attach_command() -> Attach {
        Attach { proof: Signature::from_bytes([0; Signature::LENGTH]) }
    }

    /// A store in which every work waits until the test lets it go.
    struct Held(mpsc::UnboundedSender<Settle>);

    #[async_trait]
    impl Store for Held {
        async fn write(&self, _: Work, settle: Settle) -> Result<(), StoreError> {
            self.0.send(settle).map_err(|_| StoreError::Closed)
        }

        async fn read(&self, _: Work) -> Result<Committed, Rejection> {
            Ok(Committed::default())
        }

        async fn closed(&self) {
            self.0.closed().await;
        }

        async fn close(&self) {}
    }

    fn key() -> &'static ServerKey {
        static KEY: OnceLock<ServerKey> = OnceLock::new();
        KEY.get_or_init(|| ServerKey::generate(&mut rng()).unwrap())
    }

    async fn context() -> (Arc<Context>, mpsc::UnboundedReceiver<Settle>) {
        let (held, released) = mpsc::unbounded_channel();
        let switchboard = Arc::new(Switchboard::default());
        let context = Context {
            name: "test".to_owned(),
            key: key().clone(),
            clock: Clock::system(),
            limits: Arc::new(Limits::default()),
            proxies: Proxies::default(),
            store: Arc::new(Held(held)),
            broker: Arc::clone(&switchboard) as _,
            switchboard,
            passwords: ServerKeys::generate(&mut rng()),
            secrets: Secrets::from_bytes(&[1; SECRET_BYTES]).unwrap(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
        };
        (Arc::new(context), released)
    }

    /// Serves one end of a pipe, with the default limit; gives the other.
    fn serve_one(context: &Arc<Context>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let deadline = Instant::now() + context.limits.set_up;
        tokio::spawn(serve(theirs, None, deadline, Arc::clone(context)));
        ours
    }

    /// What the store makes of Alice's attachment.
    fn attached() -> Committed {
        let answer = mildam_protocol::command::AttachAnswer {
            account: "alice".parse().unwrap(),
            device: mildam_protocol::records::DeviceId::from_bytes([1; 16]),
            nickname: String::new(),
            expires_at: 1,
        };
        Committed { answer: serde_json::to_value(answer).unwrap(), news: Vec::new() }
    }

    async fn set_up_client(stream: &mut DuplexStream, frames: &mut Frames) -> ClientSession {
        let der = key().to_pkcs8().unwrap();
        let state = client::start(key().fingerprint(), ClientKey::danger_from_pkcs8(&der).unwrap(), None);
        let (answer, state) = state.handle(&frames.next(stream).await.unwrap(), &mut rng()).unwrap();
        write_frame(stream, &answer).await.unwrap();
        let (answer, state) = state.handle(&frames.next(stream).await.unwrap(), &mut rng()).unwrap();
        write_frame(stream, &answer).await.unwrap();
        state.handle(&frames.next(stream).await.unwrap()).unwrap().session
    }

    // REQ T3
    #[tokio::test(start_paused = true)]
    async fn ten_seconds_are_the_limit_of_a_set_up() {
        assert_eq!(Limits::default().set_up, Duration::from_secs(10));
        let (context, _held) = context().await;
        let begun = Instant::now();
        let mut stream = serve_one(&context);
        let mut frames = Frames::new(SET_UP_LIMIT);
        frames.next(&mut stream).await.unwrap();
        let last: serde_json::Value =
            serde_json::from_slice(&frames.next(&mut stream).await.unwrap()).unwrap();
        assert_eq!(last["header"]["status"], "fail");
        // On a clock that moves only when everybody waits this is exact.
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert!(matches!(frames.next(&mut stream).await, Err(Ended::Closed)));
    }

    // REQ S2
    #[tokio::test]
    async fn draining_finishes_what_is_in_hand_and_refuses_the_rest() {
        let (context, mut held) = context().await;
        let mut stream = serve_one(&context);
        let mut frames = Frames::new(SESSION_LIMIT);
        let (mut sealer, mut opener) = set_up_client(&mut stream, &mut frames).await.split();
        let session = SessionId::from_bytes([1; 32]);
        let attach = sealer.request(1, Some(&session), &attach_command(), &mut rng()).unwrap();
        write_frame(&mut stream, &attach).await.unwrap();
        let in_hand = held.recv().await.unwrap();

        context.draining.cancel();
        let mut answer = async |stream: &mut DuplexStream| {
            let payload = frames.next(stream).await?;
            match opener.open(&payload).unwrap() {
                Incoming::Answer { id, outcome } => Ok((id, outcome.map_err(|refusal| refusal.code))),
                other => panic!("{other:?}"),
            }
        };
        // The connection waits for the attachment to be settled before it hears anything else.
        for id in [2, 3] {
            let request = sealer.request(id, Some(&session), &FriendList {}, &mut rng()).unwrap();
            write_frame(&mut stream, &request).await.unwrap();
        }
        in_hand(Ok(attached()));
        let (id, outcome) = answer(&mut stream).await.unwrap();
        assert!(id == 1 && outcome.is_ok());
        // Then at most refusals because of the stop, and the end.
        let refused: Vec<_> = [answer(&mut stream).await, answer(&mut stream).await]
            .into_iter()
            .map_while(Result::ok)
            .collect();
        assert!(refused.iter().all(|(_, outcome)| *outcome == Err(Code::Draining)), "{refused:?}");
        assert!(matches!(answer(&mut stream).await, Err(Ended::Closed)));
    }

    // REQ S2
    #[tokio::test]
    async fn while_a_write_is_in_hand_later_requests_hear_that_the_relay_stops() {
        let (context, mut held) = context().await;
        let mut stream = serve_one(&context);
        let mut frames = Frames::new(SESSION_LIMIT);
        let (mut sealer, mut opener) = set_up_client(&mut stream, &mut frames).await.split();
        let session = SessionId::from_bytes([1; 32]);
        let accept = mildam_protocol::command::FriendAccept { account: "bob".parse().unwrap() };
        let request = sealer.request(1, Some(&session), &accept, &mut rng()).unwrap();
        write_frame(&mut stream, &request).await.unwrap();
        let in_hand = held.recv().await.unwrap();
        context.draining.cancel();
        let late = sealer.request(2, None, &ServerInfo {}, &mut rng()).unwrap();
        write_frame(&mut stream, &late).await.unwrap();
        let mut answer = async || match opener.open(&frames.next(&mut stream).await.unwrap()).unwrap() {
            Incoming::Answer { id, outcome } => (id, outcome.map_err(|refusal| refusal.code)),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer().await, (2, Err(Code::Draining)));
        in_hand(Ok(Committed::default()));
        assert_eq!(answer().await, (1, Ok(serde_json::Value::Null)));
        assert!(matches!(frames.next(&mut stream).await, Err(Ended::Closed)));
    }

    // REQ A5, T9
    #[tokio::test]
    async fn what_is_committed_right_after_an_attachment_reaches_it() {
        let (context, mut held) = context().await;
        let mut stream = serve_one(&context);
        let mut frames = Frames::new(SESSION_LIMIT);
        let (mut sealer, mut opener) = set_up_client(&mut stream, &mut frames).await.split();
        let session = SessionId::from_bytes([1; 32]);
        let attach = sealer.request(1, Some(&session), &attach_command(), &mut rng()).unwrap();
        write_frame(&mut stream, &attach).await.unwrap();
        let settle = held.recv().await.unwrap();
        // The store settles one after the other, and nobody else runs in between: here the second
        // took the device off its list.
        settle(Ok(attached()));
        let alice = || vec![Address::all("alice".parse().unwrap())];
        context
            .switchboard
            .publish(News { last: true, ..News::new(alice(), &Event::DeviceRemoved {}).unwrap() });
        context.switchboard.publish(News::new(alice(), &Event::CatchUp {}).unwrap());
        let info = sealer.request(2, None, &ServerInfo {}, &mut rng()).unwrap();
        write_frame(&mut stream, &info).await.unwrap();
        let mut next = async || opener.open(&frames.next(&mut stream).await.unwrap()).unwrap();
        assert!(matches!(next().await, Incoming::Answer { id: 1, outcome: Ok(_) }));
        assert!(matches!(next().await, Incoming::Push(event) if *event == Event::DeviceRemoved {}));
        assert!(matches!(next().await, Incoming::Answer { id: 2, .. }), "nothing comes behind the last");
    }
}

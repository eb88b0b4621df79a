//! One connection: its set-up, then requests in and answers and pushes out, all in one task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mildam_protocol::command::Done;
use mildam_protocol::frame::{self, FrameError, SESSION_LIMIT, SET_UP_LIMIT, UNBOUND_LIMIT};
use mildam_protocol::records::id::Hash;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::session::server::{Opener, Sealer};
use mildam_protocol::session::{IncomingRequest, ServerSession};
use mildam_protocol::set_up::{self, ChannelBinding, Established, SetUpError};
use mildam_protocol::{Code, Refusal, Request, SessionError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::broker::Subscription;
use crate::config::Limits;
use crate::context::{Context, rng};
use crate::frames::{Frames, Pulse, ReadError, transfer_time};
use crate::handler::{self, Admission, Admitted, Approach, Caller, Plan, Ticket, presence};
use crate::limiter::{ConnectionPermit, Flow, Origin, Payer, Verdict};
use crate::outbox::{Outbox, Outgoing, Reply};
use crate::store::Settle;

/// Requests of one connection that may be in hand. Who sends more waits.
const IN_HAND: u32 = 64;
/// Requests that are still answered, with `draining`, while the last ones in hand are finished.
const DRAIN_ANSWERS: u32 = 16;
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
    #[error(transparent)]
    Read(ReadError),
    #[error("output failed: {0}")]
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

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            error => Self::Read(error),
        }
    }
}

/// Serves a connection until one side ends it.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut stream: S,
    binding: ChannelBinding,
    deadline: Instant,
    mut admitted: ConnectionPermit,
    context: Arc<Context>,
) {
    let mut frames = Frames::new(SET_UP_LIMIT);
    let set_up = tokio::select! {
        outcome = timeout_at(deadline, Box::pin(set_up(&mut stream, &mut frames, binding, &context))) => {
            outcome.unwrap_or(Err(Ended::TimedOut))
        }
        () = context.draining.cancelled() => Err(Ended::Draining),
    };
    let reason = match set_up {
        Ok(established) => {
            admitted.set_up_done();
            frames.set_limit(UNBOUND_LIMIT);
            converse(&mut stream, frames, established, &admitted, context).await
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
        Ended::Closed | Ended::Draining | Ended::Read(ReadError::Silent) => {
            tracing::debug!(%reason, "the connection ended")
        }
        reason => tracing::info!(%reason, "the connection ended"),
    }
    close(&mut stream).await;
}

/// What a set-up that fails is told.
fn last_words(reason: &Ended) -> Option<Vec<u8>> {
    match reason {
        Ended::TimedOut => Some(set_up::timed_out()),
        Ended::SetUp(error) => Some(error.refusal()),
        Ended::Read(ReadError::Frame(_)) => Some(SetUpError::Malformed("frame").refusal()),
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
    // RSA takes milliseconds: not on the threads that serve everybody, and not on all others either.
    let turn = Arc::clone(context.limiter.key_work()).acquire_owned().await;
    let key_delivery = tokio::task::spawn_blocking(move || {
        // Held until it is done, also if nobody waits for it any more.
        let _turn = turn;
        state.handle(&answer, &mut rng())
    });
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
    mut frames: Frames,
    established: Established<ServerSession>,
    admitted: &ConnectionPermit,
    context: Arc<Context>,
) -> Ended {
    let (opener, sealer) = established.session.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::new(context.limits.pushes));
    let pulse = Arc::new(Pulse::new());
    let payer = Payer::Address(admitted.origin());
    let limits = Arc::clone(&context.limits);
    frames.watch(&limits, Flow::new(Arc::clone(&context.limiter), payer.clone()), Arc::clone(&pulse));
    let mut conversation = Conversation {
        frames,
        origin: admitted.origin(),
        payer,
        arriving: true,
        opener,
        transcript: established.transcript,
        bound: None,
        subscription: None,
        approach: Approach::default(),
        outbox: Arc::clone(&outbox),
        in_hand: Arc::new(Semaphore::new(IN_HAND as usize)),
        context,
    };
    let reason = tokio::select! {
        reason = conversation.listen(&mut reader) => reason,
        Err(reason) = speak(&mut writer, &outbox, sealer, &limits, &pulse) => reason,
    };
    // If the peer takes nothing any more, listening was not ended in order.
    conversation.unsubscribe().await;
    reason
}

/// The reading half of a connection and all that it knows of its peer.
struct Conversation {
    frames: Frames,
    /// From where the connection comes.
    origin: Origin,
    /// With whose share requests are paid.
    payer: Payer,
    /// Whether nobody has asked yet to attach it.
    arriving: bool,
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
                    self.unbind();
                    continue;
                }
                heard = self.frames.next(reader) => heard,
            };
            let taken = match heard {
                Ok(payload) => self.take(&payload).await,
                Err(error) => Err(error.into()),
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
        let verdict = context.limiter.judge(request.as_ref().ok(), self.origin, &self.payer, self.arriving);
        self.arriving &= !matches!(request, Ok(Request::Attach(_)));
        let plan = match verdict {
            Err(refusal) => Err(refusal),
            Ok(Verdict::Hush) => handler::answer(&Done {}).map(Plan::Answer),
            Ok(Verdict::Go) => request.and_then(|request| handler::plan(request, ticket, now, &context)),
        };
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
            // Boxed: what it needs for a moment would be a part of each connection for ever.
            Ok(Plan::Admit(admission)) => Box::pin(self.admit(admission, reply, now)).await?,
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
        self.pay_by(Payer::Account(caller.account.clone()));
        self.bound = Some(caller);
        self.frames.set_limit(SESSION_LIMIT);
    }

    /// The connection belongs to nobody any more.
    fn unbind(&mut self) {
        self.pay_by(Payer::Address(self.origin));
        self.bound = None;
    }

    fn pay_by(&mut self, payer: Payer) {
        self.frames.set_payer(payer.clone());
        self.payer = payer;
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
                self.unbind();
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
    limits: &Limits,
    pulse: &Pulse,
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
        let time = transfer_time(limits.frame, bytes.len(), limits.frame_bytes_a_second);
        timeout(time, written).await.map_err(|_| Ended::Stuck)??;
        pulse.beat();
        // Only now are these requests done with.
        drop(permits);
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
mod tests;

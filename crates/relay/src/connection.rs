//! One connection: its set-up, then requests in and answers and pushes out, all in one task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mildam_protocol::command::{Done, Kind, LogInStart, REQUEST_LIMIT};
use mildam_protocol::frame::{self, FrameError, SESSION_LIMIT, SET_UP_LIMIT, UNBOUND_LIMIT};
use mildam_protocol::records::id::{DeviceId, Hash};
use mildam_protocol::records::keys::{DevicePublicKey, Signature};
use mildam_protocol::records::login_bytes;
use mildam_protocol::session::server::{Opener, Sealer};
use mildam_protocol::session::{IncomingRequest, ServerSession};
use mildam_protocol::set_up::{self, ChannelBinding, Established, SetUpError};
use mildam_protocol::{Code, Refusal, Request, SessionError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::broker::Subscription;
use crate::context::{Context, rng};
use crate::frames::{Frames, Payload, Pulse, ReadError, transfer_time};
use crate::handler::{self, Admission, Admitted, Approach, Caller, Plan, Ticket, presence};
use crate::limiter::{ConnectionPermit, Origin, Payer, Portion, Toll, Verdict};
use crate::outbox::{Outbox, Outgoing, Place, Reply};
use crate::rules::require;
use crate::store::{self, Settle, Turn};

/// Requests of one connection that may be in hand. Who sends more waits.
const IN_HAND: u32 = 64;
/// For how many requests one counts whose answer may fill a frame.
const LONG_ANSWER: u32 = 32;
/// The text of a request of so many bytes is read where it keeps nobody waiting.
const LONG_TEXT: usize = 256 * 1024;
/// Requests that are still answered, with `draining`, while the last ones in hand are finished.
const DRAIN_ANSWERS: u32 = 16;
/// How long a peer may take what is said to it while the relay stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
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
    (mut admitted, toll): (ConnectionPermit, Arc<Toll>),
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
            context.metrics.set_up_done();
            admitted.set_up_done();
            frames.set_limit(UNBOUND_LIMIT);
            converse(&mut stream, frames, established, (&admitted, toll), context).await
        }
        Err(reason) => {
            context.metrics.set_up_failed();
            if let Some(last_words) = last_words(&reason) {
                // They may not arrive: the peer may be gone.
                let _ = timeout(CLOSE_LIMIT, write_frame(&mut stream, &last_words)).await;
            }
            reason
        }
    };
    match reason {
        Ended::Lost(_) => tracing::error!(%reason, "the connection ended"),
        // Of anybody there can be thousands a second.
        reason => tracing::debug!(%reason, "the connection ended"),
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
    let answer = frames.next(stream).await?.bytes;
    // RSA takes milliseconds: not on the threads that serve everybody, and not on all others either.
    let turn = Arc::clone(context.limiter.key_work()).acquire_owned().await;
    let key_delivery = tokio::task::spawn_blocking(move || {
        // Held until it is done, also if nobody waits for it any more.
        let _turn = turn;
        state.handle(&answer, &mut rng())
    });
    let (delivery, state) = key_delivery.await??;
    write_frame(stream, &delivery).await?;
    let confirmation = frames.next(stream).await?.bytes;
    let (success, established) = state.handle(&confirmation)?;
    write_frame(stream, &success).await?;
    Ok(established)
}

/// Reads and writes side by side. When reading ends, what is in hand is finished and written.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: &mut S,
    mut frames: Frames,
    established: Established<ServerSession>,
    (admitted, toll): (&ConnectionPermit, Arc<Toll>),
    context: Arc<Context>,
) -> Ended {
    let (opener, sealer) = established.session.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::new(context.limits.pushes, Arc::clone(&context.metrics)));
    let pulse = Arc::new(Pulse::new());
    let payer = Payer::Address(admitted.origin());
    let portion = context.limiter.portion(admitted.origin(), &payer);
    frames.watch(Arc::clone(&context.limits), Arc::clone(&toll), portion.clone(), Arc::clone(&pulse));
    let mut conversation = Conversation {
        frames,
        origin: admitted.origin(),
        payer,
        portion,
        toll,
        arriving: true,
        opener,
        transcript: established.transcript,
        bound: None,
        signer: None,
        subscription: None,
        approach: Approach::default(),
        outbox: Arc::clone(&outbox),
        in_hand: Arc::new(Semaphore::new(IN_HAND as usize)),
        spare: Arc::new(Semaphore::new(DRAIN_ANSWERS as usize)),
        context: Arc::clone(&context),
    };
    let reason = tokio::select! {
        reason = conversation.listen(&mut reader) => reason,
        Err(reason) = speak(&mut writer, &outbox, sealer, (&pulse, &context)) => reason,
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
    /// What those who pay may have in hand.
    portion: Portion,
    toll: Arc<Toll>,
    /// Whether nobody has asked yet to attach it.
    arriving: bool,
    opener: Opener,
    transcript: Hash,
    /// To whom the connection belongs.
    bound: Option<Caller>,
    /// The key of that device, once it was needed.
    signer: Option<Box<DevicePublicKey>>,
    subscription: Option<Subscription>,
    approach: Approach,
    outbox: Arc<Outbox>,
    in_hand: Arc<Semaphore>,
    /// Answers to those who ask while the relay stops.
    spare: Arc<Semaphore>,
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
                Ok(payload) => self.take(payload).await,
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
        loop {
            let heard = tokio::select! {
                biased;
                _ = &mut finished => break,
                heard = self.frames.next(reader), if hearing => heard,
            };
            hearing = match heard.map(|payload| self.opener.open(payload.bytes)) {
                Ok(Ok(text)) => IncomingRequest::read(&text).is_ok_and(|request| self.refuse(request.id)),
                _ => false,
            };
        }
        // A closed semaphore cannot be; either way there is nothing left to wait for.
        let _ = self.spare.acquire_many(DRAIN_ANSWERS).await;
    }

    /// Answers that the relay is stopping; false if that was said often enough.
    fn refuse(&self, id: u64) -> bool {
        let permit = Arc::clone(&self.spare).try_acquire_owned();
        permit.is_ok_and(|permit| {
            let reply = Reply::new(id, "draining", Arc::clone(&self.outbox), permit.into());
            reply.send(Err(Refusal::new(Code::Draining, "the relay is stopping: connect again")));
            true
        })
    }

    /// Waits until one more request may be in hand, which counts for so many; none if the relay stops.
    async fn place(&self, weight: u32) -> Option<Place> {
        let place = async {
            let permit = Arc::clone(&self.in_hand).acquire_many_owned(weight).await.ok()?;
            Some(Place { of_payer: Some(self.portion.request(weight).await), ..Place::from(permit) })
        };
        self.context.draining.run_until_cancelled(place).await.flatten()
    }

    /// Takes a request in hand. Whose it is, which command, and whether that may be is known before anything
    /// of what it asks is read.
    async fn take(&mut self, Payload { bytes, hold }: Payload) -> Result<(), Ended> {
        self.context.metrics.received(bytes.len().saturating_add(frame::HEADER));
        let text = self.opener.open(bytes)?;
        let incoming = self.read(text.len(), || IncomingRequest::read(&text)).await?;
        let kind = incoming.kind.as_ref().ok().copied();
        let Some(place) = self.place(kind.map_or(1, weight)).await else {
            self.refuse(incoming.id);
            return Ok(());
        };
        let name = kind.map_or("unreadable", Kind::name);
        let reply = Reply::new(incoming.id, name, Arc::clone(&self.outbox), Place { long: hold, ..place });
        let context = Arc::clone(&self.context);
        let now = context.clock.now();
        let ticket = incoming.session.as_ref().map(|session| Ticket {
            tag: handler::session_tag(session),
            bound: self.bound.clone(),
            now,
        });
        let plan = match self.judge(kind, text.len()) {
            Err(refusal) => Err(refusal),
            Ok(Verdict::Hush) => handler::answer(&Done {}).map(Plan::Answer),
            Ok(Verdict::Go) => match self.read(text.len(), || incoming.request()).await {
                Ok(request) => self.plan(request, ticket, now).await,
                Err(refusal) => Err(refusal),
            },
        };
        drop(text);
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
                let (broker, metrics) = (Arc::clone(&context.broker), Arc::clone(&context.metrics));
                let settle: Settle = Box::new(move |outcome| match outcome {
                    Ok(committed) => {
                        reply.send(Ok(committed.answer));
                        // Nobody is told of one that was stored before.
                        if kind == Some(Kind::MessageSend) && !committed.news.is_empty() {
                            metrics.message_stored();
                        }
                        for news in committed.news {
                            broker.publish(news);
                        }
                    }
                    Err(rejection) => reply.send(Err(handler::refusal(rejection))),
                });
                if let Err(error) = context.store.write(self.turn(), work, settle).await {
                    // The reply went with the work, and says by itself that it was given up.
                    tracing::error!(%error, "a request could not be queued");
                }
            }
            // Boxed: what it needs for a moment would be a part of each connection for ever.
            Ok(Plan::Admit(admission)) => Box::pin(self.admit(admission, reply, now)).await?,
        }
        Ok(())
    }

    /// Reads what a peer has written. What is long is read by few at a time, and not on the threads that
    /// serve everybody.
    async fn read<T>(&self, bytes: usize, read: impl FnOnce() -> T) -> T {
        if bytes <= LONG_TEXT {
            return read();
        }
        // It is never closed.
        let _turn = self.context.limiter.long_reading().acquire().await;
        apart(read)
    }

    /// Says how a request that was read is carried out. What its device has signed is checked before.
    async fn plan(&mut self, request: Request, ticket: Option<Ticket>, now: u64) -> Result<Plan, Refusal> {
        let context = Arc::clone(&self.context);
        let proven = match &request {
            Request::LogInStart(command) => self.proven(command).await?,
            _ => None,
        };
        context.limiter.judge_read(&request, self.origin, &self.payer, proven)?;
        let kind = request.kind();
        if handler::is_signed(kind)
            && let Some(caller) = self.bound.clone()
        {
            let signer = self.signer(caller).await?;
            let check = || handler::check_signatures(&request, &signer);
            // Receipts come by the hundred.
            if kind == Kind::ReceiptSend { apart(check) } else { check() }?;
        }
        let plan = handler::plan(request, ticket, now, &context)?;
        let reads = matches!(plan, Plan::Answer(_) | Plan::Read(_));
        let room = reads || context.space.allows(kind);
        require(room, Code::StorageUnavailable, "there is no room on the relay's disk; try again later")?;
        Ok(plan)
    }

    /// The device of an account that shows that it is the one that begins to log in.
    async fn proven(&self, command: &LogInStart) -> Result<Option<DeviceId>, Refusal> {
        let (Some(device), Some(proof)) = (command.device, &command.proof) else { return Ok(None) };
        let signed = login_bytes(&command.account, &device, &self.transcript);
        let key = self.device_key(Caller { account: command.account.clone(), device }).await?;
        let good = key.is_some_and(|key| key.verify(signed.as_bytes(), proof, "login proof").is_ok());
        Ok(good.then_some(device))
    }

    /// The key of the device that the connection belongs to. No device has ever another one.
    async fn signer(&mut self, caller: Caller) -> Result<DevicePublicKey, Refusal> {
        if let Some(signer) = &self.signer {
            return Ok(**signer);
        }
        let signer = self.device_key(caller).await?.ok_or_else(handler::unlisted)?;
        self.signer = Some(Box::new(signer));
        Ok(signer)
    }

    /// The key of a device, if it stands in its account's list.
    async fn device_key(
        &self,
        Caller { account, device }: Caller,
    ) -> Result<Option<DevicePublicKey>, Refusal> {
        let found = store::load(&*self.context.store, move |tx| {
            Box::pin(async move { Ok(tx.device_key(&account, &device).await?) })
        });
        found.await.map_err(handler::refusal)
    }

    /// Counts a request and says whether it may be read.
    fn judge(&mut self, kind: Option<Kind>, bytes: usize) -> Result<Verdict, Refusal> {
        let verdict = self.context.limiter.judge(kind, self.origin, &self.payer, self.arriving)?;
        self.arriving &= kind != Some(Kind::Attach);
        let limit = kind.map_or(REQUEST_LIMIT, Kind::limit);
        require(bytes <= limit, Code::TooLarge, "a request of this command must be shorter")?;
        Ok(verdict)
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
        if let Err(error) = self.context.store.write(self.turn(), work, settle).await {
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

    /// Whose turn it is when this connection has something to write.
    fn turn(&self) -> Turn {
        match &self.payer {
            Payer::Account(account) => Turn::of_account(account),
            Payer::Address(origin) => Turn::of_stranger(&format!("{origin:?}")),
        }
    }

    /// The connection belongs to a device from now on.
    fn bind(&mut self, caller: Caller) {
        self.context.limiter.knows(self.origin);
        self.toll.set_account(Some(caller.account.clone()));
        self.pay_by(Payer::Account(caller.account.clone()), true);
        self.bound = Some(caller);
        self.signer = None;
        self.frames.set_limit(SESSION_LIMIT);
    }

    /// The connection belongs to nobody any more.
    fn unbind(&mut self) {
        self.toll.set_account(None);
        self.pay_by(Payer::Address(self.origin), false);
        self.bound = None;
        self.frames.set_limit(UNBOUND_LIMIT);
    }

    fn pay_by(&mut self, payer: Payer, known: bool) {
        self.portion = self.context.limiter.portion(self.origin, &payer);
        self.frames.set_portion(self.portion.clone(), known);
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
        match handler::log_out(&self.context, self.turn(), ticket).await {
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

/// Does what takes long not on the threads that serve everybody.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => block_in_place(work),
    }
}

/// For how many requests one counts among those in hand: for many where the answer can be long.
const fn weight(kind: Kind) -> u32 {
    match kind {
        Kind::RoomLog | Kind::RoomList | Kind::GetAccountKeys | Kind::FriendList | Kind::RecoverStart => {
            LONG_ANSWER
        }
        _ => 1,
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
    (pulse, context): (&Pulse, &Context),
) -> Result<(), Ended> {
    let Context { limits, metrics, draining, .. } = context;
    loop {
        let mut next = Some(outbox.next().await);
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        while let Some(item) = next {
            let payload = match item {
                Outgoing::Answer { id, outcome, place } => {
                    places.push(place);
                    sealer.answer(id, &outcome, &mut rng())?
                }
                Outgoing::Push { event, .. } if event.bytes() > PUSH_BUDGET => {
                    sealer.push(Outbox::catch_up(), &mut rng())?
                }
                Outgoing::Push { event, .. } => sealer.push(&event.json(), &mut rng())?,
                Outgoing::CatchUp => sealer.push(Outbox::catch_up(), &mut rng())?,
            };
            bytes.extend(frame::encode(&payload)?);
            next = if bytes.len() < BATCH { outbox.take() } else { None };
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        let time = transfer_time(limits.frame, bytes.len(), limits.frame_bytes_a_second);
        tokio::select! {
            written = timeout(time, written) => written.map_err(|_| Ended::Stuck)??,
            () = patience_ends(draining) => return Err(Ended::Stuck),
        }
        pulse.beat();
        metrics.sent(bytes.len());
        // Only now are these requests done with.
        drop(places);
    }
}

/// Who takes nothing while the relay stops must not hold that up.
async fn patience_ends(draining: &CancellationToken) {
    draining.cancelled().await;
    tokio::time::sleep(DRAIN_PATIENCE).await;
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

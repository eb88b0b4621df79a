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
use crate::limiter::{Limiter, Stopwatch};
use crate::secrets::{SECRET_BYTES, Secrets};
use crate::store::{Committed, Rejection, Store, StoreError, Turn, Work};
use mildam_protocol::password::ServerKeys;

/// Nobody looks at its proof: the store does nothing.
fn attach_command() -> Attach {
    Attach { proof: Signature::from_bytes([0; Signature::LENGTH]) }
}

/// A store in which every work waits until the test lets it go.
struct Held(mpsc::UnboundedSender<Settle>);

#[async_trait]
impl Store for Held {
    async fn write(&self, _: Turn, _: Work, settle: Settle) -> Result<(), StoreError> {
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
    context_with(Limits::default())
}

fn context_with(limits: Limits) -> (Arc<Context>, mpsc::UnboundedReceiver<Settle>) {
    let (held, released) = mpsc::unbounded_channel();
    let switchboard = Arc::new(Switchboard::default());
    let context = Context {
        name: "test".to_owned(),
        sign_up: crate::config::SignUpMode::Open,
        key: key().clone(),
        clock: Clock::system(),
        limiter: Arc::new(Limiter::new(&limits, &Stopwatch::system())),
        proxies: crate::proxy::Proxies::default(),
        limits: Arc::new(limits),
        readiness: crate::http::Readiness::default(),
        metrics: Arc::default(),
        store: Arc::new(Held(held)),
        space: crate::space::Space::new(std::path::Path::new("/"), 0),
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

fn admit(context: &Arc<Context>) -> (ConnectionPermit, Arc<Toll>) {
    let admitted = context.limiter.admit(std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
    let toll = Toll::new(Arc::clone(&context.limiter), Some(admitted.origin()));
    (admitted, toll)
}

/// Serves one end of a pipe, with the default limit; gives the other.
fn serve_one(context: &Arc<Context>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let deadline = Instant::now() + context.limits.set_up;
    let admitted = admit(context);
    tokio::spawn(serve(theirs, None, deadline, admitted, Arc::clone(context)));
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
    Committed { answer: serde_json::to_string(&answer).unwrap(), news: Vec::new() }
}

async fn set_up_client(stream: &mut DuplexStream, frames: &mut Frames) -> ClientSession {
    let der = key().to_pkcs8().unwrap();
    let state = client::start(key().fingerprint(), ClientKey::danger_from_pkcs8(&der).unwrap(), None);
    let (answer, state) = state.handle(&frames.next(stream).await.unwrap().bytes, &mut rng()).unwrap();
    write_frame(stream, &answer).await.unwrap();
    let (answer, state) = state.handle(&frames.next(stream).await.unwrap().bytes, &mut rng()).unwrap();
    write_frame(stream, &answer).await.unwrap();
    state.handle(&frames.next(stream).await.unwrap().bytes).unwrap().session
}

/// Asks for an attachment; gives the session, and what settles it in the store.
async fn attach(
    sealer: &mut mildam_protocol::session::client::Sealer,
    stream: &mut DuplexStream,
    held: &mut mpsc::UnboundedReceiver<Settle>,
) -> (SessionId, Settle) {
    let session = SessionId::from_bytes([1; 32]);
    let attach = sealer.request(1, Some(&session), &attach_command(), &mut rng()).unwrap();
    write_frame(stream, &attach).await.unwrap();
    (session, held.recv().await.unwrap())
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
        serde_json::from_slice(&frames.next(&mut stream).await.unwrap().bytes).unwrap();
    assert_eq!(last["header"]["status"], "fail");
    // On a clock that moves only when everybody waits this is exact.
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(matches!(frames.next(&mut stream).await, Err(ReadError::Closed)));
}

// REQ S2
#[tokio::test]
async fn draining_finishes_what_is_in_hand_and_refuses_the_rest() {
    let (context, mut held) = context().await;
    let mut stream = serve_one(&context);
    let mut frames = Frames::new(SESSION_LIMIT);
    let (mut sealer, mut opener) = set_up_client(&mut stream, &mut frames).await.split();
    let (session, in_hand) = attach(&mut sealer, &mut stream, &mut held).await;

    context.draining.cancel();
    let mut answer = async |stream: &mut DuplexStream| {
        let payload = frames.next(stream).await?.bytes;
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
    let refused: Vec<_> =
        [answer(&mut stream).await, answer(&mut stream).await].into_iter().map_while(Result::ok).collect();
    assert!(refused.iter().all(|(_, outcome)| *outcome == Err(Code::Draining)), "{refused:?}");
    assert!(matches!(answer(&mut stream).await, Err(ReadError::Closed)));
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
    let mut answer = async || match opener.open(&frames.next(&mut stream).await.unwrap().bytes).unwrap() {
        Incoming::Answer { id, outcome } => (id, outcome.map_err(|refusal| refusal.code)),
        other => panic!("{other:?}"),
    };
    assert_eq!(answer().await, (2, Err(Code::Draining)));
    in_hand(Ok(Committed { answer: "null".to_owned(), ..Committed::default() }));
    assert_eq!(answer().await, (1, Ok(serde_json::Value::Null)));
    assert!(matches!(frames.next(&mut stream).await, Err(ReadError::Closed)));
}

// REQ A5, T9
#[tokio::test]
async fn what_is_committed_right_after_an_attachment_reaches_it() {
    let (context, mut held) = context().await;
    let mut stream = serve_one(&context);
    let mut frames = Frames::new(SESSION_LIMIT);
    let (mut sealer, mut opener) = set_up_client(&mut stream, &mut frames).await.split();
    let (_, settle) = attach(&mut sealer, &mut stream, &mut held).await;
    // The store settles one after the other, and nobody else runs in between: here the second
    // took the device off its list.
    settle(Ok(attached()));
    let alice = || vec![Address::all("alice".parse().unwrap())];
    context.switchboard.publish(News { last: true, ..News::new(alice(), &Event::DeviceRemoved {}).unwrap() });
    context.switchboard.publish(News::new(alice(), &Event::CatchUp {}).unwrap());
    let info = sealer.request(2, None, &ServerInfo {}, &mut rng()).unwrap();
    write_frame(&mut stream, &info).await.unwrap();
    let mut next = async || opener.open(&frames.next(&mut stream).await.unwrap().bytes).unwrap();
    assert!(matches!(next().await, Incoming::Answer { id: 1, outcome: Ok(_) }));
    assert!(matches!(next().await, Incoming::Push(event) if *event == Event::DeviceRemoved {}));
    assert!(matches!(next().await, Incoming::Answer { id: 2, .. }), "nothing comes behind the last");
}

/// Serves one end of a pipe that holds so many bytes; gives the other, and the end of serving.
fn serve_pipe(context: &Arc<Context>, capacity: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let deadline = Instant::now() + context.limits.set_up;
    let admitted = admit(context);
    (ours, tokio::spawn(serve(theirs, None, deadline, admitted, Arc::clone(context))))
}

// REQ S5, T9
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_any_more_is_cut_off_and_its_friends_are_told() {
    let (context, mut held) = context().await;
    let (mut stream, served) = serve_pipe(&context, 4_096);
    let mut frames = Frames::new(SESSION_LIMIT);
    let (mut sealer, _) = set_up_client(&mut stream, &mut frames).await.split();
    let (_, settle) = attach(&mut sealer, &mut stream, &mut held).await;
    settle(Ok(attached()));
    let _came = held.recv().await.unwrap();
    frames.next(&mut stream).await.unwrap();
    for id in 2..40 {
        let request = sealer.request(id, None, &ServerInfo {}, &mut rng()).unwrap();
        write_frame(&mut stream, &request).await.unwrap();
    }
    let begun = Instant::now();
    let alice = "alice".parse().unwrap();
    assert!(context.switchboard.is_online(&alice));
    let _went = held.recv().await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert!(!context.switchboard.is_online(&alice));
    served.await.unwrap();
}

// REQ S2, S5
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_while_the_relay_stops_is_cut_off_soon() {
    let (context, _held) = context().await;
    let (mut stream, served) = serve_pipe(&context, 4_096);
    let mut frames = Frames::new(SESSION_LIMIT);
    let (mut sealer, _) = set_up_client(&mut stream, &mut frames).await.split();
    for id in 1..80 {
        let request = sealer.request(id, None, &ServerInfo {}, &mut rng()).unwrap();
        write_frame(&mut stream, &request).await.unwrap();
    }
    let begun = Instant::now();
    context.draining.cancel();
    served.await.unwrap();
    // And the second in which the last words might arrive.
    assert_eq!(begun.elapsed().as_secs(), 6);
}

// REQ S5
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_after_the_set_up_is_closed() {
    let (context, _held) = context().await;
    let (mut stream, _served) = serve_pipe(&context, 1 << 20);
    let mut frames = Frames::new(SESSION_LIMIT);
    set_up_client(&mut stream, &mut frames).await;
    let begun = Instant::now();
    assert!(matches!(frames.next(&mut stream).await, Err(ReadError::Closed)));
    assert_eq!(begun.elapsed().as_secs(), 60);
}

// REQ S5
#[tokio::test(start_paused = true)]
async fn the_rsa_of_set_ups_takes_turns() {
    let (context, _held) = context().await;
    let turns = Arc::clone(context.limiter.key_work());
    let all = u32::try_from(turns.available_permits()).unwrap();
    let taken = turns.acquire_many_owned(all).await.unwrap();
    let (mut stream, _served) = serve_pipe(&context, 1 << 20);
    let mut frames = Frames::new(SESSION_LIMIT);
    let der = key().to_pkcs8().unwrap();
    let state = client::start(key().fingerprint(), ClientKey::danger_from_pkcs8(&der).unwrap(), None);
    let (answer, state) = state.handle(&frames.next(&mut stream).await.unwrap().bytes, &mut rng()).unwrap();
    write_frame(&mut stream, &answer).await.unwrap();
    let early = timeout(Duration::from_secs(5), frames.next(&mut stream)).await;
    assert!(early.is_err(), "nothing is computed out of turn");
    drop(taken);
    state.handle(&frames.next(&mut stream).await.unwrap().bytes, &mut rng()).unwrap();
}

// REQ T1, S5
#[tokio::test]
async fn a_connection_that_is_cut_anywhere_leaves_nothing_behind() {
    let generous = Limits {
        new_connections: crate::limiter::Rate::new(10_000, 1, 1),
        stranger_requests: crate::limiter::Rate::new(10_000, 1, 1),
        ..Limits::default()
    };
    let (context, mut held) = context_with(generous);
    let mut cut = 0;
    loop {
        let (mut stream, served) = serve_pipe(&context, 1 << 20);
        let mut frames = Frames::new(SESSION_LIMIT);
        let (mut sealer, _) = set_up_client(&mut stream, &mut frames).await.split();
        let session = SessionId::from_bytes([1; 32]);
        let payloads = [
            sealer.request(1, None, &ServerInfo {}, &mut rng()).unwrap(),
            sealer.request(2, Some(&session), &FriendList {}, &mut rng()).unwrap(),
        ];
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame::encode(payload).unwrap()).collect();
        stream.write_all(&bytes[..cut.min(bytes.len())]).await.unwrap();
        drop(stream);
        served.await.unwrap();
        context.tasks.close();
        context.tasks.wait().await;
        assert_eq!(Arc::strong_count(&context), 1, "cut after {cut} bytes");
        assert!(held.try_recv().is_err());
        if cut > bytes.len() {
            break;
        }
        cut += 1;
    }
    assert!(context.limiter.nobody_is_here());
}

// REQ S5
#[tokio::test]
async fn a_connection_takes_little_memory() {
    let (context, _held) = context().await;
    let (_ours, theirs) = tokio::io::duplex(64);
    let admitted = admit(&context);
    let served = serve(theirs, None, Instant::now(), admitted, Arc::clone(&context));
    let bytes = size_of_val(&served);
    assert!(bytes < 8 * 1024, "{bytes} bytes for each connection, whatever it does");
}

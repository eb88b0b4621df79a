//! What arrives on a connection, cut into payloads, and how long is waited for it.
//!
//! A connection on which nothing happens holds no buffer: bytes are read into memory of the moment,
//! and only what does not make up a payload yet is kept.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use mildam_protocol::frame::{Decoder, FrameError};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::limiter::{Hold, Portion, Toll};
use crate::limits::Limits;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// Why no payload comes any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the peer closed it")]
    Closed,
    #[error("nothing was said for too long")]
    Silent,
    #[error("a frame took too long to arrive")]
    Slow,
    #[error("input failed: {0}")]
    Io(#[from] io::Error),
    #[error("frame: {0}")]
    Frame(#[from] FrameError),
}

/// When something was last written on a connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Something was written.
    pub(crate) fn beat(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        let since = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.checked_add(since).unwrap_or(self.begun)
    }
}

/// In what time so many bytes must have passed: some time for any, and more for many.
pub(crate) fn transfer_time(any: Duration, bytes: usize, bytes_a_second: u32) -> Duration {
    let seconds = u64::try_from(bytes).unwrap_or(u64::MAX) / u64::from(bytes_a_second.max(1));
    any.saturating_add(Duration::from_secs(seconds))
}

/// How long a client is listened to, and how much is kept of what it says.
struct Watch {
    toll: Arc<Toll>,
    portion: Portion,
    pulse: Arc<Pulse>,
    limits: Arc<Limits>,
    /// How long nobody may say anything.
    silence: Duration,
}

impl Watch {
    /// In what time a frame of so many bytes must be whole.
    fn time_of_frame(&self, bytes: usize) -> Duration {
        transfer_time(self.limits.frame, bytes, self.limits.frame_bytes_a_second)
    }
}

/// What arrived whole.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    /// The place of a long one among those that are kept.
    pub(crate) hold: Option<Hold>,
}

/// Cuts what arrives into payloads.
pub(crate) struct Frames {
    decoder: Decoder,
    /// The place of the long frame that is under way.
    hold: Option<Hold>,
    /// None: the peer may take its time.
    watch: Option<Watch>,
}

impl Frames {
    /// Payloads of at most `limit` bytes, as fast and as slowly as they come.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { decoder: Decoder::new(limit), hold: None, watch: None }
    }

    pub(crate) const fn set_limit(&mut self, limit: usize) {
        self.decoder.set_limit(limit);
    }

    /// From now on the peer must not be too slow, and pays for what is kept of it.
    pub(crate) fn watch(
        &mut self,
        limits: Arc<Limits>,
        toll: Arc<Toll>,
        portion: Portion,
        pulse: Arc<Pulse>,
    ) {
        self.watch = Some(Watch { toll, portion, pulse, silence: limits.stranger_silence, limits });
    }

    /// From now on somebody else pays, who has said who it is or has not.
    pub(crate) fn set_portion(&mut self, portion: Portion, known: bool) {
        if let Some(watch) = &mut self.watch {
            watch.portion = portion;
            watch.silence = if known { watch.limits.silence } else { watch.limits.stranger_silence };
        }
    }

    /// The next payload. Nothing is lost if this is dropped before it is done; time begins anew then.
    pub(crate) async fn next(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<Payload, ReadError> {
        // When the peer was last heard, and when the frame that is under way began.
        let (mut heard, mut begun) = (Instant::now(), Instant::now());
        loop {
            if let Some(bytes) = self.decoder.next()? {
                return Ok(Payload { bytes, hold: self.hold.take() });
            }
            if let (None, Some(watch), Some(bytes)) = (&self.hold, &self.watch, self.decoder.under_way()) {
                // It is not the peer's fault that nobody listens meanwhile.
                let waiting = Instant::now();
                self.hold = watch.portion.long(bytes).await;
                (begun, heard) = (later(begun, waiting.elapsed()), Instant::now());
            }
            let between = self.decoder.under_way().is_none();
            let count = self.read(reader, heard, &mut begun).await?;
            if count == 0 {
                return Err(ReadError::Closed);
            }
            heard = Instant::now();
            if between {
                begun = heard;
            }
        }
    }

    /// Reads some bytes, unless the peer takes too long.
    async fn read(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        mut heard: Instant,
        begun: &mut Instant,
    ) -> Result<usize, ReadError> {
        let Some(watch) = &self.watch else {
            return Ok(fill(reader, &mut self.decoder).await?);
        };
        let frame = self.decoder.under_way().map(|bytes| watch.time_of_frame(bytes));
        let mut held_up = watch.toll.held_up();
        loop {
            let whole = frame.map(|time| later(*begun, time));
            // A client asks only whether a silent relay is there: whoever is told much may say nothing.
            let silent = later(heard.max(watch.pulse.last()), watch.silence);
            let deadline = whole.map_or(silent, |whole| whole.min(silent));
            let outcome = timeout_at(deadline, fill(reader, &mut self.decoder)).await;
            let since = watch.toll.held_up();
            let meanwhile = since.saturating_sub(held_up);
            (held_up, *begun, heard) = (since, later(*begun, meanwhile), later(heard, meanwhile));
            if let Ok(count) = outcome {
                return Ok(count?);
            }
            if frame.is_some_and(|time| later(*begun, time) <= deadline) {
                return Err(ReadError::Slow);
            }
            if later(heard.max(watch.pulse.last()), watch.silence) <= deadline {
                return Err(ReadError::Silent);
            }
        }
    }
}

/// Some time later; a time that is too long is not waited for.
fn later(when: Instant, time: Duration) -> Instant {
    when.checked_add(time).unwrap_or(when)
}

/// Takes what there is. The memory that it is read into is not kept.
async fn fill(reader: &mut (impl AsyncRead + Unpin), decoder: &mut Decoder) -> io::Result<usize> {
    poll_fn(|context| {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut *reader).poll_read(context, &mut chunk))?;
        decoder.extend(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use mildam_protocol::frame::{self, SESSION_LIMIT, SET_UP_LIMIT};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::limiter::{Limiter, Metered, Origin, Payer, Stopwatch};

    const ADDRESS: Origin = Origin::V4([192, 0, 2, 1]);

    /// Frames that are watched with the default limits, the other end, and what is written on this one.
    fn watched(payer: Payer) -> (Frames, Arc<Pulse>, Metered<DuplexStream>, DuplexStream) {
        let limits = Arc::new(Limits::default());
        let limiter = Arc::new(Limiter::new(&limits, &Stopwatch::system()));
        let (mut frames, pulse) = (Frames::new(SESSION_LIMIT), Arc::new(Pulse::new()));
        let toll = Toll::new(Arc::clone(&limiter), Some(ADDRESS));
        let portion = limiter.portion(ADDRESS, &payer);
        frames.watch(limits, Arc::clone(&toll), portion.clone(), Arc::clone(&pulse));
        if let Payer::Account(account) = payer {
            toll.set_account(Some(account));
            frames.set_portion(portion, true);
        }
        let (ours, theirs) = duplex(1 << 24);
        (frames, pulse, Metered::new(ours, toll), theirs)
    }

    fn account() -> Payer {
        Payer::Account("alice".parse().unwrap())
    }

    // REQ T1
    #[tokio::test]
    async fn frames_that_are_cut_anywhere_come_whole() {
        let payloads = [vec![1; 3], vec![2; 70_000], vec![3], vec![4; 40_000]];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame::encode(payload).unwrap()).collect();
        for piece in [1, 3, 5, 4_096, CHUNK - 1, CHUNK, CHUNK + 1, stream.len()] {
            let (mut frames, (mut ours, mut theirs)) = (Frames::new(SESSION_LIMIT), duplex(piece));
            let sent = stream.clone();
            tokio::spawn(async move { theirs.write_all(&sent).await.unwrap() });
            for payload in &payloads {
                assert_eq!(frames.next(&mut ours).await.unwrap().bytes, *payload, "in pieces of {piece}");
            }
            assert!(matches!(frames.next(&mut ours).await, Err(ReadError::Closed)));
        }
    }

    // REQ T1
    #[tokio::test]
    async fn a_length_is_judged_before_its_payload_arrives() {
        for (length, limit) in [(0, SESSION_LIMIT), (SET_UP_LIMIT + 1, SET_UP_LIMIT)] {
            let (mut frames, (mut ours, mut theirs)) = (Frames::new(limit), duplex(64));
            theirs.write_all(&u32::try_from(length).unwrap().to_be_bytes()).await.unwrap();
            assert!(matches!(frames.next(&mut ours).await, Err(ReadError::Frame(_))), "{length}");
        }
    }

    // REQ S5
    #[tokio::test]
    async fn nothing_is_kept_between_frames_and_little_for_one_that_is_announced() {
        let (mut frames, (mut ours, mut theirs)) = (Frames::new(SESSION_LIMIT), duplex(1 << 24));
        theirs.write_all(&frame::encode(&vec![7; SESSION_LIMIT]).unwrap()).await.unwrap();
        assert_eq!(frames.next(&mut ours).await.unwrap().bytes.len(), SESSION_LIMIT);
        assert_eq!(frames.decoder.memory(), 0);
        let announced = u32::try_from(SESSION_LIMIT).unwrap().to_be_bytes();
        theirs.write_all(&announced).await.unwrap();
        drop(theirs);
        assert!(matches!(frames.next(&mut ours).await, Err(ReadError::Closed)));
        assert!(frames.decoder.memory() <= 64, "{}", frames.decoder.memory());
    }

    // On a clock that moves only when everybody waits, these times are exact. REQ S5
    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_after_90_seconds_and_before_log_in_after_60() {
        for (payer, expected) in [(account(), 90), (Payer::Address(ADDRESS), 60)] {
            let (mut frames, _pulse, mut ours, mut theirs) = watched(payer);
            let begun = Instant::now();
            let speak = async {
                sleep(Duration::from_secs(50)).await;
                theirs.write_all(&frame::encode(b"ping").unwrap()).await.unwrap();
            };
            let (heard, ()) = tokio::join!(frames.next(&mut ours), speak);
            heard.unwrap();
            assert!(matches!(frames.next(&mut ours).await, Err(ReadError::Silent)));
            assert_eq!(begun.elapsed().as_secs(), 50 + expected);
        }
    }

    // REQ S5, T9
    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_something_need_not_say_anything() {
        let (mut frames, pulse, mut ours, _theirs) = watched(account());
        let begun = Instant::now();
        // Clients ask after 15 seconds without a word of the relay, so not in these five minutes.
        let speak = async {
            for _ in 0..30 {
                sleep(Duration::from_secs(10)).await;
                pulse.beat();
            }
        };
        let (heard, ()) = tokio::join!(frames.next(&mut ours), speak);
        assert!(matches!(heard, Err(ReadError::Silent)));
        assert_eq!(begun.elapsed().as_secs(), 300 + 90);
    }

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_dribbles_in_is_given_up_when_its_time_is_over() {
        // Without its whole length, of no length to speak of, and of the longest.
        for (announced, expected) in [(&[0, 0][..], 30), (&[0, 0, 0, 9], 30), (&[0, 128, 0, 0], 30 + 512)] {
            let (mut frames, pulse, mut ours, mut theirs) = watched(account());
            let dribble = async {
                // Time begins with the first byte.
                sleep(Duration::from_secs(40)).await;
                let begun = Instant::now();
                theirs.write_all(announced).await.unwrap();
                while begun.elapsed() < Duration::from_secs(expected - 1) {
                    sleep(Duration::from_secs(8)).await;
                    pulse.beat();
                    if announced.len() > 4 || expected > 30 {
                        theirs.write_all(&[0]).await.unwrap();
                    }
                }
                begun
            };
            let (heard, begun) =
                tokio::join!(async { (frames.next(&mut ours).await, Instant::now()) }, dribble);
            assert!(matches!(heard.0, Err(ReadError::Slow)), "{announced:?}");
            assert_eq!(heard.1.duration_since(begun).as_secs(), expected);
        }
    }

    // REQ S5
    #[tokio::test(start_paused = true)]
    async fn who_sends_too_fast_is_read_more_slowly_and_not_given_up() {
        let (mut frames, _pulse, mut ours, mut theirs) = watched(account());
        let begun = Instant::now();
        // 24 MiB: 4 at once, then 1 a second.
        let frame = frame::encode(&vec![7; SESSION_LIMIT]).unwrap();
        let send = async {
            for _ in 0..3 {
                theirs.write_all(&frame).await.unwrap();
            }
        };
        let hear = async {
            for _ in 0..3 {
                frames.next(&mut ours).await.unwrap();
            }
        };
        tokio::join!(hear, send);
        let seconds = begun.elapsed().as_secs();
        assert!((19..=20).contains(&seconds), "{seconds}");
    }
}

//! What waits to be written to one connection.
//!
//! Answers are never dropped: they are bounded by the places that their requests hold. Pushes are bounded by
//! the outbox, in number and in bytes, and so are those of all outboxes together: when a reader is too slow,
//! those that wait give way to one [`Event::CatchUp`], and as long as that waits, further pushes are covered
//! by it.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mildam_protocol::{Code, Event, Refusal};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::broker::EventText;
use crate::limiter::Hold;
use crate::metrics::Metrics;

static CATCH_UP: LazyLock<String> = LazyLock::new(|| Event::CatchUp {}.to_json());

/// Things that wait together now and then on any connection.
const FEW: usize = 4;
/// Bytes of pushes that may wait on one connection.
const MOST_BYTES: usize = 1024 * 1024;
/// Bytes of pushes that may wait on all together.
const MOST_BYTES_OF_ALL: usize = 32 * 1024 * 1024;

/// Something to write.
#[derive(Debug)]
pub enum Outgoing {
    /// An answer. Its request holds a permit until it is written.
    Answer {
        /// The request's id.
        id: u64,
        /// What came of it.
        outcome: Result<String, Refusal>,
        /// The request's place among those in hand.
        place: Place,
    },
    /// An event as JSON.
    Push {
        /// The text, which others may wait to hear, too.
        event: EventText,
        /// For how many bytes it counts among those that wait on all connections.
        share: usize,
    },
    /// The event that stands for all that were dropped.
    CatchUp,
}

/// A request's place among those in hand. Dropping it frees the place.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub struct Place {
    /// Among those of its connection.
    pub(crate) of_connection: OwnedSemaphorePermit,
    /// Among those of whom it is from.
    pub(crate) of_payer: Option<Hold>,
    /// Among the long ones.
    pub(crate) long: Option<Hold>,
}

impl From<OwnedSemaphorePermit> for Place {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { of_connection: permit, of_payer: None, long: None }
    }
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    most_pushes: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Outgoing>,
    pushes: usize,
    /// Of the pushes, and the part of them that counts among those of all.
    bytes: usize,
    share: usize,
    catching_up: bool,
}

impl Outbox {
    /// An empty outbox in which at most so many pushes wait.
    #[must_use]
    pub(crate) fn new(most_pushes: usize, metrics: Arc<Metrics>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), most_pushes, metrics }
    }

    /// The event that stands for all that were dropped, as JSON.
    #[must_use]
    pub fn catch_up() -> &'static str {
        &CATCH_UP
    }

    /// Queues a push, or what stands for it.
    pub fn push(&self, event: EventText) {
        let mut queue = self.queue();
        if queue.catching_up {
            self.metrics.pushes_dropped(1);
            return;
        }
        let share = event.share();
        let of_all = self.metrics.push_waits(share);
        queue.pushes = queue.pushes.saturating_add(1);
        queue.bytes = queue.bytes.saturating_add(event.bytes());
        queue.share = queue.share.saturating_add(share);
        if queue.pushes <= self.most_pushes && queue.bytes <= MOST_BYTES && of_all <= MOST_BYTES_OF_ALL {
            queue.items.push_back(Outgoing::Push { event, share });
        } else {
            queue.items.retain(|item| matches!(item, Outgoing::Answer { .. }));
            self.metrics.push_gone(queue.share);
            self.metrics.pushes_dropped(queue.pushes);
            (queue.pushes, queue.bytes, queue.share) = (0, 0, 0);
            queue.catching_up = true;
            queue.items.push_back(Outgoing::CatchUp);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// The next thing to write, if there is one.
    pub fn take(&self) -> Option<Outgoing> {
        let mut queue = self.queue();
        let item = queue.items.pop_front()?;
        match &item {
            Outgoing::Push { event, share } => {
                self.metrics.push_gone(*share);
                queue.pushes = queue.pushes.saturating_sub(1);
                queue.bytes = queue.bytes.saturating_sub(event.bytes());
                queue.share = queue.share.saturating_sub(*share);
            }
            Outgoing::CatchUp => queue.catching_up = false,
            Outgoing::Answer { .. } => (),
        }
        if queue.items.is_empty() {
            // An idle connection keeps no memory of busier days.
            queue.items.shrink_to(FEW);
        }
        Some(item)
    }

    /// Waits for the next thing to write.
    pub async fn next(&self) -> Outgoing {
        loop {
            // A notification that comes between the two lines is kept for the second.
            if let Some(item) = self.take() {
                return item;
            }
            self.filled.notified().await;
        }
    }

    fn answer(&self, answer: Outgoing) {
        self.queue().items.push_back(answer);
        self.filled.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that happens under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.metrics.push_gone(self.queue().share);
    }
}

/// The duty to answer one request. Whoever drops it unanswered has failed, and the client is told
/// so.
#[derive(Debug)]
pub struct Reply {
    id: u64,
    command: &'static str,
    span: tracing::Span,
    outbox: Arc<Outbox>,
    place: Option<Place>,
}

impl Reply {
    /// The duty to answer request `id`. The command's name is for the log, as is the span in which
    /// this is called.
    #[must_use]
    pub fn new(id: u64, command: &'static str, outbox: Arc<Outbox>, place: Place) -> Self {
        Self { id, command, span: tracing::Span::current(), outbox, place: Some(place) }
    }

    /// Answers, with `data` as JSON.
    pub fn send(mut self, outcome: Result<String, Refusal>) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Result<String, Refusal>) {
        if let Err(Refusal { code, message, .. }) = &outcome {
            let command = self.command;
            // Who is refused once is refused often: the log must not be filled by anybody.
            self.span.in_scope(|| tracing::debug!(command, %code, reason = message, "a request was refused"));
        }
        if let Some(place) = self.place.take() {
            self.outbox.metrics.request_done(outcome.as_ref().map(drop).map_err(|refusal| refusal.code));
            self.outbox.answer(Outgoing::Answer { id: self.id, outcome, place });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.place.is_some() {
            tracing::error!("a request was given up without an answer");
            self.put(Err(Refusal::new(Code::Internal, "the relay could not finish this; try again")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    fn drain(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.take())
            .map(|item| match item {
                Outgoing::Answer { id, outcome, .. } => match outcome {
                    Ok(_) => format!("answer {id}"),
                    Err(refusal) => format!("{} {id}", refusal.code),
                },
                Outgoing::Push { event, .. } => event.json().into_owned(),
                Outgoing::CatchUp => "catch up".to_owned(),
            })
            .collect()
    }

    fn reply(outbox: &Arc<Outbox>, id: u64) -> Reply {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Reply::new(id, "test", Arc::clone(outbox), permit.into())
    }

    fn text(text: &str) -> EventText {
        EventText::new(text.into())
    }

    fn outbox_of(most_pushes: usize) -> Outbox {
        Outbox::new(most_pushes, Arc::default())
    }

    // REQ T9, S5
    #[test]
    fn pushes_that_wait_are_bounded_in_bytes() {
        let metrics = Arc::new(Metrics::default());
        let outboxes: Vec<_> = (0..40).map(|_| Outbox::new(256, Arc::clone(&metrics))).collect();
        let push = |outbox: &Outbox| outbox.push(text(&"x".repeat(MOST_BYTES / 2)));
        for outbox in &outboxes {
            push(outbox);
            push(outbox);
        }
        assert_eq!(metrics.push_waits(0), MOST_BYTES_OF_ALL);
        // One more than fits one connection, and one more than fits all.
        assert_eq!(drain(&outboxes[39]), ["catch up"]);
        push(&outboxes[0]);
        assert_eq!(drain(&outboxes[0]), ["catch up"]);
        assert_eq!(drain(&outboxes[1]).len(), 2);
        drop(outboxes);
        assert_eq!(metrics.push_waits(0), 0);
        // One text that many wait for is kept once.
        let outboxes: Vec<_> = (0..40).map(|_| Outbox::new(256, Arc::clone(&metrics))).collect();
        let long = text(&"x".repeat(MOST_BYTES));
        for outbox in &outboxes {
            outbox.push(long.clone());
        }
        assert!(outboxes.iter().all(|outbox| drain(outbox) == [long.json()]));
    }

    // REQ T9
    #[test]
    fn overflow_drops_pushes_but_never_answers() {
        let outbox = Arc::new(outbox_of(2));
        outbox.push(text("a"));
        reply(&outbox, 1).send(Ok("null".to_owned()));
        outbox.push(text("b"));
        outbox.push(text("c"));
        outbox.push(text("d"));
        reply(&outbox, 2).send(Ok("null".to_owned()));
        assert_eq!(drain(&outbox), ["answer 1", "catch up", "answer 2"]);
        outbox.push(text("e"));
        assert_eq!(drain(&outbox), ["e"]);
    }

    // REQ S5
    #[test]
    fn what_a_busy_time_needed_is_given_back() {
        let outbox = outbox_of(256);
        for _ in 0..200 {
            outbox.push(text("a"));
        }
        assert_eq!(drain(&outbox).len(), 200);
        assert!(outbox.queue().items.capacity() < 16);
    }

    #[test]
    fn a_reply_that_is_dropped_still_answers() {
        let outbox = Arc::new(outbox_of(2));
        drop(reply(&outbox, 7));
        assert_eq!(drain(&outbox), ["internal 7"]);
    }

    #[test]
    fn catch_up_is_a_readable_event() {
        let event: Event = serde_json::from_str(&CATCH_UP).unwrap();
        assert_eq!(event, Event::CatchUp {});
    }
}

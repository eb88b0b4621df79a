//! What waits to be written to one connection.
//!
//! Answers are never dropped: their number is bounded by the permits that their requests hold.
//! Pushes are bounded by the outbox: when a reader is too slow, those that wait give way to one
//! [`Event::CatchUp`], and as long as that waits, further pushes are covered by it.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use mildam_protocol::{Code, Event, Refusal};
use tokio::sync::{Notify, OwnedSemaphorePermit};

static CATCH_UP: LazyLock<Arc<str>> =
    LazyLock::new(|| serde_json::to_string(&Event::CatchUp {}).unwrap_or_default().into());

/// Things that wait together now and then on any connection.
const FEW: usize = 4;

/// Something to write.
#[derive(Debug)]
pub enum Outgoing {
    /// An answer. Its request holds a permit until it is written.
    Answer {
        /// The request's id.
        id: u64,
        /// What came of it.
        outcome: Result<serde_json::Value, Refusal>,
        /// The request's place among those in hand.
        permit: OwnedSemaphorePermit,
    },
    /// An event as JSON.
    Push(Arc<str>),
    /// The event that stands for all that were dropped.
    CatchUp(Arc<str>),
}

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    most_pushes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Outgoing>,
    pushes: usize,
    catching_up: bool,
}

impl Outbox {
    /// An empty outbox in which at most so many pushes wait.
    #[must_use]
    pub fn new(most_pushes: usize) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), most_pushes }
    }

    /// The event that stands for all that were dropped, as JSON.
    #[must_use]
    pub fn catch_up() -> &'static str {
        &CATCH_UP
    }

    /// Queues a push, or what stands for it.
    pub fn push(&self, event: Arc<str>) {
        let mut queue = self.queue();
        if queue.catching_up {
            return;
        }
        if queue.pushes < self.most_pushes {
            queue.pushes += 1;
            queue.items.push_back(Outgoing::Push(event));
        } else {
            queue.items.retain(|item| matches!(item, Outgoing::Answer { .. }));
            queue.pushes = 0;
            queue.catching_up = true;
            queue.items.push_back(Outgoing::CatchUp(Arc::clone(&CATCH_UP)));
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// The next thing to write, if there is one.
    pub fn take(&self) -> Option<Outgoing> {
        let mut queue = self.queue();
        let item = queue.items.pop_front()?;
        match item {
            Outgoing::Push(_) => queue.pushes = queue.pushes.saturating_sub(1),
            Outgoing::CatchUp(_) => queue.catching_up = false,
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

/// The duty to answer one request. Whoever drops it unanswered has failed, and the client is told
/// so.
#[derive(Debug)]
pub struct Reply {
    id: u64,
    command: &'static str,
    span: tracing::Span,
    outbox: Arc<Outbox>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Reply {
    /// The duty to answer request `id`. The command's name is for the log, as is the span in which
    /// this is called.
    #[must_use]
    pub fn new(id: u64, command: &'static str, outbox: Arc<Outbox>, permit: OwnedSemaphorePermit) -> Self {
        Self { id, command, span: tracing::Span::current(), outbox, permit: Some(permit) }
    }

    /// Answers.
    pub fn send(mut self, outcome: Result<serde_json::Value, Refusal>) {
        self.put(outcome);
    }

    fn put(&mut self, outcome: Result<serde_json::Value, Refusal>) {
        if let Err(Refusal { code, message, .. }) = &outcome {
            let command = self.command;
            self.span.in_scope(|| tracing::info!(command, %code, reason = message, "a request was refused"));
        }
        if let Some(permit) = self.permit.take() {
            self.outbox.answer(Outgoing::Answer { id: self.id, outcome, permit });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.permit.is_some() {
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
                Outgoing::Push(text) => text.to_string(),
                Outgoing::CatchUp(_) => "catch up".to_owned(),
            })
            .collect()
    }

    fn reply(outbox: &Arc<Outbox>, id: u64) -> Reply {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Reply::new(id, "test", Arc::clone(outbox), permit)
    }

    // REQ T9
    #[test]
    fn overflow_drops_pushes_but_never_answers() {
        let outbox = Arc::new(Outbox::new(2));
        outbox.push("a".into());
        reply(&outbox, 1).send(Ok(().into()));
        outbox.push("b".into());
        outbox.push("c".into());
        outbox.push("d".into());
        reply(&outbox, 2).send(Ok(().into()));
        assert_eq!(drain(&outbox), ["answer 1", "catch up", "answer 2"]);
        outbox.push("e".into());
        assert_eq!(drain(&outbox), ["e"]);
    }

    // REQ S5
    #[test]
    fn what_a_busy_time_needed_is_given_back() {
        let outbox = Outbox::new(256);
        for _ in 0..200 {
            outbox.push("a".into());
        }
        assert_eq!(drain(&outbox).len(), 200);
        assert!(outbox.queue().items.capacity() < 16);
    }

    #[test]
    fn a_reply_that_is_dropped_still_answers() {
        let outbox = Arc::new(Outbox::new(2));
        drop(reply(&outbox, 7));
        assert_eq!(drain(&outbox), ["internal 7"]);
    }

    #[test]
    fn catch_up_is_a_readable_event() {
        let event: Event = serde_json::from_str(&CATCH_UP).unwrap();
        assert_eq!(event, Event::CatchUp {});
    }
}

//! A vault that cannot be written, because the disk is full or fails, until it can be again.

use std::time::Duration;

use mildam_vault::Changes;
use tokio::time::Instant;

use super::Engine;
use super::put_off::Step;
use super::retry::Retry;
use crate::error::Error;

/// After so long it is tried whether the vault can be written again.
const FIRST: Duration = Duration::from_secs(2);
/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// When it is tried again.
pub(super) const fn reopening() -> Retry {
    Retry::new(FIRST, LONGEST)
}

impl Engine {
    /// Nothing is begun that would end in a write, as long as writes fail: others would be told of what
    /// this device does not know afterwards.
    pub(super) fn check_storage(&self) -> Result<(), Error> {
        self.fault.borrow().clone().map_or(Ok(()), Err)
    }

    /// A write has failed: the person is told, and it is tried again later.
    pub(super) async fn on_fault(&mut self) {
        let fault = self.fault.borrow_and_update().clone();
        if let Some(error) = &fault
            && !self.reopening.is_set()
        {
            tracing::error!(code = error.code(), "nothing can be stored at the moment");
            self.reopening.later(Instant::now());
        }
        self.tell_fault(fault).await;
    }

    async fn tell_fault(&self, fault: Option<Error>) {
        let code = fault.map(|error| error.code().to_owned());
        let known = self.standing.send_if_modified(|standing| {
            let new = standing.storage_fault != code;
            standing.storage_fault.clone_from(&code);
            new
        });
        if known {
            self.tell_state().await;
        }
    }

    /// Tries it when it is time, and later each time.
    pub(super) async fn reopen_later(&mut self) {
        self.reopening.later(Instant::now());
        self.reopen().await;
    }

    /// Tries whether the vault can be written again. Then everything goes on from what lies in it.
    pub(super) async fn reopen(&mut self) {
        if let Err(error) = self.store.reopen().await {
            tracing::info!(code = error.code(), "still nothing can be stored");
            return;
        }
        tracing::info!("everything can be stored again");
        self.reopening.reset();
        self.load_anew().await;
        if let Err(error) = self.drop_unwritten().await {
            tracing::error!(code = error.code(), "the outbox was not tidied");
            return;
        }
        self.fault.mark_unchanged();
        self.tell_fault(None).await;
        // What came meanwhile was not taken.
        if self.wire.is_some()
            && let Err(error) = self.attach().await
        {
            tracing::info!(code = error.code(), "not attached");
            self.put_off.note(&error, Step::Attach, Instant::now());
        }
    }

    /// Whoever wrote a message was told that it is not written, and may have written it again.
    async fn drop_unwritten(&mut self) -> Result<(), Error> {
        let unwritten = self.store.take_unwritten();
        if unwritten.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::new();
        for (room, id) in &unwritten {
            changes.remove_outbox(room, id);
        }
        let dropped = self.commit(changes).await;
        if dropped.is_err() {
            unwritten.into_iter().for_each(|(room, id)| self.store.note_unwritten(room, id));
        }
        dropped
    }
}

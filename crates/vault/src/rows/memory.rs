//! Rows in memory, for tests of what is built on the vault.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock};

use super::{Batch, Direction, KeyRange, Rows, Visit};
use crate::error::VaultError;

#[derive(Default)]
pub(crate) struct MemoryRows(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        if range.from >= range.to {
            return Ok(());
        }
        // A copy, so that the visitor may read other rows.
        let found: Vec<_> = {
            let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
            rows.range(range.from.clone()..range.to.clone())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let each = |(key, value): (Vec<u8>, Vec<u8>)| match visit(&key, &value) {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => ControlFlow::Break(Ok(())),
            Err(error) => ControlFlow::Break(Err(error)),
        };
        let end = match direction {
            Direction::Up => found.into_iter().try_for_each(each),
            Direction::Down => found.into_iter().rev().try_for_each(each),
        };
        end.break_value().unwrap_or(Ok(()))
    }

    fn apply(&self, batch: Batch) -> Result<(), VaultError> {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), VaultError> {
        Ok(())
    }
}

//! Sums over all rows, by which missing and outdated rows are noticed.
//!
//! sled protects each record of its log by a checksum, but when it recovers it takes a damaged
//! record in an older segment for that segment's end and goes on without a word: rows in it are
//! gone, or an older version of them is back, sealed and authentic. No single row can show that.
//! So the head row carries, for two groups of rows, the exclusive or of
//! `HMAC-SHA-256(index key, T("mildam/vault-row-sum/v1", key, value))` over all rows of the group
//! as they lie in the store; a commit takes out what it replaces and puts in what it writes.
//!
//! The group [`Sums::state`] is small, and checked whenever the vault is opened: an old chain must
//! never be used again. The group [`Sums::history`] grows with the messages and is checked by
//! [`Vault::verify`](crate::Vault::verify).

use mildam_records::{Canonical, Hash};

use crate::fields::Fields;
use crate::rows::KeyRange;
use crate::table::{IndexKey, Table};

/// The sums of both groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) state: Hash,
    pub(crate) history: Hash,
}

impl Sums {
    /// Of no rows.
    pub(crate) const EMPTY: Self = Self { state: Hash::ZERO, history: Hash::ZERO };

    /// Puts a row in, or takes it out: both are the same.
    pub(crate) fn toggle(&mut self, index: &IndexKey, key: &[u8], value: &[u8]) {
        let sum = match Group::of(key) {
            Group::Head => return,
            Group::State => &mut self.state,
            Group::History => &mut self.history,
        };
        let mut bytes = *sum.as_bytes();
        for (to, from) in bytes.iter_mut().zip(index.row_sum(key, value)) {
            *to ^= from;
        }
        *sum = Hash::from_bytes(bytes);
    }

    pub(crate) fn append_to(&self, row: Canonical) -> Canonical {
        row.bytes(self.state.as_bytes()).bytes(self.history.as_bytes())
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { state: Hash::from_slice(fields.bytes()?)?, history: Hash::from_slice(fields.bytes()?)? })
    }
}

/// Where the rows lie that are summed in [`Sums::state`].
pub(crate) fn state_ranges() -> impl Iterator<Item = KeyRange> {
    let pieces = STATE_TABLES.iter().map(|table| KeyRange::prefix(&[Table::Piece as u8, *table]));
    STATE_TABLES.iter().map(|table| KeyRange::prefix(&[*table])).chain(pieces)
}

enum Group {
    /// The head row carries the sums and is in neither.
    Head,
    State,
    History,
}

impl Group {
    /// A piece belongs to where its row belongs.
    fn of(key: &[u8]) -> Self {
        const HEAD: u8 = Table::Head as u8;
        const PIECE: u8 = Table::Piece as u8;
        match key {
            [HEAD, ..] => Self::Head,
            [PIECE, table, ..] | [table, ..] if STATE_TABLES.contains(table) => Self::State,
            _ => Self::History,
        }
    }
}

/// Codes of the tables whose rows are summed in [`Sums::state`].
const STATE_TABLES: [u8; 7] = [
    Table::Slot as u8,
    Table::Account as u8,
    Table::RoomName as u8,
    Table::RoomMeta as u8,
    Table::RoomState as u8,
    Table::Bucket as u8,
    Table::Outbox as u8,
];

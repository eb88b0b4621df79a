//! What the vault keeps in memory of its rows: numbers of rooms, keys of buckets, the order of
//! the outbox. It is read when the vault is opened and changes with each commit.

use std::collections::BTreeMap;

use mildam_records::{Canonical, ClientMessageId, RoomId};
use zeroize::Zeroizing;

use crate::fields::Fields;
use crate::row::Secret;
use crate::seal::{Key, SealingKey, key_from};
use crate::table::{BucketNumber, RoomNumber};

/// A span of 30 days, counted from 1970: the "month" of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(u16);

impl Period {
    const MILLISECONDS: u64 = 30 * 24 * 60 * 60 * 1000;
    /// About 2020 to 2120. Times are the senders' word: without bounds a hostile one could make a
    /// bucket with every message.
    const FIRST: u64 = 608;
    const LAST: u64 = 1826;

    pub(crate) fn of(sent_at: u64) -> Self {
        let period = (sent_at / Self::MILLISECONDS).clamp(Self::FIRST, Self::LAST);
        Self(u16::try_from(period).unwrap_or(u16::MAX))
    }
}

/// What has become of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its rows are all that its key ever sealed.
    Whole = 0,
    /// Its key also opens a row that was removed or replaced: it is to be emptied.
    LostRows = 1,
    /// It is being emptied: another bucket stands for its room and period.
    Retired = 2,
}

/// The messages of one room in one period, and the key that seals them.
pub(crate) struct Bucket {
    pub(crate) room: RoomNumber,
    pub(crate) period: Period,
    pub(crate) condition: Condition,
    pub(crate) key: SealingKey,
    secret: Key,
}

impl Bucket {
    /// A bucket has one key as long as it lives: a new key makes a new bucket.
    const GENERATION: u64 = 1;

    pub(crate) fn new(room: RoomNumber, period: Period, condition: Condition, secret: Key) -> Self {
        Self { room, period, condition, key: SealingKey::new(&secret, Self::GENERATION), secret }
    }

    /// The same bucket, to be emptied or being emptied.
    pub(crate) fn with(&self, condition: Condition) -> Self {
        Self::new(self.room, self.period, condition, self.secret.clone())
    }

    /// The row that keeps it.
    pub(crate) fn encode(&self) -> Secret {
        Zeroizing::new(
            Canonical::element()
                .integer(u64::from(self.room))
                .integer(u64::from(self.period.0))
                .integer(self.condition as u64)
                .bytes(self.secret.as_slice())
                .into_bytes(),
        )
    }

    pub(crate) fn decode(row: &[u8], format: u64) -> Option<Self> {
        let mut fields = Fields::new(row);
        let room = u32::try_from(fields.integer()?).ok()?;
        let period = Period(u16::try_from(fields.integer()?).ok()?);
        let condition = match (format, fields.integer()?) {
            // Format 1 had a generation here, always 1.
            (1, 1) | (_, 0) => Condition::Whole,
            (_, 1) => Condition::LostRows,
            (_, 2) => Condition::Retired,
            _ => return None,
        };
        let secret = key_from(fields.bytes()?)?;
        fields.end()?;
        Some(Self::new(room, period, condition, secret))
    }
}

pub(crate) struct Directory {
    /// The key of everything that must be erasable.
    state: SealingKey,
    numbers: BTreeMap<RoomId, RoomNumber>,
    rooms: BTreeMap<RoomNumber, RoomId>,
    buckets: BTreeMap<BucketNumber, Bucket>,
    bucket_numbers: BTreeMap<(RoomNumber, Period), BucketNumber>,
    outbox: BTreeMap<(RoomId, ClientMessageId), u64>,
    last_order: u64,
}

impl Directory {
    pub(crate) const fn new(state: SealingKey) -> Self {
        Self {
            state,
            numbers: BTreeMap::new(),
            rooms: BTreeMap::new(),
            buckets: BTreeMap::new(),
            bucket_numbers: BTreeMap::new(),
            outbox: BTreeMap::new(),
            last_order: 0,
        }
    }

    pub(crate) const fn state(&self) -> &SealingKey {
        &self.state
    }

    pub(crate) fn replace_state(&mut self, state: SealingKey) {
        self.state = state;
    }

    pub(crate) fn number(&self, room: &RoomId) -> Option<RoomNumber> {
        self.numbers.get(room).copied()
    }

    pub(crate) fn room(&self, number: RoomNumber) -> Option<&RoomId> {
        self.rooms.get(&number)
    }

    pub(crate) fn next_room_number(&self) -> Option<RoomNumber> {
        self.rooms.last_key_value().map_or(Some(1), |(last, _)| last.checked_add(1))
    }

    pub(crate) fn add_room(&mut self, number: RoomNumber, room: RoomId) {
        self.numbers.insert(room, number);
        self.rooms.insert(number, room);
    }

    pub(crate) fn bucket(&self, number: BucketNumber) -> Option<&Bucket> {
        self.buckets.get(&number)
    }

    pub(crate) fn bucket_number(&self, room: RoomNumber, period: Period) -> Option<BucketNumber> {
        self.bucket_numbers.get(&(room, period)).copied()
    }

    pub(crate) fn next_bucket_number(&self) -> Option<BucketNumber> {
        self.buckets.last_key_value().map_or(Some(1), |(last, _)| last.checked_add(1))
    }

    /// Adds a bucket, or replaces it by itself in another condition.
    pub(crate) fn put_bucket(&mut self, number: BucketNumber, bucket: Bucket) {
        let place = (bucket.room, bucket.period);
        if bucket.condition != Condition::Retired {
            self.bucket_numbers.insert(place, number);
        } else if self.bucket_numbers.get(&place) == Some(&number) {
            self.bucket_numbers.remove(&place);
        }
        self.buckets.insert(number, bucket);
    }

    pub(crate) fn remove_bucket(&mut self, number: BucketNumber) {
        self.buckets.remove(&number);
    }

    pub(crate) fn buckets(&self) -> impl Iterator<Item = (BucketNumber, &Bucket)> {
        self.buckets.iter().map(|(number, bucket)| (*number, bucket))
    }

    /// The buckets whose keys open more than their rows.
    pub(crate) fn stale_buckets(&self) -> Vec<BucketNumber> {
        let stale = |(number, bucket): (&BucketNumber, &Bucket)| {
            (bucket.condition != Condition::Whole).then_some(*number)
        };
        self.buckets.iter().filter_map(stale).collect()
    }

    /// Which buckets there are for each period.
    pub(crate) fn buckets_by_period(&self) -> BTreeMap<Period, Vec<BucketNumber>> {
        let mut periods: BTreeMap<Period, Vec<BucketNumber>> = BTreeMap::new();
        for (number, bucket) in &self.buckets {
            periods.entry(bucket.period).or_default().push(*number);
        }
        periods
    }

    /// The place in the outbox of a message that has one, or a new place at its end.
    pub(crate) fn order(&mut self, room: RoomId, id: ClientMessageId) -> u64 {
        let next = self.last_order.saturating_add(1);
        let order = *self.outbox.entry((room, id)).or_insert(next);
        self.last_order = self.last_order.max(order);
        order
    }

    pub(crate) fn add_order(&mut self, room: RoomId, id: ClientMessageId, order: u64) {
        self.outbox.insert((room, id), order);
        self.last_order = self.last_order.max(order);
    }

    pub(crate) fn is_waiting(&self, room: &RoomId, id: &ClientMessageId) -> bool {
        self.outbox.contains_key(&(*room, *id))
    }

    pub(crate) fn remove_order(&mut self, room: &RoomId, id: &ClientMessageId) -> Option<u64> {
        self.outbox.remove(&(*room, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_follow_time_and_are_bounded() {
        let today = 1_790_000_000_000;
        assert_eq!(Period::of(today), Period::of(today + 1));
        assert!(Period::of(today) < Period::of(today + Period::MILLISECONDS));
        assert_eq!(Period::of(0), Period(608));
        assert_eq!(Period::of(u64::MAX), Period(1826));
    }
}

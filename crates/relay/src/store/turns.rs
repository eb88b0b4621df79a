//! Whose turn it is to write.
//!
//! There is one writer, and its time is shared: whoever has used least of it comes first (start-time fair
//! queueing, priced by the time that was measured). So whoever asks for much, or for what takes long, waits
//! behind itself and nobody else.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use mildam_protocol::records::id::AccountId;

/// Who has a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn(String);

impl Turn {
    /// The relay itself.
    #[must_use]
    pub const fn of_relay() -> Self {
        Self(String::new())
    }

    /// An account.
    #[must_use]
    pub fn of_account(account: &AccountId) -> Self {
        Self(format!("account {account}"))
    }

    /// Somebody without an account, by a name of its own.
    #[must_use]
    pub fn of_stranger(name: &str) -> Self {
        Self(format!("stranger {name}"))
    }
}

/// What waits, in the order in which it is fair to do it.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    lines: HashMap<Turn, Line<T>>,
    /// Those with something that waits, and how much time each had used when it came forward.
    order: BTreeSet<(Duration, Turn)>,
    /// Those with nothing, until others have used as much.
    idle: BTreeSet<(Duration, Turn)>,
    /// How much time whoever comes now is taken to have used.
    now: Duration,
    len: usize,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    used: Duration,
}

/// The least that anything costs: what is not measured must not be free.
const LEAST: Duration = Duration::from_micros(1);

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            order: BTreeSet::new(),
            idle: BTreeSet::new(),
            now: Duration::ZERO,
            len: 0,
        }
    }
}

impl<T> Turns<T> {
    /// How much waits.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Puts something at the end of a line.
    pub(crate) fn push(&mut self, turn: Turn, item: T) {
        self.len = self.len.saturating_add(1);
        let now = self.now;
        let line = self.lines.entry(turn.clone()).or_insert(Line { waiting: VecDeque::new(), used: now });
        line.waiting.push_back(item);
        if line.waiting.len() == 1 {
            self.idle.remove(&(line.used, turn.clone()));
            line.used = line.used.max(now);
            self.order.insert((line.used, turn));
        }
    }

    /// Takes what is next. Before the next one is taken, [`Turns::charge`] must say what it cost.
    pub(crate) fn pop(&mut self) -> Option<(Turn, T)> {
        let Some((used, turn)) = self.order.pop_first() else {
            // Nobody waits, so nobody was kept waiting.
            *self = Self::default();
            return None;
        };
        self.now = self.now.max(used);
        // What was used by then counts no more.
        while self.idle.first().is_some_and(|(used, _)| *used <= self.now) {
            if let Some((_, turn)) = self.idle.pop_first() {
                self.lines.remove(&turn);
            }
        }
        let item = self.lines.get_mut(&turn)?.waiting.pop_front()?;
        self.len = self.len.saturating_sub(1);
        Some((turn, item))
    }

    /// Says what the last one cost.
    pub(crate) fn charge(&mut self, turn: Turn, cost: Duration) {
        let Some(line) = self.lines.get_mut(&turn) else { return };
        // What came meanwhile stands in the order with what was used before.
        self.order.remove(&(line.used, turn.clone()));
        line.used = line.used.saturating_add(cost.max(LEAST));
        let place = if line.waiting.is_empty() { &mut self.idle } else { &mut self.order };
        place.insert((line.used, turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(name: &str) -> Turn {
        Turn::of_account(&name.parse().unwrap())
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Does all that waits, at these costs; gives whose it was, in order.
    fn drain(turns: &mut Turns<Duration>) -> String {
        let mut order = String::new();
        while let Some((turn, cost)) = turns.pop() {
            order.push(turn.0.chars().nth("account ".len()).unwrap());
            turns.charge(turn, cost);
        }
        order
    }

    // REQ S5
    #[test]
    fn whoever_has_used_least_time_comes_first() {
        let mut turns = Turns::default();
        for _ in 0..6 {
            turns.push(turn("alice"), 3 * MILLISECOND);
            turns.push(turn("bob"), MILLISECOND);
        }
        assert_eq!(turns.len(), 12);
        assert_eq!(drain(&mut turns), "abbbabbbaaaa");
        assert_eq!(turns.len(), 0);
    }

    // REQ S5
    #[test]
    fn a_newcomer_waits_for_nobody_who_asked_for_much() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.push(turn("mallory"), 50 * MILLISECOND);
        }
        for _ in 0..3 {
            let (turn, cost) = turns.pop().unwrap();
            turns.charge(turn, cost);
        }
        turns.push(turn("alice"), MILLISECOND);
        assert!(drain(&mut turns).starts_with("am"), "before the next one, and once");
        // Nor does she save up what she did not use.
        for _ in 0..10 {
            turns.push(turn("mallory"), MILLISECOND);
            turns.push(turn("alice"), MILLISECOND);
        }
        assert!(drain(&mut turns).starts_with("amamam"));
    }

    // REQ S5
    #[test]
    fn what_was_used_counts_until_others_have_used_as_much() {
        let mut turns = Turns::default();
        for _ in 0..20 {
            turns.push(turn("bob"), MILLISECOND);
        }
        turns.push(turn("mallory"), 10 * MILLISECOND);
        for _ in 0..2 {
            let (turn, cost) = turns.pop().unwrap();
            turns.charge(turn, cost);
        }
        // She has nothing that waits, and comes again.
        turns.push(turn("mallory"), MILLISECOND);
        assert_eq!(drain(&mut turns), format!("{}m{}", "b".repeat(10), "b".repeat(9)));
        assert!(turns.lines.is_empty());
        // Of those who have gone nothing is kept, also if others go on for ever.
        turns.push(turn("bob"), MILLISECOND);
        for n in 0..50 {
            turns.push(turn(&format!("zoe{n}")), MILLISECOND);
            turns.push(turn("bob"), MILLISECOND);
            for _ in 0..2 {
                let (turn, cost) = turns.pop().unwrap();
                turns.charge(turn, cost);
            }
        }
        assert!(turns.lines.len() <= 4, "{} lines are remembered", turns.lines.len());
    }

    #[test]
    fn one_line_is_served_in_its_order() {
        let mut turns = Turns::default();
        turns.push(Turn::of_relay(), 1);
        turns.push(Turn::of_relay(), 2);
        let (turn, first) = turns.pop().unwrap();
        turns.push(Turn::of_relay(), 3);
        turns.charge(turn, MILLISECOND);
        let mut order = vec![first];
        while let Some((turn, item)) = turns.pop() {
            turns.charge(turn, MILLISECOND);
            order.push(item);
        }
        assert_eq!(order, [1, 2, 3]);
    }
}

//! The time that something is judged at, and for how long what comes of it stands.
//!
//! Whoever judges compares with now through this alone. Each comparison narrows the time within which all
//! of them come out the same, and so does the answer that rests on nothing else but bytes.

use std::cell::Cell;
use std::ops::Range;

use super::CLOCK_SKEW;

/// A moment, and what was compared with it. In seconds since 1970.
#[derive(Debug)]
pub(super) struct Clock {
    now: i64,
    from: Cell<i64>,
    until: Cell<i64>,
}

impl Clock {
    /// It is `now`.
    pub const fn at(now: i64) -> Self {
        Self { now, from: Cell::new(i64::MIN), until: Cell::new(i64::MAX) }
    }

    /// Whether it is that late.
    pub fn has_come(&self, moment: i64) -> bool {
        let has_come = self.now >= moment;
        if has_come {
            self.from.set(self.from.get().max(moment));
        } else {
            self.until.set(self.until.get().min(moment));
        }
        has_come
    }

    /// Whether something that was made then would be of the future, whatever clocks differ.
    pub fn is_ahead(&self, made: i64) -> bool {
        !self.has_come(made.saturating_sub(CLOCK_SKEW))
    }

    /// When all comparisons come out as they did.
    pub fn stands(&self) -> Range<i64> {
        self.from.get()..self.until.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_between_the_moments_it_was_held_against() {
        let clock = Clock::at(1_000);
        assert_eq!(clock.stands(), i64::MIN..i64::MAX);
        assert!(clock.has_come(900) && clock.has_come(1_000) && !clock.has_come(2_000));
        assert_eq!(clock.stands(), 1_000..2_000);
        assert!(!clock.has_come(1_500) && clock.has_come(10));
        assert_eq!(clock.stands(), 1_000..1_500);
        // Five minutes ahead is now by another clock.
        assert!(!clock.is_ahead(1_300) && clock.is_ahead(1_301));
        assert_eq!(clock.stands(), 1_000..1_001);
        for now in [1_000, 1_001] {
            let other = Clock::at(now);
            assert_eq!(other.is_ahead(1_301), clock.stands().contains(&now), "{now}");
        }
    }
}

//! Limits: time, memory and depth. A policy that reaches one has decided nothing.

use std::time::Duration;

use regorus::Value;
use rustix::time::{ClockId, clock_gettime};

use super::super::error::EvalError;
use super::Result;

/// How far one evaluation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time of the processor that evaluates: what else a machine is busy with refuses no build.
    pub time: Duration,
    /// Memory, in bytes, that values made by the evaluation may take together.
    pub memory: u64,
    /// Levels of rules, calls and enumerations within each other.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(1), memory: 256 << 20, depth: 2_000 }
    }
}

/// The clock of one evaluation, for what takes long inside one call of a builtin.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Watch {
    started: Duration,
    limit: Duration,
}

/// How long this thread has run.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative for a thread that runs.
    Duration::new(time.tv_sec.unsigned_abs(), 0) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

impl Watch {
    /// Looks at the clock.
    pub fn check(&self) -> Result<()> {
        if thread_time().saturating_sub(self.started) <= self.limit {
            return Ok(());
        }
        let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        Err(Box::new(EvalError::Timeout { limit_ms }))
    }
}

/// What is left of the limits.
pub(in crate::policy) struct Budget {
    limits: Limits,
    watch: Watch,
    work: u64,
    next_look: u64,
    memory: u64,
    depth: u32,
}

/// Units of work between two looks at the clock. A unit is some tens of nanoseconds.
const LOOK_EVERY: u64 = 1_024;

impl Budget {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            watch: Watch { started: thread_time(), limit: limits.time },
            work: 0,
            next_look: LOOK_EVERY,
            memory: 0,
            depth: 0,
        }
    }

    /// Spends work.
    pub fn spend(&mut self, units: u64) -> Result<()> {
        self.work = self.work.saturating_add(units);
        if self.work < self.next_look {
            return Ok(());
        }
        self.next_look = self.work.saturating_add(LOOK_EVERY);
        self.check_now()
    }

    /// Looks at the clock.
    pub fn check_now(&self) -> Result<()> {
        self.watch.check()
    }

    /// The clock that it goes by.
    pub const fn watch(&self) -> Watch {
        self.watch
    }

    /// Counts a value that was made. What it shares with others is not counted again.
    pub fn made(&mut self, value: &Value) -> Result<()> {
        let bytes = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => return Ok(()),
            Value::String(text) => text.len() as u64,
            Value::Array(array) => 24 * array.len() as u64,
            Value::Set(set) => 48 * set.len() as u64,
            Value::Object(object) => 72 * object.len() as u64,
        };
        self.take(bytes)
    }

    /// Counts bytes.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.limits.memory {
            let limit_mib = self.limits.memory >> 20;
            return Err(Box::new(EvalError::Memory { limit_mib }));
        }
        self.spend(1 + bytes / 64)
    }

    /// Goes one level deeper; [`Budget::leave`] comes back.
    pub fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(Box::new(EvalError::Depth { limit: self.limits.depth }));
        }
        self.spend(1)
    }

    /// Comes back from a level.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

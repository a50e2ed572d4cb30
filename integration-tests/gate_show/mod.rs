//! The gate at length, as its own process before a real daemon: builds that are those of the bare
//! daemon, denials of what clients try, and failures that let nothing through.

pub mod between;
mod builds;
mod cancel;
pub mod clients;
mod dap;
mod debug;
mod denials;
mod failures;
mod history;
mod kinds;
mod locked;
mod names;
mod raw;
mod shared;
mod slow;
mod waits;
mod words;

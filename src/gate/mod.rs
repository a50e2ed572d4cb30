//! The door before buildkitd: clients point at it and notice nothing until a source is refused. Nobody
//! behind it can switch it off.
//!
//! | module      | owns                                                                     |
//! |-------------|--------------------------------------------------------------------------|
//! | [`proxy`]   | who calls, where the call goes, and every byte of it, unread             |
//! | [`enforce`] | what a call would load, whose sessions and builds are whose, the answers |
//! | [`ops`]     | which policies hold, what is written down, what an operator sees         |
//! | `run`       | all of that put together, from its start to its end                      |
//! | `tasks`     | what goes on beside all that, by name: none of it ends unnoticed         |

pub mod enforce;
pub mod ops;
pub mod proxy;
mod run;
mod tasks;

pub use run::{GateError, check, run};

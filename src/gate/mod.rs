//! The door before buildkitd: clients point at it and notice nothing until a source is refused.
//! Nobody behind it can switch it off.
//!
//! | module    | owns                                                                     |
//! |-----------|--------------------------------------------------------------------------|
//! | [`ops`]   | which policies hold, what is written down, what an operator sees, configuration |
//! | [`proxy`] | who calls, where the call goes, and every byte of it, unread             |

pub mod ops;
pub mod proxy;
mod run;

pub use run::{GateError, check, run};

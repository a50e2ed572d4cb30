//! The door that nobody behind it can switch off: it stands before a daemon, speaks all of its API,
//! and decides about every source of every build.

pub mod ops;

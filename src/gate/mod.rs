//! The door before buildkitd: clients point at it and notice nothing until a source is refused.
//!
//! | module    | owns                                                                     |
//! |-----------|--------------------------------------------------------------------------|
//! | [`proxy`] | who calls, where the call goes, and every byte of it, unread             |

pub mod proxy;

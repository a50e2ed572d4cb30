//! The builtin functions that rules may call, with OPA's answers.

//! Policies: loaded, compiled once, evaluated many times. All of regorus lives here.

pub mod builtins;

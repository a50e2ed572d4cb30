//! Which sources a Dockerfile names, and at which line.

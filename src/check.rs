//! The resolve loop: one round , and the loop around it.

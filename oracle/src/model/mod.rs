//! The model in a process of its own. A lost GPU, a driver that panics or the kernel's out-of-memory killer ends that
//! process and nothing else: it is started again, tests itself against golden vectors before it serves, and the question
//! that it was at is asked again.
//!
//! Reading order: [`wire`], [`serve`] (the child), [`breaker`] (when to try again, and on which device), [`process`] (the
//! parent).

pub mod breaker;
pub mod process;
pub mod serve;
pub mod wire;

//! The inner loops of matrix products for AVX-512: [`Floats`] in `f32`, [`Vnni`] in bytes and in
//! blocks of small integers.
//!
//! This is the one crate of Auspex with `unsafe` code: a function that is compiled for instructions that
//! not every CPU has can only be called so from one that is not. A value of either type exists only
//! where the CPU was asked; everything else stays safe. Both have the same arithmetic in plain code
//! beside them, which they equal bit by bit. Beside them stands what keeps them fed and cannot be had
//! in safe code either: memory on large pages, [`pages`], and work that threads share without a queue,
//! [`crew`].

pub mod blocks;
pub mod bytes;
pub mod crew;
pub mod floats;
pub mod pages;

pub use bytes::Vnni;
pub use floats::Floats;

/// Columns of a panel: the sums of one register.
pub const LANES: usize = 16;

//! The life of a process: it becomes ready, its tasks are watched, it finishes its work and ends with a clear word.

pub mod descriptors;
pub mod drain;
pub mod exit;
pub mod ready;
pub mod signals;
pub mod supervisor;

pub use drain::{Drain, DrainGuard, DrainTrigger};

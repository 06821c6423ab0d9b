//! The vocabulary of the data plane and its translation to and from xDS.

pub mod identity;

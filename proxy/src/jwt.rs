//! The tokens that requests carry: what a verified one says about its bearer.

mod claims;

pub use claims::Claims;

//! What load and origin say to each other, read and written with as little work as it can be done with.
//!
//! Not for use with strangers: what is sent is prepared once, and what is read is only looked at as far as needed to
//! see that it is right. Anything unexpected is an error, because an error voids a run.

pub(crate) mod http1;
pub(crate) mod http2;

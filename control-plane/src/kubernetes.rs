//! Everything that is true of an installation in Kubernetes, whoever asks: what our objects are called, and what the
//! control plane may do there.
//!
//! The control plane, the injector, `outrigger install` and `outrigger check` read the same words here, so that none of
//! them can be renamed for one and not for the other.

pub mod calls;
pub mod names;
pub mod rbac;
pub(crate) mod timed;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod fake_cluster;

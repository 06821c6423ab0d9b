//! What a process says about itself: metrics, logs, access log.

pub mod metrics;

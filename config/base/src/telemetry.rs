//! What a process says about itself: metrics, logs, access log.

pub mod access_log;
pub mod logs;
pub mod metrics;

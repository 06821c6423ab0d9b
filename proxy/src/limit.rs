//! How much goes through: requests in time (GCRA) and requests at once (a limit that follows latency).
//!
//! Decisions (`gcra`, `adaptive`) are plain functions of counts and time; the state around them is shared by the workers
//! of a proxy and takes no lock on the way of a request. Limits outlive changes of configuration that do not change them:
//! the control thread asks [`Limits`] for the live one. Nothing here knows routes, answers or configuration sources.

mod adaptive;
mod gate;
mod gcra;
mod keyed;
mod live;
mod rate;
mod service;

pub use gate::{Gate, Slot};
pub use live::{Inbound, Limits, METRICS, service_errors};
pub use rate::{MAX_KEYS, Quota, RateLimiter, Subject};
pub use service::{Answer, AnswerError, GlobalLimit, MAX_ANSWER_BYTES, read as read_answer};

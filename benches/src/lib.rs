//! Side by side measurements.

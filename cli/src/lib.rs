//! The outrigger command.

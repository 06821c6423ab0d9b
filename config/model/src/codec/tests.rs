//! The codec is proved from four sides: what we write we read back, what others write is read by the standard, what
//! cannot be honoured is refused by name, and bytes that mean nothing do no harm.

mod filters;
mod foreign;
mod refused;
mod round_trip;
mod strategies;
mod upstream;
mod written;

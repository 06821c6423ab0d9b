//! Micro benches: what single steps of a request, and of a configuration change, take. `cargo xtask bench --micro` runs them.
//!
//! They tell which of two ways to write a function is faster. What a request costs as a whole is for the side by side
//! measurements and the instruction gate: steps that are fast alone may still be slow together.

mod authorize;
mod codec;
mod pick;
mod record;
mod route;
mod sniff;
mod surroundings;

fn main() {
    divan::main();
}

//! What the whole-mesh tests share: real counterparts, programs of the workspace as child processes, addresses that
//! no other test uses, an origin that tells what it saw, and the style rules that a test holds.
//!
//! A test of one crate belongs into that crate; here is only what spans several. This library knows how to start and
//! observe things, it must not know what a mesh is: every expectation stands in a file of `tests/tests/`.

pub mod counterparts;
pub mod origin;
pub mod ports;
pub mod process;
pub mod tidy;

mod wait;

pub use wait::eventually;

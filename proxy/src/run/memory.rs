//! A sidecar stands beside every workload, so it takes no more memory than it needs.
//!
//! Huge pages would make 2 MiB resident where a few bytes are used. And what is not needed any more goes back to the kernel
//! also when nothing happens: the allocator keeps what was freed for a second, because it is soon needed again, and looks
//! at what it has kept when it frees something large. A proxy that has become quiet frees nothing: without this it would
//! keep what its busiest moment took.

use std::hint::black_box;
use std::time::Duration;

/// How often the allocator is made to look; it takes some ten microseconds.
const EVERY: Duration = Duration::from_millis(500);

/// More than what the allocator keeps in one piece (512 KiB), in bytes. It is never written to, so it takes no memory.
const LARGE_BYTES: usize = 520 * 1024;

/// Keeps the kernel from giving this process huge pages, also where it gives them unasked.
pub(super) fn forgo_huge_pages() {
    // A kernel that refuses costs memory and nothing else.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Has the allocator give back what it keeps, until the process ends.
pub(super) async fn give_back() {
    let mut interval = tokio::time::interval(EVERY);
    loop {
        interval.tick().await;
        drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_no_huge_pages_any_more() {
        forgo_huge_pages();
        assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap());
    }
}

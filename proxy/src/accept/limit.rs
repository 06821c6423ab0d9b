//! How many connections the process may hold.

use std::io;

/// Used when the limit of the process cannot be read.
const FALLBACK_DESCRIPTORS: usize = 1024;

/// The most connections a process takes, whatever its limit says.
const MOST_DESCRIPTORS: usize = 1 << 20;

/// Connections one worker takes at once: its share of a third of RLIMIT_NOFILE, because each may need another descriptor
/// upstream, and the rest belongs to everything else.
pub fn connections_per_worker(workers: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    share(descriptors(&limits), workers)
}

fn descriptors(limits: &str) -> usize {
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    match soft {
        Some("unlimited") => MOST_DESCRIPTORS,
        Some(number) => number.parse().unwrap_or(FALLBACK_DESCRIPTORS).min(MOST_DESCRIPTORS),
        None => FALLBACK_DESCRIPTORS,
    }
}

fn share(descriptors: usize, workers: usize) -> usize {
    (descriptors / 3 / workers.max(1)).max(1)
}

/// Whether accept(2) failed because there is nothing left to accept with: EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_descriptors_is_shared_by_the_workers() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1200                 4096  files\n";
        assert_eq!(descriptors(text), 1200);
        assert_eq!(share(1200, 2), 200);
        assert_eq!(share(2, 8), 1);
        assert_eq!(descriptors("Max open files unlimited unlimited files"), MOST_DESCRIPTORS);
        assert_eq!(descriptors(""), FALLBACK_DESCRIPTORS);
        assert!(connections_per_worker(1) > 0);
    }

    #[test]
    fn only_exhaustion_pauses() {
        assert!(is_exhaustion(&io::Error::from_raw_os_error(24)));
        assert!(!is_exhaustion(&io::Error::from_raw_os_error(103)));
    }
}

//! How many files and sockets the process may have open.
//!
//! Shells and service managers start programs with a soft limit of 1024, for the sake of old ones that use `select`, and
//! a hard limit far above. A process that serves thousands of connections takes what it may have.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Gives the limit from now on; `None` is no limit at all.
///
/// # Errors
///
/// When the kernel refuses; the limit is what it was then.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Little enough to be another limit, too little for other tests to notice.
        let lowered = maximum.map_or(1 << 20, |maximum| maximum - 1);
        setrlimit(Resource::Nofile, Rlimit { current: Some(lowered), maximum }).unwrap();
        assert_eq!(raise_limit().unwrap(), maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}

//! How many files and connections this process and what it starts may have open.

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Allows as many open descriptors as may be allowed. A shell's own limit is often 1,024, which a thousand connections
/// with two ends exceed; whoever is started inherits this.
pub(crate) fn allow_all() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of open descriptors cannot be raised")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_may_be_allowed_is() {
        allow_all().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}

//! Waiting for a value instead of for a while.

use std::time::Duration;

use tokio::time::Instant;

/// Pause between two looks: short beside what a test waits for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `look` again and again until it answers `Some`; `None` when `patience` is over. It is asked at least once,
/// and a look that hangs is cut off when patience ends.
///
/// Under tokio's paused clock this takes no time at all.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn count() -> u32 { 3 }
/// # async fn example() {
/// let three = outrigger_tests::eventually(Duration::from_secs(5), || async {
///     Some(count().await).filter(|count| *count == 3)
/// });
/// assert!(three.await.is_some(), "the third request never arrived");
/// # }
/// ```
pub async fn eventually<T>(patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Some(value)) => return Some(value),
            Ok(None) if Instant::now() + PAUSE < deadline => tokio::time::sleep(PAUSE).await,
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_that_comes_late_is_returned() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(1), async || {
            looks += 1;
            (looks == 7).then_some("here")
        });
        assert_eq!(found.await, Some("here"));
        assert_eq!(looks, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let started = Instant::now();
        assert_eq!(eventually(Duration::from_secs(1), async || None::<()>).await, None);
        assert!(started.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off() {
        assert_eq!(eventually(Duration::from_secs(1), std::future::pending::<Option<()>>).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_patience_is_still_one_look() {
        assert_eq!(eventually(Duration::ZERO, async || Some(1)).await, Some(1));
    }
}

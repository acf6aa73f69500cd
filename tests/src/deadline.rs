//! Waiting: always for a condition, always with an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition without a wake-up of its own is looked at.
const POLL: Duration = Duration::from_millis(2);

/// Asks `probe` until it answers `Some`, at most `limit` long. An error of `probe` ends the wait at once.
///
/// # Errors
/// `what` did not happen in time, or `probe` failed.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain: {what}", limit.as_secs_f64());
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait_for;

    #[test]
    fn a_condition_that_never_holds_ends_in_an_error_that_names_it() {
        let err = wait_for::<()>("the moon", Duration::from_millis(5), || Ok(None)).unwrap_err();
        assert!(err.to_string().contains("the moon"), "{err}");
    }

    #[test]
    fn the_first_answer_is_returned() {
        let mut left = 3;
        let got = wait_for("three", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(got.unwrap(), "done");
    }
}

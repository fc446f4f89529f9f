//! How long anything may take: `within` for one wait, `Deadline` for the budget of a whole session (RFC 5321 section
//! 4.5.3.2 gives the figures, their constants live with the sessions). Intervals use the monotonic clock only.

use std::fmt;
use std::future::Future;
use std::time::Duration;
use std::time::Instant;

use async_io::Timer;

/// The patience ended before the future did. What it had done so far is dropped with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for TimedOut {}

/// Waits for `future`, at most `patience`. A future that is ready wins over a patience of zero.
pub async fn within<F: Future>(patience: Duration, future: F) -> Result<F::Output, TimedOut> {
    let patience_ends = async {
        Timer::after(patience).await;
        Err(TimedOut)
    };
    smol::future::or(async { Ok(future.await) }, patience_ends).await
}

/// Waits and does nothing else.
pub async fn sleep(patience: Duration) {
    Timer::after(patience).await;
}

/// The moment at which something longer than one wait, e.g. a session, must be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(budget: Duration) -> Deadline {
        Deadline(Instant::now() + budget)
    }

    /// What is left of the budget; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// The patience for one step: its own, or what is left of the whole if that is less.
    pub fn shorten(self, patience: Duration) -> Duration {
        patience.min(self.left())
    }

    /// One step under both limits.
    pub async fn within<F: Future>(self, patience: Duration, future: F) -> Result<F::Output, TimedOut> {
        within(self.shorten(patience), future).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_wins_when_it_is_ready_and_the_patience_when_it_is_not() {
        async_io::block_on(async {
            assert_eq!(within(Duration::ZERO, async { 1 }).await, Ok(1));
            let started = Instant::now();
            assert_eq!(within(Duration::from_millis(20), std::future::pending::<()>()).await, Err(TimedOut));
            assert!(started.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn a_session_budget_cuts_the_patience_of_its_steps() {
        let deadline = Deadline::after(Duration::from_secs(1));
        assert!(deadline.shorten(Duration::from_secs(300)) <= Duration::from_secs(1));
        assert!(!deadline.passed());
        let over = Deadline::after(Duration::ZERO);
        assert!(over.passed());
        let step = async_io::block_on(over.within(Duration::from_secs(300), std::future::pending::<()>()));
        assert_eq!(step, Err(TimedOut));
    }
}

//! Long work on the one thread: `breathe` gives the others a turn, `StallMeter` finds who did not.
//!
//! The meter wraps each task's polls in two readings of the monotonic clock (about 50 ns), so it is exact and an idle
//! server is not woken for it. Promise: no stall over 20 ms.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

/// Lets every other waiting task run once. Call it every 64 KiB or 16 rows of long work.
pub async fn breathe() {
    smol::future::yield_now().await;
}

/// One turn of one task that held the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The task, as its starter called it.
    pub task: &'static str,
    pub length: Duration,
}

/// Remembers the longest turn of all watched tasks. Clones share it.
#[derive(Clone, Default)]
pub struct StallMeter(Rc<Cell<Option<Stall>>>);

impl StallMeter {
    pub fn new() -> StallMeter {
        StallMeter::default()
    }

    /// The same future, with each of its turns measured.
    pub async fn watch<F: Future>(&self, task: &'static str, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let started = Instant::now();
            let outcome = Pin::as_mut(&mut future).poll(cx);
            self.note(Stall { task, length: started.elapsed() });
            outcome
        })
        .await
    }

    /// The longest turn since the start or the last `take_longest`.
    pub fn longest(&self) -> Option<Stall> {
        self.0.get()
    }

    /// As `longest`, and begins anew.
    pub fn take_longest(&self) -> Option<Stall> {
        self.0.take()
    }

    fn note(&self, stall: Stall) {
        if self.0.get().is_none_or(|longest| stall.length > longest.length) {
            self.0.set(Some(stall));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use smol::LocalExecutor;

    use super::*;

    #[test]
    fn breathing_tasks_take_turns() {
        let executor = LocalExecutor::new();
        let order = Rc::new(RefCell::new(String::new()));
        let tasks = ["a", "b"].map(|name| {
            let order = Rc::clone(&order);
            executor.spawn(async move {
                for _ in 0..3 {
                    order.borrow_mut().push_str(name);
                    breathe().await;
                }
            })
        });
        crate::net::run(&executor, async {
            for task in tasks {
                task.await;
            }
        });
        assert_eq!(*order.borrow(), "ababab");
    }

    #[test]
    fn the_longest_turn_is_known_by_its_task() {
        let meter = StallMeter::new();
        async_io::block_on(async {
            meter.watch("quick", async { breathe().await }).await;
            meter.watch("slow", async { std::thread::sleep(Duration::from_millis(30)) }).await;
        });
        let stall = meter.take_longest().unwrap();
        assert_eq!(stall.task, "slow");
        assert!(stall.length >= Duration::from_millis(30));
        assert_eq!(meter.longest(), None);
    }
}

//! One thread beside the event loop for long computations that cannot be cut in slices: argon2, RSA (later). Logins first.
//!
//! One job at a time: argon2 takes 8 MiB for each, and a small board has that once. A panic in a job is its error.
//! What takes minutes (`store check`) would keep logins waiting: it gets a thread of its own for as long (`run_alone`).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use smol::channel;

/// Jobs that may wait in each line: a login takes about 50 ms, so the last of 64 waits three seconds; more is an attack
/// or a machine that cannot keep up, and "try again later" is the better answer.
const WAITING: usize = 64;

/// Which line a job waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Login,
    Other,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadError {
    Full,
    Panicked,
    Stopped,
    /// the one job of `run_alone` is not finished
    Busy,
    /// the system gives no thread
    NoThread,
}

impl fmt::Display for OffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OffloadError::Full => "too many computations wait",
            OffloadError::Panicked => "the computation failed inside",
            OffloadError::Stopped => "the computing thread has ended",
            OffloadError::Busy => "the same kind of work is under way for somebody else",
            OffloadError::NoThread => "the system gives no thread for it",
        })
    }
}

impl std::error::Error for OffloadError {}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    logins: VecDeque<Job>,
    others: VecDeque<Job>,
    state: State,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    Stopped,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// a long job runs on its own thread
    alone: AtomicBool,
}

/// The thread. Clones share it; it ends, after the job at hand, with the last of them.
#[derive(Clone)]
pub struct Offload(Rc<Owner>);

struct Owner(Arc<Shared>);

/// Held by the one long job.
struct Alone(Arc<Shared>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.alone.store(false, Ordering::Release);
    }
}

impl Offload {
    /// Starts the thread; after the sandbox.
    pub fn start() -> io::Result<Offload> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("offload".to_owned()).spawn(move || work(&theirs))?;
        Ok(Offload(Rc::new(Owner(shared))))
    }

    /// Runs `job` on the thread. If this future is dropped before the job begins, it never does.
    pub async fn run<T, F>(&self, priority: Priority, job: F) -> Result<T, OffloadError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = channel::bounded(1);
        let job = move || {
            if !sender.is_closed() {
                // The panic's message has been written by the panic hook.
                let outcome = catch_unwind(AssertUnwindSafe(job)).map_err(|_| OffloadError::Panicked);
                let _ = sender.try_send(outcome);
            }
        };
        self.0.0.push(priority, Box::new(job))?;
        receiver.recv().await.unwrap_or(Err(OffloadError::Stopped))
    }

    /// Runs a job of minutes on a thread of its own, one at a time. It goes on to its end if this future is dropped.
    pub async fn run_alone<T, F>(&self, job: F) -> Result<T, OffloadError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let shared = Arc::clone(&self.0.0);
        if shared.alone.swap(true, Ordering::Acquire) {
            return Err(OffloadError::Busy);
        }
        let held = Alone(shared);
        let (sender, receiver) = channel::bounded(1);
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(job)).map_err(|_| OffloadError::Panicked);
            drop(held);
            let _ = sender.try_send(outcome);
        };
        std::thread::Builder::new().name("alone".to_owned()).spawn(work).map_err(|_| OffloadError::NoThread)?;
        receiver.recv().await.unwrap_or(Err(OffloadError::Stopped))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.state = State::Stopped;
        queue.logins.clear();
        queue.others.clear();
        self.0.changed.notify_one();
    }
}

impl Shared {
    /// No job runs under the lock, so a poisoned one holds a queue that is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, priority: Priority, job: Job) -> Result<(), OffloadError> {
        let mut queue = self.queue();
        let line = match priority {
            Priority::Login => &mut queue.logins,
            Priority::Other => &mut queue.others,
        };
        if line.len() >= WAITING {
            return Err(OffloadError::Full);
        }
        line.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; `None` when all handles are gone.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.state == State::Stopped {
                return None;
            }
            if let Some(job) = queue.logins.pop_front().or_else(|| queue.others.pop_front()) {
                return Some(job);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared) {
    while let Some(job) = shared.next() {
        job();
    }
}

#[cfg(test)]
mod tests {
    use smol::LocalExecutor;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn logins_overtake_and_panics_stay_inside() {
        let offload = Offload::start().unwrap();
        let executor = LocalExecutor::new();
        let (release, gate) = mpsc::channel::<()>();
        let order = Arc::new(Mutex::new(String::new()));
        let job = |name: &'static str| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push_str(name)
        };
        crate::net::run(&executor, async {
            let (first, then) = (offload.clone(), offload.clone());
            let blocking = executor.spawn(async move { first.run(Priority::Other, move || gate.recv().is_ok()).await });
            smol::future::yield_now().await;
            let other = executor.spawn({
                let (o, j) = (then.clone(), job("other "));
                async move { o.run(Priority::Other, j).await }
            });
            let login = executor.spawn({
                let (o, j) = (then, job("login "));
                async move { o.run(Priority::Login, j).await }
            });
            smol::future::yield_now().await;
            release.send(()).unwrap();
            assert_eq!(blocking.await, Ok(true));
            assert_eq!((other.await, login.await), (Ok(()), Ok(())));
            assert_eq!(offload.run(Priority::Other, || panic!("test of a panic")).await, Err::<(), _>(OffloadError::Panicked));
            assert_eq!(offload.run(Priority::Login, || 7).await, Ok(7));
        });
        assert_eq!(*order.lock().unwrap(), "login other ");
    }

    #[test]
    fn a_long_job_alone_keeps_nobody_waiting() {
        let offload = Offload::start().unwrap();
        let executor = LocalExecutor::new();
        let (release, gate) = mpsc::channel::<()>();
        crate::net::run(&executor, async {
            let long = offload.clone();
            let long = executor.spawn(async move { long.run_alone(move || gate.recv().is_ok()).await });
            smol::future::yield_now().await;
            assert_eq!(offload.run(Priority::Other, || 7).await, Ok(7));
            assert_eq!(offload.run_alone(|| ()).await, Err(OffloadError::Busy));
            release.send(()).unwrap();
            assert_eq!(long.await, Ok(true));
            assert_eq!(offload.run_alone(|| panic!("test of a panic")).await, Err::<(), _>(OffloadError::Panicked));
            assert_eq!(offload.run_alone(|| 8).await, Ok(8));
        });
    }

    #[test]
    fn a_full_line_refuses_and_a_dropped_wait_frees_its_job() {
        let offload = Offload::start().unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let executor = LocalExecutor::new();
        crate::net::run(&executor, async {
            let spawn = |job: Box<dyn FnOnce() -> bool + Send>| {
                let offload = offload.clone();
                executor.spawn(async move { offload.run(Priority::Login, job).await })
            };
            let (begin, begun) = mpsc::channel::<()>();
            let blocking = spawn(Box::new(move || begin.send(()).is_ok() && gate.recv().is_ok()));
            // Only a job that the thread has taken leaves the whole line to the others.
            while begun.try_recv().is_err() {
                smol::future::yield_now().await;
            }
            let waiting: Vec<_> = (0..WAITING).map(|_| spawn(Box::new(|| unreachable!("its wait was dropped")))).collect();
            while offload.0.0.queue().logins.len() < WAITING {
                smol::future::yield_now().await;
            }
            assert_eq!(offload.run(Priority::Login, || ()).await, Err(OffloadError::Full));
            drop(waiting);
            release.send(()).unwrap();
            assert_eq!(blocking.await, Ok(true));
        });
    }
}

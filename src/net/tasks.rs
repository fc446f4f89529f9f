//! Starts tasks on the event loop so that a panic ends one of them and nothing else (promise R17).
//!
//! A session's slot, reservation and spool are freed by `Drop` while it unwinds. A service loop is started again after
//! a second. Every task is timed: the longest stall of the loop is a metric.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use log::error;
use smol::LocalExecutor;
use smol::future::FutureExt;

use crate::metrics::Metrics;
use crate::net::breathe::StallMeter;
use crate::net::deadline::sleep;

/// Before a service loop that panicked begins again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A cheap handle on the executor.
#[derive(Clone)]
pub struct Tasks {
    executor: Rc<LocalExecutor<'static>>,
    meter: StallMeter,
    metrics: Rc<Metrics>,
}

impl Tasks {
    pub fn new(executor: Rc<LocalExecutor<'static>>, meter: StallMeter, metrics: Rc<Metrics>) -> Tasks {
        Tasks { executor, meter, metrics }
    }

    /// Runs a task to its end, or to its panic.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let (metrics, meter) = (Rc::clone(&self.metrics), self.meter.clone());
        // Each layer of async around a future holds it twice: unboxed, an idle session of 1.5 KB would take 4.7.
        let future = Box::pin(future);
        let task = async move {
            if AssertUnwindSafe(meter.watch(name, future)).catch_unwind().await.is_err() {
                metrics.panics.add_one();
                error!("a {name} ended in a panic; only it is lost");
            }
        };
        self.executor.spawn(task).detach();
    }

    /// Runs a loop that is meant to last; after a panic it begins again.
    pub fn spawn_service<F: Future<Output = ()> + 'static>(&self, name: &'static str, make: impl Fn() -> F + 'static) {
        let (metrics, meter) = (Rc::clone(&self.metrics), self.meter.clone());
        let service = async move {
            while AssertUnwindSafe(meter.watch(name, Box::pin(make()))).catch_unwind().await.is_err() {
                metrics.panics.add_one();
                error!("the {name} ended in a panic; it begins again");
                sleep(RESTART_PAUSE).await;
            }
        };
        self.executor.spawn(service).detach();
    }
}

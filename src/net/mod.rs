//! Sockets, TLS and time: the only folder that imports async-io and touches TLS streams. Nothing here knows what mail is.
//!
//! Everything runs on one thread and is `!Send`; `offload` holds the one exception. No method waits without end by itself:
//! callers wrap in `deadline::within`.

pub mod breathe;
pub mod budget;
pub mod clock;
pub mod connect;
pub mod datagram;
pub mod deadline;
pub mod lines;
pub mod listen;
pub mod local;
pub mod offload;
pub mod resolver;
pub mod slots;
pub mod stream;
pub mod tasks;
pub mod tls;
pub mod tls_client;

use std::future::Future;

use smol::LocalExecutor;

/// Drives `future` and all tasks of `executor` on this thread until `future` ends. Call it after the sandbox: the first
/// use of async-io starts its helper thread, and a thread older than Landlock stays unrestricted.
pub fn run<T>(executor: &LocalExecutor<'_>, future: impl Future<Output = T>) -> T {
    async_io::block_on(executor.run(future))
}

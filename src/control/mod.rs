//! The sockets through which processes of this machine reach the server (`cli.md`, "Control socket").
//!
//! `DIR/pipit.sock`, mode 0600: the peer must be root or our own user, and may do everything. `DIR/send.sock`, mode 0666,
//! and for the system's server `/run/pipit/send.sock`: anybody may connect, the only request is `send` (`senders`), and there
//! is a limit for each user (`places`).
//! One request a connection; 16 at once, 10 s idle. Answers are JSON lines, raw octets behind a line that counts them, and
//! a verdict (`channel`).

mod channel;
mod places;
mod senders;

use std::rc::Rc;

use log::Level;
use log::log;
use log::warn;

use crate::admin;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::send::Caller;
use crate::admin::wire::Command;
use crate::control::channel::SocketChannel;
use crate::control::senders::Senders;
use crate::host::users::Users;
use crate::inbound::handed_in;
use crate::net::local::LocalListener;
use crate::net::stream::Stream;
use crate::net::tasks::Tasks;

/// Commands come one by one from people and monitors.
const MAX_CONNECTIONS: usize = 16;

/// Who may come in, and for what.
#[derive(Clone)]
pub enum Gate {
    /// root and our own user, for everything
    Owner,
    /// everybody, to hand mail in; clones share the places
    Senders(Senders),
}

impl Gate {
    /// A gate for everybody. `users`: the names of the machine's users.
    pub fn senders(users: Rc<Users>) -> Gate {
        Gate::Senders(Senders::new(users))
    }

    /// Permission bits of the socket.
    pub fn mode(&self) -> u32 {
        match self {
            Gate::Owner => 0o600,
            Gate::Senders(_) => 0o666,
        }
    }
}

/// Serves requests until the server ends.
pub async fn serve_all(instance: Rc<Instance>, tasks: Tasks, listener: Rc<LocalListener>, gate: Gate) {
    match gate {
        Gate::Owner => serve_owners(instance, tasks, listener).await,
        Gate::Senders(senders) => senders.serve_all(instance, tasks, listener).await,
    }
}

async fn serve_owners(instance: Rc<Instance>, tasks: Tasks, listener: Rc<LocalListener>) {
    let open = Rc::new(());
    loop {
        let stream = listener.accept().await;
        if Rc::strong_count(&open) > MAX_CONNECTIONS {
            warn!("more than {MAX_CONNECTIONS} connections to the control socket; one was closed");
            continue;
        }
        let (instance, held) = (Rc::clone(&instance), Rc::clone(&open));
        tasks.spawn("control request", async move {
            serve_owner(&instance, stream).await;
            drop(held);
        });
    }
}

fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::getuid().as_raw()
}

async fn serve_owner(instance: &Instance, stream: Stream) {
    let peer = stream.peer_uid();
    if !peer.is_some_and(is_owner) {
        warn!("a process of uid {peer:?} was refused at the control socket");
        return;
    }
    instance.metrics.control_requests.add_one();
    let mut channel = SocketChannel::new(stream);
    let outcome = answer(instance, &mut channel).await;
    channel.conclude(outcome).await;
}

async fn answer(instance: &Instance, channel: &mut SocketChannel) -> Result<(), Failure> {
    let line = admin::Channel::read_line(channel).await?;
    let command = Command::parse(&line)?;
    let level = if command.is_change() { Level::Info } else { Level::Debug };
    log!(level, "control request {}", command.verb());
    match command {
        Command::Send(request) => handed_in::take(instance, &Caller::Owner, request, channel).await,
        command => admin::run(instance, command, channel).await,
    }
}

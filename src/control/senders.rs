//! The send socket: mail that any user of the machine hands in, and what no user can take from the others.
//!
//! Comes in: a connection, whose user the kernel names. A user who may not send at all (`admin::send::admit`) is told so and
//! is out at once; the others wait for one of the `places`, and are told to come later when that takes too long. Each place
//! is held for one message, 10 s between two octets, 600 s in all.
//! Not decided here: as whom and to whom (`inbound::handed_in`).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use log::info;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::send;
use crate::admin::send::Caller;
use crate::admin::send::NO_PERMISSION;
use crate::admin::send::TRY_LATER;
use crate::admin::send::refused;
use crate::admin::wire::Command;
use crate::control::channel::SocketChannel;
use crate::control::is_owner;
use crate::control::places::NoPlace;
use crate::control::places::PLACES;
use crate::control::places::PLACES_OF_A_USER;
use crate::control::places::Places;
use crate::control::places::Quota;
use crate::control::places::Turn;
use crate::host::users::Users;
use crate::inbound::handed_in;
use crate::net::breathe::breathe;
use crate::net::deadline::within;
use crate::net::local::LocalListener;
use crate::net::tasks::Tasks;

/// A message handed in that takes longer than this is not coming.
const LONGEST_SENDING: Duration = Duration::from_secs(600);
/// Who waits for a place longer than this is told to come later.
const PLACE_PATIENCE: Duration = Duration::from_secs(30);
/// A fresh socket takes a verdict without waiting; if one does not, its owner has seen to that.
const WORD_PATIENCE: Duration = Duration::from_millis(100);
/// One line of the log for refusals in this time: a program that tries in a loop must not fill the disk.
const QUIET: Duration = Duration::from_secs(1);

/// What all send sockets of an instance share. Clones are the same.
#[derive(Clone)]
pub struct Senders(Rc<Shared>);

struct Shared {
    users: Rc<Users>,
    places: Places,
    hush: Hush,
}

impl Senders {
    pub(super) fn new(users: Rc<Users>) -> Senders {
        Senders(Rc::new(Shared { users, places: Places::default(), hush: Hush::default() }))
    }

    pub(super) async fn serve_all(self, instance: Rc<Instance>, tasks: Tasks, listener: Rc<LocalListener>) {
        loop {
            let stream = listener.accept().await;
            // Connections come as fast as a program can make them, and those that are refused end without a wait.
            breathe().await;
            let Some(uid) = stream.peer_uid() else { continue };
            instance.metrics.control_requests.add_one();
            let channel = SocketChannel::new(stream);
            match self.admit(&instance, uid) {
                Err(failure) => {
                    self.log(&instance, uid, &failure);
                    let _ = within(WORD_PATIENCE, channel.conclude(Err(failure))).await;
                }
                Ok((caller, turn)) => {
                    let (senders, instance) = (self.clone(), Rc::clone(&instance));
                    tasks.spawn("mail handed in", async move { senders.serve(&instance, (uid, caller), turn, channel).await });
                }
            }
        }
    }

    /// Who it is and his turn for a place, or why there is nothing for him to wait for.
    fn admit(&self, instance: &Instance, uid: u32) -> Result<(Caller, Turn), Failure> {
        let caller = match self.0.users.name(uid) {
            _ if is_owner(uid) => Caller::Owner,
            Some(name) => Caller::User(name),
            None => {
                let error = format!("the user number {uid} has no name here");
                let hint = "if the user is new, restart the server: it could not read /etc/passwd again";
                return Err(refused(error, hint, NO_PERMISSION));
            }
        };
        let settings = instance.live.current();
        instance.store.read(|reader| send::admit(reader, &settings, &caller))??;
        let quota = if caller == Caller::Owner { Quota::Unlimited } else { Quota::Own };
        let turn = self.0.places.queue(uid, quota).map_err(no_place)?;
        Ok((caller, turn))
    }

    async fn serve(&self, instance: &Instance, (uid, caller): (u32, Caller), turn: Turn, mut channel: SocketChannel) {
        let outcome = match turn.place(PLACE_PATIENCE).await {
            Err(why) => Err(no_place(why)),
            Ok(_place) => {
                let taking = within(LONGEST_SENDING, take(instance, &caller, &mut channel)).await;
                taking.unwrap_or_else(|_| Err(refused("the message took longer than ten minutes", "try again", TRY_LATER)))
            }
        };
        if let Err(failure) = &outcome {
            self.log(instance, uid, failure);
        }
        channel.conclude(outcome).await;
    }

    fn log(&self, instance: &Instance, uid: u32, failure: &Failure) {
        if let Some(quiet) = self.0.hush.may_speak(instance.clock.instant()) {
            let more = if quiet > 0 { format!(" ({quiet} more refusals before this were not logged)") } else { String::new() };
            info!("mail handed in by uid {uid} was refused: {}{more}", failure.error);
        }
    }
}

fn no_place(why: NoPlace) -> Failure {
    let (error, hint) = match why {
        NoPlace::UserBusy => (
            format!("{PLACES_OF_A_USER} other messages of this user are being handed in, which is the most for one, and they do not end"),
            "try again later, and look for programs of yours that hang while they send",
        ),
        NoPlace::UserQueueFull => (
            format!("too many messages of this user wait to be taken; {PLACES_OF_A_USER} are taken at once"),
            "try again in a minute, one after the other",
        ),
        NoPlace::Busy => {
            (format!("{PLACES} messages are being handed in, which is the most, and they do not end"), "try again in a minute")
        }
        NoPlace::QueueFull => (format!("too many messages wait to be taken; {PLACES} are taken at once"), "try again in a minute"),
    };
    refused(error, hint, TRY_LATER)
}

async fn take(instance: &Instance, caller: &Caller, channel: &mut SocketChannel) -> Result<(), Failure> {
    let line = channel.read_line().await?;
    let Command::Send(request) = Command::parse(&line)? else {
        let error = "this socket takes mail and nothing else";
        return Err(refused(error, "commands go to pipit.sock beside it", NO_PERMISSION));
    };
    handed_in::take(instance, caller, request, channel).await
}

/// Keeps the log readable.
#[derive(Default)]
struct Hush {
    until: Cell<Option<Instant>>,
    quiet: Cell<u64>,
}

impl Hush {
    /// How many were passed over since the last; `None`: this one is, too.
    fn may_speak(&self, now: Instant) -> Option<u64> {
        if self.until.get().is_some_and(|until| now < until) {
            self.quiet.set(self.quiet.get() + 1);
            return None;
        }
        self.until.set(Some(now + QUIET));
        Some(self.quiet.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_refusals_is_one_line_a_second() {
        let (hush, now) = (Hush::default(), Instant::now());
        assert_eq!(hush.may_speak(now), Some(0));
        assert_eq!((0..50).filter_map(|_| hush.may_speak(now)).count(), 0);
        assert_eq!(hush.may_speak(now + QUIET), Some(50));
        assert_eq!(hush.may_speak(now + QUIET * 2), Some(0));
    }
}

//! One question to one upstream, in the ways that it may need.
//!
//! What an upstream cannot do (EDNS, letter case, UDP) is worked around, and remembered. What its answer means is not looked
//! at here.

use std::time::Duration;
use std::time::Instant;

use ring::rand::SecureRandom;

use crate::net::resolver::Resolver;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::exchange;
use crate::net::resolver::exchange::ByUdp;
use crate::net::resolver::exchange::Echo;
use crate::net::resolver::exchange::ExchangeFault;
use crate::net::resolver::exchange::Reply;
use crate::net::resolver::exchange::Transport;
use crate::net::resolver::upstream::Upstream;
use crate::net::resolver::upstream::UpstreamAddress;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Asked;
use crate::proto::dns::question::Checking;
use crate::proto::dns::question::Dice;
use crate::proto::dns::question::Extension;
use crate::proto::dns::question::Letters;
use crate::proto::dns::question::Query;
use crate::proto::dns::reader::Message;

/// Longest wait for one answer by UDP, however often the patience was doubled.
pub(super) const MAX_PATIENCE: Duration = Duration::from_secs(4);
/// For connecting and the answer by TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// Ways to ask one upstream: as ever, without EDNS, with its cookie, in small letters.
const MAX_WAYS: usize = 4;

/// Why one upstream gave none.
pub(super) enum Fault {
    Useless(String),
    Silent,
    Network(String),
    /// The lookup has used up its queries or time.
    Spent,
}

/// One question to one upstream.
pub(super) struct Asking<'a> {
    pub upstream: &'a UpstreamAddress,
    pub name: &'a Name,
    pub kind: RecordType,
    pub checking: Checking,
    pub patience: Duration,
}

/// A readable, whole message that answers the question.
pub(super) struct Heard {
    pub octets: Vec<u8>,
    /// It came without EDNS.
    plain: bool,
}

impl Heard {
    pub fn message(&self) -> Message<'_> {
        Message::read(&self.octets).expect("it was read before")
    }
}

/// Whether to offer EDNS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Edns,
    Plain,
}

impl Resolver {
    /// Asks one upstream in the ways that it may need.
    pub(super) async fn attempt(&self, asking: &Asking<'_>, budget: &mut Budget) -> Result<Heard, Fault> {
        let plain = self
            .upstream(asking.upstream, |upstream| upstream.is_plain(self.now()))
            .ok_or(Fault::Useless("is not used any more".into()))?;
        let mut offer = if plain { Offer::Plain } else { Offer::Edns };
        let mut by = Transport::Udp;
        for _ in 0..MAX_WAYS {
            let Some(reply) = self.exchange(asking, offer, by, budget).await? else { continue };
            let message = Message::read(&reply.octets).map_err(|fault| self.fail(asking, fault.to_string()))?;
            self.keep_cookie(asking, &message);
            match message.rcode() {
                Rcode::FORM_ERR | Rcode::NOT_IMP | Rcode::BAD_VERS if offer == Offer::Edns => {
                    offer = Offer::Plain;
                    continue;
                }
                Rcode::BAD_COOKIE if by == Transport::Udp => {
                    by = Transport::Tcp;
                    continue;
                }
                _ => {}
            }
            drop(message);
            return Ok(Heard { octets: reply.octets, plain: offer == Offer::Plain });
        }
        Err(self.fail(asking, "needs too many tries".to_owned()))
    }

    /// One query and its answer; `None`: ask again, something was learnt about the upstream.
    async fn exchange(&self, asking: &Asking<'_>, offer: Offer, by: Transport, budget: &mut Budget) -> Result<Option<Reply>, Fault> {
        let waiting = budget.deadline.within(MAX_PATIENCE, self.0.gate.acquire()).await;
        let _permit = waiting.map_err(|_| Fault::Spent)?;
        let mut folded = Echo::AsSent;
        if by == Transport::Udp {
            let query = self.query_for(asking, offer, budget)?;
            let begun = Instant::now();
            match exchange::by_udp(*asking.upstream, &query, budget.deadline.shorten(asking.patience)).await {
                Ok(ByUdp::Reply(reply)) => {
                    self.upstream(asking.upstream, |upstream| upstream.note_answer(begun.elapsed()));
                    return Ok(Some(reply));
                }
                Ok(ByUdp::AskTcp(echo)) => folded = echo,
                Err(fault) => return Err(self.fault(asking, fault)),
            }
        }
        let query = self.query_for(asking, offer, budget)?;
        match exchange::by_tcp(*asking.upstream, &query, budget.deadline.shorten(TCP_PATIENCE)).await {
            Ok(reply) => {
                self.upstream(asking.upstream, |upstream| {
                    upstream.note_answer(upstream.patience() / 3);
                    if folded == Echo::Folded && reply.letters == Echo::Folded {
                        upstream.letters = Letters::Small;
                    }
                });
                Ok(Some(reply))
            }
            // No TCP, and letters that came back folded: better small letters than no answers.
            Err(_) if folded == Echo::Folded => {
                self.upstream(asking.upstream, |upstream| upstream.letters = Letters::Small);
                Ok(None)
            }
            Err(fault) => Err(self.fault(asking, fault)),
        }
    }

    fn query_for(&self, asking: &Asking<'_>, offer: Offer, budget: &mut Budget) -> Result<Query, Fault> {
        budget.queries = budget.queries.checked_sub(1).ok_or(Fault::Spent)?;
        self.0.metrics.dns_queries.add_one();
        let mut octets = [0; 34];
        self.0.random.fill(&mut octets).map_err(|_| Fault::Network("this machine gives no random numbers".to_owned()))?;
        let (id, letters) = octets.split_at(2);
        let dice = Dice { id: u16::from_be_bytes([id[0], id[1]]), letters: letters.try_into().expect("32 of 34 octets are left") };
        let (letters, cookie) = self
            .upstream(asking.upstream, |upstream| (upstream.letters, upstream.cookie.clone()))
            .ok_or(Fault::Useless("is not used any more".into()))?;
        let extension = match offer {
            Offer::Edns => Extension::Edns { cookie: &cookie },
            Offer::Plain => Extension::Plain,
        };
        Ok(Query::new(&Asked { name: asking.name, kind: asking.kind, checking: asking.checking }, letters, extension, &dice))
    }

    fn keep_cookie(&self, asking: &Asking<'_>, message: &Message<'_>) {
        if let Some(edns) = message.edns() {
            self.upstream(asking.upstream, |upstream| upstream.keep_cookie(&edns.cookie));
        }
    }

    fn fail(&self, asking: &Asking<'_>, complaint: String) -> Fault {
        self.useless(asking.upstream, complaint.clone());
        Fault::Useless(complaint)
    }

    /// Counts a failure of an upstream.
    pub(super) fn useless(&self, address: &UpstreamAddress, complaint: String) {
        let now = self.now();
        self.upstream(address, |upstream| upstream.note_failure(complaint, now));
    }

    /// An upstream answered something of use: also that it answers without EDNS.
    pub(super) fn note_way(&self, address: &UpstreamAddress, heard: &Heard) {
        let now = self.now();
        self.upstream(address, |upstream| {
            if heard.plain && !upstream.is_plain(now) {
                upstream.set_plain(now);
            }
        });
    }

    fn fault(&self, asking: &Asking<'_>, fault: ExchangeFault) -> Fault {
        let fault = match fault {
            ExchangeFault::Unreadable(why) => return self.fail(asking, why),
            ExchangeFault::Silent => Fault::Silent,
            ExchangeFault::Network(error) => Fault::Network(error.to_string()),
        };
        let complaint = if let Fault::Network(why) = &fault { format!("cannot be reached ({why})") } else { "does not answer".to_owned() };
        self.useless(asking.upstream, complaint);
        fault
    }

    pub(super) fn upstream<T>(&self, address: &UpstreamAddress, with: impl FnOnce(&mut Upstream) -> T) -> Option<T> {
        self.0.pool.borrow_mut().get(*address).map(with)
    }

    pub(super) fn now(&self) -> Instant {
        self.0.clock.instant()
    }
}

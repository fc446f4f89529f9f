//! One question to one upstream, in the ways that it may need.
//!
//! By UDP first, with EDNS, a cookie and random letters. What the upstream cannot do is worked around and remembered: no
//! EDNS, folded letters, answers that do not arrive by UDP. A cookie that it rejects is renewed, then TCP shows who we are (RFC 7873
//! section 5.3). An upstream with TLS is asked over TLS and never otherwise. Which upstream is asked next, and what the answer means, is
//! not decided here.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use ring::rand::SecureRandom;

use crate::net::deadline::within;
use crate::net::resolver::Resolver;
use crate::net::resolver::ask::Budget;
use crate::net::resolver::exchange;
use crate::net::resolver::exchange::ByUdp;
use crate::net::resolver::exchange::Echo;
use crate::net::resolver::exchange::ExchangeFault;
use crate::net::resolver::exchange::Reply;
use crate::net::resolver::upstream::Upstream;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Checking;
use crate::proto::dns::question::Dice;
use crate::proto::dns::question::Extension;
use crate::proto::dns::question::Letters;
use crate::proto::dns::question::Query;
use crate::proto::dns::question::Question;
use crate::proto::dns::reader::Message;
use crate::proto::dns::upstream::UpstreamAddress;

/// Longest wait for one answer by UDP, however often the patience was doubled.
pub(super) const MAX_PATIENCE: Duration = Duration::from_secs(4);
/// For connecting and the answer by TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// Ways to ask one upstream: as ever, without EDNS, with its cookie, in small letters, by TCP.
const MAX_WAYS: usize = 5;

/// One question to one upstream.
pub(super) struct Asking<'a> {
    pub upstream: &'a UpstreamAddress,
    pub name: &'a Name,
    pub kind: RecordType,
    pub checking: Checking,
    pub patience: Duration,
}

/// Why one upstream gave no answer. The texts go behind its address.
#[derive(Debug)]
pub(super) enum Fault {
    Useless(String),
    Silent,
    Network(String),
    /// no TLS with who was meant
    Tls(String),
    /// The lookup has used up its queries or time.
    Spent,
}

/// A message that answers the question: whole, readable, of any meaning.
#[derive(Debug)]
pub(super) struct Heard {
    pub octets: Vec<u8>,
    offer: Offer,
}

const GONE: &str = "is not used any more";

fn gone() -> Fault {
    Fault::Useless(GONE.to_owned())
}

fn unnoted(fault: ExchangeFault) -> Fault {
    match fault {
        ExchangeFault::Unreadable(why) => Fault::Useless(why),
        ExchangeFault::Silent => Fault::Silent,
        ExchangeFault::Network(error) => Fault::Network(error.to_string()),
        ExchangeFault::Tls(why) => Fault::Tls(why),
    }
}

impl Heard {
    /// It came without EDNS.
    pub fn is_plain(&self) -> bool {
        self.offer == Offer::Plain
    }

    pub fn message(&self) -> Message<'_> {
        Message::read(&self.octets).expect("it was read before")
    }
}

/// Whether to offer EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Edns,
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    /// TCP, or TLS where the upstream has it
    Line,
}

impl Resolver {
    /// Asks one upstream in the ways that it may need. Failures are noted with the upstream, usefulness is not.
    pub(super) async fn attempt(&self, asking: &Asking<'_>, budget: &mut Budget) -> Result<Heard, Fault> {
        let now = self.now();
        let known = self.upstream(asking.upstream, |upstream| (upstream.is_plain(now), upstream.wants_tcp(asking.name, asking.kind, now)));
        let (plain, tcp) = known.ok_or_else(gone)?;
        let mut offer = if plain { Offer::Plain } else { Offer::Edns };
        let mut by = match asking.upstream {
            UpstreamAddress::Plain(_) if !tcp => Transport::Udp,
            UpstreamAddress::Plain(_) | UpstreamAddress::Tls { .. } => Transport::Line,
        };
        let mut cookies_rejected = 0;
        for _ in 0..MAX_WAYS {
            let Some(reply) = self.exchange(asking, offer, by, budget).await? else {
                by = Transport::Udp;
                continue;
            };
            let message = Message::read(&reply.octets).map_err(|fault| self.useless_now(asking, fault.to_string()))?;
            self.keep_cookie(asking, &message);
            match message.rcode() {
                Rcode::FORM_ERR | Rcode::NOT_IMP | Rcode::BAD_VERS if offer == Offer::Edns => offer = Offer::Plain,
                Rcode::BAD_COOKIE if by == Transport::Udp => {
                    cookies_rejected += 1;
                    if cookies_rejected > 1 {
                        by = Transport::Line;
                    }
                }
                _ => return Ok(Heard { octets: reply.octets, offer }),
            }
        }
        Err(self.useless_now(asking, "needs too many tries".to_owned()))
    }

    /// Whether it answers by TCP, for a probe: failures are not noted.
    pub(super) async fn attempt_by_tcp(&self, asking: &Asking<'_>, budget: &mut Budget) -> Result<Heard, Fault> {
        let mut query = self.query_for(asking, Offer::Edns, budget)?;
        let reply = self.by_line(asking, &mut query, budget).await.map_err(unnoted)?;
        Ok(Heard { octets: reply.octets, offer: Offer::Edns })
    }

    /// One query and its answer; `None`: ask again, something was learnt about the upstream.
    async fn exchange(&self, asking: &Asking<'_>, offer: Offer, by: Transport, budget: &mut Budget) -> Result<Option<Reply>, Fault> {
        let waiting = budget.deadline.within(MAX_PATIENCE, self.0.gate.acquire()).await;
        let _permit = waiting.map_err(|_| Fault::Spent)?;
        let mut folded = Echo::AsSent;
        if by == Transport::Udp {
            let query = self.query_for(asking, offer, budget)?;
            let begun = Instant::now();
            match exchange::by_udp(asking.upstream.socket(), &query, budget.deadline.shorten(asking.patience)).await {
                Ok(ByUdp::Reply(reply)) => {
                    self.upstream(asking.upstream, |upstream| {
                        upstream.note_answer(begun.elapsed());
                        upstream.note_udp_answer();
                    });
                    return Ok(Some(reply));
                }
                Ok(ByUdp::AskTcp(echo)) => folded = echo,
                Err(fault) => {
                    if matches!(fault, ExchangeFault::Silent) {
                        self.upstream(asking.upstream, |upstream| upstream.note_udp_silence(asking.name, asking.kind));
                    }
                    return Err(self.fault(asking, fault));
                }
            }
        }
        let mut query = self.query_for(asking, offer, budget)?;
        let begun = Instant::now();
        let answered = self.by_line(asking, &mut query, budget).await;
        let instead = by == Transport::Line && matches!(asking.upstream, UpstreamAddress::Plain(_));
        let now = self.now();
        match answered {
            Ok(reply) => {
                self.upstream(asking.upstream, |upstream| {
                    match by {
                        Transport::Udp => upstream.note_udp_answer(),
                        Transport::Line => upstream.note_answer(begun.elapsed()),
                    }
                    if instead {
                        upstream.note_tcp_instead(Some(begun.elapsed()), now);
                    }
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
            // It may have given cookies up, and have no TCP to say so: it is asked once more as if it had never given one.
            Err(_) if by == Transport::Udp && query.has_server_cookie() => {
                self.upstream(asking.upstream, Upstream::forget_cookie);
                Ok(None)
            }
            // It was tried because UDP had no answer: that there is no TCP either says no more.
            Err(fault) if instead => {
                self.upstream(asking.upstream, |upstream| upstream.note_tcp_instead(None, now));
                if let ExchangeFault::Network(_) = fault { Ok(None) } else { Err(self.fault(asking, fault)) }
            }
            Err(fault) => Err(self.fault(asking, fault)),
        }
    }

    /// On the kept connection. Nobody can be told from the time that it takes: it may be that of opening it.
    async fn by_line(&self, asking: &Asking<'_>, query: &mut Query, budget: &Budget) -> Result<Reply, ExchangeFault> {
        let line = self.upstream(asking.upstream, |upstream| Rc::clone(&upstream.line));
        let line = line.ok_or_else(|| ExchangeFault::Unreadable(GONE.to_owned()))?;
        let patience = budget.deadline.shorten(asking.patience.max(TCP_PATIENCE));
        let trust = self.0.trust.clone();
        within(patience, line.ask(query, &trust)).await.map_err(|_| ExchangeFault::Silent)?
    }

    fn query_for(&self, asking: &Asking<'_>, offer: Offer, budget: &mut Budget) -> Result<Query, Fault> {
        budget.queries = budget.queries.checked_sub(1).ok_or(Fault::Spent)?;
        self.0.metrics.dns_queries.add_one();
        let mut octets = [0; 34];
        self.0.random.fill(&mut octets).map_err(|_| Fault::Network("this machine gives no random numbers".to_owned()))?;
        let (id, letters) = octets.split_at(2);
        let dice = Dice { id: u16::from_be_bytes([id[0], id[1]]), letters: letters.try_into().expect("32 of 34 octets are left") };
        let (letters, cookie) = self.upstream(asking.upstream, |upstream| (upstream.letters, upstream.cookie.clone())).ok_or_else(gone)?;
        // Under TLS chance in the letters is not needed, and a cookie would only tell who we are.
        let (letters, extension) = match (asking.upstream, offer) {
            (UpstreamAddress::Tls { .. }, Offer::Edns) => (Letters::Small, Extension::Padded),
            (UpstreamAddress::Tls { .. }, Offer::Plain) => (Letters::Small, Extension::Plain),
            (UpstreamAddress::Plain(_), Offer::Edns) => (letters, Extension::Edns { cookie: &cookie }),
            (UpstreamAddress::Plain(_), Offer::Plain) => (letters, Extension::Plain),
        };
        let question = Question { name: asking.name, kind: asking.kind, checking: asking.checking };
        Ok(Query::new(&question, letters, extension, &dice))
    }

    /// By UDP no answer comes here without the cookie of a server that gave one: then it was TCP.
    fn keep_cookie(&self, asking: &Asking<'_>, message: &Message<'_>) {
        self.upstream(asking.upstream, |upstream| match message.edns() {
            Some(edns) if !edns.cookie.is_empty() => upstream.keep_cookie(&edns.cookie),
            _ => upstream.forget_cookie(),
        });
    }

    fn useless_now(&self, asking: &Asking<'_>, complaint: String) -> Fault {
        self.useless(asking.upstream, complaint.clone());
        Fault::Useless(complaint)
    }

    fn fault(&self, asking: &Asking<'_>, fault: ExchangeFault) -> Fault {
        let (fault, complaint) = match fault {
            ExchangeFault::Unreadable(why) => return self.useless_now(asking, why),
            ExchangeFault::Silent => (Fault::Silent, "does not answer".to_owned()),
            ExchangeFault::Network(error) => (Fault::Network(error.to_string()), format!("cannot be reached ({error})")),
            ExchangeFault::Tls(why) => (Fault::Tls(why.clone()), format!("gives no TLS that can be trusted: {why}")),
        };
        self.useless(asking.upstream, complaint);
        fault
    }

    /// It failed, and may be left alone for a while.
    pub(super) fn useless(&self, upstream: &UpstreamAddress, complaint: String) {
        let now = self.now();
        self.upstream(upstream, |upstream| upstream.note_failure(complaint, now));
    }

    /// An upstream answered something of use: also that it answers without EDNS.
    pub(super) fn note_way(&self, address: &UpstreamAddress, heard: &Heard) {
        let now = self.now();
        self.upstream(address, |upstream| {
            if heard.offer == Offer::Plain && !upstream.is_plain(now) {
                upstream.set_plain(now);
            }
        });
    }

    /// `None`: the list has changed meanwhile.
    pub(super) fn upstream<T>(&self, address: &UpstreamAddress, with: impl FnOnce(&mut Upstream) -> T) -> Option<T> {
        self.0.pool.borrow_mut().get(address).map(with)
    }

    pub(super) fn now(&self) -> Instant {
        self.0.clock.instant()
    }
}

//! Follows the root's keys while the server runs: RFC 5011's active refresh (section 2.3), with what was learnt kept in the store.
//!
//! Nothing is asked for while a file of anchors is given, nor before the clock is confirmed. What is learnt holds at once;
//! the resolver is told when the believed keys change. A look that fails is repeated after an hour or more.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use log::info;
use log::warn;

use crate::admin::Instance;
use crate::admin::anchors;
use crate::config::settings::Settings;
use crate::mail::date::UnixTime;
use crate::net::clock::Certainty;
use crate::net::clock::Clock;
use crate::net::deadline::sleep;
use crate::net::resolver::Resolver;
use crate::net::resolver::TrustAd;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::ClockTrust;
use crate::proto::dns::dnssec::When;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::rollover::Look;
use crate::proto::dns::dnssec::rollover::Rollover;
use crate::proto::dns::dnssec::rollover::Turn;
use crate::proto::dns::name::Name;
use crate::store::Store;
use crate::store::anchors as stored;

/// How often it is looked whether the time for a look has come; the clock may be set meanwhile.
const STEP: Duration = Duration::from_secs(60);
/// No wait is longer (RFC 5011 section 2.3); one that is was written by a clock that went ahead.
const LONGEST_WAIT: i64 = 15 * 86_400;
/// What `status` calls it.
const ABOUT: &str = "anchors";

/// The root's keys as they are known, and the resolver that goes by them.
pub struct Keeper {
    resolver: Resolver,
    learnt: RefCell<Rollover>,
    /// Why the store's value cannot be read. It is left as it is, and nothing is looked for: a key that was revoked there would
    /// be forgotten otherwise.
    damage: Option<String>,
    /// what the resolver was told, and how many negative anchors had ended: the same again would make it forget everything
    told: RefCell<Option<(Rc<Anchors>, TrustAd, usize)>>,
}

impl Keeper {
    /// Takes what the store knows. The resolver believes accordingly from now on.
    pub fn begin(store: &Store, resolver: Resolver, settings: &Settings, now: UnixTime) -> Rc<Keeper> {
        let (learnt, damage) = match anchors::learnt(store) {
            Ok(learnt) => (learnt, None),
            Err(error) => {
                let text = format!(
                    "{error}; the built-in keys of the root are believed, one too that may have been revoked, and are not followed: restore a \
                     backup, or name a file with the root's keys in dns.trust-anchor"
                );
                (anchors::untaught(), Some(text))
            }
        };
        let keeper = Keeper { resolver, learnt: RefCell::new(learnt), damage, told: RefCell::default() };
        keeper.take(settings, now);
        Rc::new(keeper)
    }

    /// What is wrong with the store's value, while it matters.
    pub fn problem(&self, settings: &Settings) -> Option<String> {
        self.damage.clone().filter(|_| settings.dns.trust_anchor.is_none())
    }

    /// Believes what the settings say from now on. What was found below a negative anchor does not outlive it.
    pub fn take(&self, settings: &Settings, now: UnixTime) {
        let beliefs = anchors::beliefs(settings, &self.learnt.borrow());
        let ended = settings.dns.negative_anchors.iter().filter(|anchor| anchor.has_ended(now)).count();
        let told = Some((Rc::clone(&beliefs.policy.anchors), beliefs.trust_ad, ended));
        if self.told.replace(told.clone()) != told {
            self.resolver.set_beliefs(beliefs);
        }
    }

    fn is_due(&self, now: UnixTime) -> bool {
        self.learnt.borrow().next.is_none_or(|next| now.0 >= next.0 || next.0 > now.0 + LONGEST_WAIT)
    }

    /// Looks at the root's keys if the time for it has come and is known.
    pub async fn attend(&self, instance: &Instance) {
        let settings = instance.live.current();
        self.take(&settings, instance.clock.now());
        if settings.dns.trust_anchor.is_some() || self.damage.is_some() {
            return instance.tell(ABOUT, self.problem(&settings));
        }
        if confirmed(&instance.clock).is_some_and(|when| self.is_due(when.now)) {
            self.look(instance).await;
        }
    }

    /// Asks for the root's keys, and takes what they show.
    async fn look(&self, instance: &Instance) {
        let root = Name::root();
        let received = self.resolver.fetch(&root, RecordType::DNSKEY).await;
        let Some(when) = confirmed(&instance.clock) else { return };
        let mut learnt = self.learnt.borrow().clone();
        match received.as_ref().map(|received| received.set(&root, RecordType::DNSKEY)) {
            Ok(Some(set)) => {
                let (look, changes) = learnt.look(set, when);
                for change in changes {
                    match change.turn {
                        Turn::Appeared { .. } | Turn::Vanished | Turn::Accepted | Turn::Returned | Turn::Removed => {
                            info!("DNS root: {change}")
                        }
                        Turn::Missed | Turn::Revoked | Turn::Refused => warn!("DNS root: {change}"),
                    }
                }
                report(instance, &look);
            }
            // That nobody answers is told by the resolver.
            Ok(None) | Err(_) => learnt.fail(when.now),
        }
        self.keep(instance, learnt).await;
    }

    async fn keep(&self, instance: &Instance, learnt: Rollover) {
        let written = learnt.clone();
        let saved = instance.store.write(move |writer| stored::set_root(writer, &written)).await;
        if let Err(error) = saved {
            warn!("what was learnt about the root's keys could not be saved: {error}");
            // A key is believed once that is on the disk; one that was revoked is not believed any more at once.
            if learnt.believes_more_than(&self.learnt.borrow()) {
                return self.learnt.borrow_mut().fail(instance.clock.now());
            }
        }
        *self.learnt.borrow_mut() = learnt;
        self.take(&instance.live.current(), instance.clock.now());
    }
}

fn confirmed(clock: &Clock) -> Option<When> {
    let trusted = match clock.certainty() {
        Certainty::Confirmed => true,
        Certainty::Plausible | Certainty::Unknown => false,
    };
    trusted.then(|| When { now: clock.now(), clock: ClockTrust::Confirmed })
}

fn report(instance: &Instance, look: &Look) {
    match look {
        Look::NotNow => {}
        Look::Seen => instance.tell(ABOUT, None),
        Look::Unproved(why) => {
            warn!("DNS root: its keys could not be followed: {why}");
            let text = format!(
                "the keys of the DNS root could not be followed ({why}): if it stays, an upstream changes answers, or this program is too old"
            );
            instance.tell(ABOUT, Some(text));
        }
    }
}

/// Runs as long as the server.
pub async fn follow(instance: Rc<Instance>, keeper: Rc<Keeper>) {
    loop {
        keeper.attend(&instance).await;
        sleep(STEP).await;
    }
}

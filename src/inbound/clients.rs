//! What the machine asks about people: whether a login is right, a sender its own, a recipient somebody's.
//!
//! In goes a question of `proto::smtp::server`; out comes a verdict, and what it means is kept with the conversation: who
//! is in, who gets a copy, whom the message is sent on to. What is ours is decided by `admin::logins` and `intake`.

use log::info;
use log::warn;

use crate::admin::logins::Verdict;
use crate::config::settings::Settings;
use crate::inbound::serve::Conversation;
use crate::intake::recipients;
use crate::intake::recipients::Resolved;
use crate::intake::senders;
use crate::intake::senders::Ownership;
use crate::mail::address::Address;
use crate::mail::envelope::Recipient;
use crate::mail::path::ForwardPath;
use crate::mail::path::ReversePath;
use crate::metrics::RecipientOutcome;
use crate::proto::smtp::sasl::Attempt;
use crate::proto::smtp::server::KeysFound;
use crate::proto::smtp::server::LoginVerdict;
use crate::proto::smtp::server::RecipientVerdict;
use crate::proto::smtp::server::Role;
use crate::proto::smtp::server::SenderVerdict;
use crate::proto::smtp::server::SpaceVerdict;
use crate::store::Error;
use crate::store::queue::NewRecipient;
use crate::store::room;
use crate::store::room::Room;

impl Conversation {
    /// Salt and keys for a SCRAM login.
    pub(super) fn find_keys(&self, name: &str) -> KeysFound {
        match self.service.logins.keys(name) {
            Ok(credentials) => KeysFound::Found(credentials),
            Err(error) => {
                warn!("the keys of a login could not be looked up: {error}");
                KeysFound::TryLater
            }
        }
    }

    /// Judges a login; a "no" takes its time.
    pub(super) async fn check_login(&mut self, attempt: Attempt) -> LoginVerdict {
        match self.service.logins.check(attempt, self.peer.ip()).await {
            Verdict::Welcome(login) => {
                self.login = Some(Box::new(login));
                LoginVerdict::Accepted
            }
            Verdict::Refused => LoginVerdict::Refused,
            Verdict::Later => LoginVerdict::TryLater,
        }
    }

    /// Promise R15. The null path is for notices that a person's program sends (RFC 8098).
    pub(super) fn check_sender(&self, path: &ReversePath) -> SenderVerdict {
        let owned = match path {
            ReversePath::Null => Ok(Ownership::Own),
            ReversePath::Address(address) => self.owns([address]),
        };
        match owned {
            Ok(Ownership::Own) => SenderVerdict::Own,
            Ok(Ownership::Foreign) => {
                let who = self.login.as_ref().map(|login| login.address.to_string()).unwrap_or_default();
                info!("{who} at {} may not send as {path}", self.peer.ip());
                SenderVerdict::Foreign
            }
            Err(error) => {
                warn!("the sender {path} could not be looked up: {error}");
                SenderVerdict::TryLater
            }
        }
    }

    /// Whether all these addresses are the login's own; nobody's are without a login.
    pub(super) fn owns<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) -> Result<Ownership, Error> {
        let Some(login) = &self.login else { return Ok(Ownership::Foreign) };
        let settings = self.service.live.current();
        self.service.store.read(|reader| {
            for address in addresses {
                if senders::may_send_as(reader, &settings, login.account, address)? == Ownership::Foreign {
                    return Ok(Ownership::Foreign);
                }
            }
            Ok(Ownership::Own)
        })
    }

    pub(super) fn space(&self, declared: Option<u64>) -> SpaceVerdict {
        let min_free = self.service.live.current().limits.min_free;
        match room::in_store(&self.service.store, declared, min_free) {
            Ok(Room::Enough) => SpaceVerdict::Enough,
            Ok(Room::Short { available }) => {
                warn!("low disk: {available} octets left, refusing mail for now");
                SpaceVerdict::Short
            }
            Err(error) => {
                warn!("free space of the store's disk is unknown: {error}");
                SpaceVerdict::Enough
            }
        }
    }

    /// `postmaster@[our address]` is the postmaster; nobody else has a mailbox at an address.
    fn meant(&self, path: &ForwardPath) -> ForwardPath {
        match path {
            ForwardPath::Address(address)
                if address.domain.literal().is_some_and(|literal| self.local == Some(literal))
                    && address.local.as_str().eq_ignore_ascii_case("postmaster") =>
            {
                ForwardPath::Postmaster
            }
            other => other.clone(),
        }
    }

    pub(super) fn recipient(&mut self, recipient: Recipient) -> RecipientVerdict {
        let settings = self.service.live.current();
        let declared = self.session.envelope().and_then(|envelope| envelope.declared_size).unwrap_or(0);
        let meant = self.meant(&recipient.path);
        let path = recipient.path.clone();
        let resolved = self.service.store.read(|reader| recipients::resolve(reader, &settings, &meant, declared));
        let (outcome, verdict) = match resolved {
            Ok(Resolved::Here(found)) => {
                for destination in found {
                    // One copy an account, however many of its addresses were named.
                    if !self.destinations.iter().any(|other| other.account == destination.account) {
                        self.destinations.push(destination);
                    }
                }
                self.note_name(&settings, recipient);
                (RecipientOutcome::Accepted, RecipientVerdict::Accepted)
            }
            Ok(Resolved::Full) => (RecipientOutcome::Full, RecipientVerdict::MailboxFull),
            Ok(Resolved::Unknown) => (RecipientOutcome::Unknown, RecipientVerdict::UnknownUser),
            Ok(Resolved::NotLocal) => self.not_local(&settings, recipient),
            Err(error) => {
                warn!("recipient {path} could not be looked up: {error}");
                (RecipientOutcome::Later, RecipientVerdict::TryLater)
            }
        };
        self.service.metrics.recipients.add_one(outcome);
        if verdict != RecipientVerdict::Accepted {
            let sender = self.session.envelope().map(|envelope| envelope.reverse_path.to_string()).unwrap_or_default();
            info!("{} refused recipient {path} from {sender}: {outcome:?}", self.peer.ip());
        }
        verdict
    }

    /// Keeps whom a notice of success is to name. Without a login there is none: we would owe it to strangers.
    fn note_name(&mut self, settings: &Settings, recipient: Recipient) {
        let Recipient { path, notify, orcpt } = recipient;
        if self.login.is_none() || !notify.wants_success() {
            return;
        }
        let address = match path {
            ForwardPath::Address(address) => address,
            ForwardPath::Postmaster => Address { local: path.local(), domain: settings.hostname.clone() },
        };
        if !self.named.iter().any(|other| other.address == address) {
            self.named.push(NewRecipient { address, notify, orcpt });
        }
    }

    /// Mail for other hosts is taken from our own people only (promise R15), and not for names of this host itself, at
    /// which nobody has a mailbox: it would come back here.
    fn not_local(&mut self, settings: &Settings, recipient: Recipient) -> (RecipientOutcome, RecipientVerdict) {
        let Recipient { path: ForwardPath::Address(address), notify, orcpt } = recipient else {
            return (RecipientOutcome::Unknown, RecipientVerdict::UnknownUser);
        };
        if self.door.port.role() == Role::Exchange || self.login.is_none() {
            return (RecipientOutcome::NotLocal, RecipientVerdict::NotLocal);
        }
        let ourselves = address.domain == settings.hostname || (self.local.is_some() && address.domain.literal() == self.local);
        if ourselves {
            return (RecipientOutcome::Unknown, RecipientVerdict::UnknownUser);
        }
        if !self.remote.iter().any(|other| other.address == address) {
            self.remote.push(NewRecipient { address, notify, orcpt });
        }
        (RecipientOutcome::Remote, RecipientVerdict::Accepted)
    }
}

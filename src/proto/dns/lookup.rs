//! What the rest of the program sees of the DNS: `Lookup` asks, `Answer::judge` is the only way to the records.
//!
//! An answer is secure, insecure or failed (RFC 4035 section 4.3, RFC 7672 section 2.1.1), and the caller has a branch for
//! each: a failure never reads as "no records". CNAMEs have been followed; every link keeps its own state.
//! Implemented by `net::resolver::Resolver` and, for tests, by `table::Table`.

use std::fmt;
use std::future::Future;

pub use crate::proto::dns::ede::ExtendedError;
pub use crate::proto::dns::ede::InfoCode;
use crate::proto::dns::name::Name;
pub use crate::proto::dns::rdata::A;
pub use crate::proto::dns::rdata::Aaaa;
pub use crate::proto::dns::rdata::Cname;
pub use crate::proto::dns::rdata::Mx;
pub use crate::proto::dns::rdata::Ptr;
pub use crate::proto::dns::rdata::Rdata;
pub use crate::proto::dns::rdata::Record;
pub use crate::proto::dns::rdata::Tlsa;
pub use crate::proto::dns::rdata::Txt;

/// The one input from outside that decisions may wait for.
pub trait Lookup {
    /// All records of one type at `name`, or at the end of its CNAMEs. Ends within 10 s; dropping it is harmless.
    fn lookup<R: Record>(&self, name: &Name) -> impl Future<Output = Answer<R>>;

    /// Why no answer may turn mail away just now, for a reason of our own, in words (`delivery.md` 2.3). `None`: it may.
    fn doubt(&self) -> Option<String>;
}

/// RFC 4035 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidationState {
    /// A chain of signatures leads from a trust anchor to the answer.
    Secure,
    /// Proved not to be signed, or below no trust anchor.
    Insecure,
    /// Should be signed, and is not, or wrongly.
    Bogus,
    /// The proof, or the answer, could not be fetched.
    Indeterminate,
}

impl fmt::Display for ValidationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValidationState::Secure => "secure",
            ValidationState::Insecure => "insecure",
            ValidationState::Bogus => "bogus",
            ValidationState::Indeterminate => "indeterminate",
        })
    }
}

/// How an answer that can be used was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Secure,
    Insecure,
}

/// One CNAME that was followed (RFC 1034 section 3.6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub from: Name,
    pub to: Name,
    pub state: ValidationState,
}

/// The outcome of a lookup.
#[derive(Clone, Debug)]
pub struct Answer<R> {
    verdict: Verdict<R>,
    owner: Name,
    links: Vec<Link>,
    note: Option<String>,
}

#[derive(Clone, Debug)]
enum Verdict<R> {
    Found(Proof, Vec<R>),
    NoData(Proof),
    NoSuchName(Proof),
    Failed(Trouble),
}

/// What a caller must look at before it sees records.
#[derive(Debug)]
pub enum Judged<'a, R> {
    Secure(Found<'a, R>),
    Insecure(Found<'a, R>),
    Failed(&'a Trouble),
}

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, R> {
    /// at least one
    Records(&'a [R]),
    /// The name exists, without records of this type (RFC 2308 section 2.2).
    NoData,
    /// NXDOMAIN of the name, or of the end of its CNAMEs.
    NoSuchName,
}

/// The two states that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleState {
    Bogus,
    Indeterminate,
}

/// On whose side a lookup failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleCause {
    /// Servers or signatures of the zone that was asked about.
    Zone,
    /// Our own upstreams, network or clock: what waits for this does not grow older (`delivery.md` 2.3).
    Ours,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub state: TroubleState,
    pub cause: TroubleCause,
    /// the most telling first
    pub errors: Vec<ExtendedError>,
    /// the zone that failed, where that is known
    pub zone: Option<Name>,
}

impl Trouble {
    /// The zone's servers fail, for a reason in words.
    pub fn indeterminate(text: impl Into<String>) -> Trouble {
        Trouble::of(TroubleState::Indeterminate, TroubleCause::Zone, ExtendedError::new(InfoCode::OTHER, text))
    }

    /// The zone's signatures are wrong.
    pub fn bogus(text: impl Into<String>) -> Trouble {
        Trouble::of(TroubleState::Bogus, TroubleCause::Zone, ExtendedError::new(InfoCode::DNSSEC_BOGUS, text))
    }

    /// No upstream answers.
    pub fn unreachable(text: impl Into<String>) -> Trouble {
        Trouble::of(TroubleState::Indeterminate, TroubleCause::Ours, ExtendedError::new(InfoCode::NO_REACHABLE_AUTHORITY, text))
    }

    fn of(state: TroubleState, cause: TroubleCause, error: ExtendedError) -> Trouble {
        Trouble { state, cause, errors: vec![error], zone: None }
    }

    pub fn state(&self) -> ValidationState {
        match self.state {
            TroubleState::Bogus => ValidationState::Bogus,
            TroubleState::Indeterminate => ValidationState::Indeterminate,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.state, self.cause) {
            (TroubleState::Bogus, _) => "the answer is bogus",
            (TroubleState::Indeterminate, TroubleCause::Zone) => "the lookup failed",
            (TroubleState::Indeterminate, TroubleCause::Ours) => "the resolvers that this server uses do not answer",
        })?;
        if let Some(zone) = &self.zone {
            write!(f, " in {zone}")?;
        }
        for (n, error) in self.errors.iter().enumerate() {
            write!(f, "{} {error}", if n == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl<R: Record> Answer<R> {
    /// Records at `owner`; none at all is no data.
    pub fn records(owner: Name, proof: Proof, records: Vec<R>) -> Answer<R> {
        let verdict = if records.is_empty() { Verdict::NoData(proof) } else { Verdict::Found(proof, records) };
        Answer::new(owner, verdict)
    }

    pub fn no_data(owner: Name, proof: Proof) -> Answer<R> {
        Answer::new(owner, Verdict::NoData(proof))
    }

    pub fn no_such_name(owner: Name, proof: Proof) -> Answer<R> {
        Answer::new(owner, Verdict::NoSuchName(proof))
    }

    pub fn failed(owner: Name, trouble: Trouble) -> Answer<R> {
        Answer::new(owner, Verdict::Failed(trouble))
    }

    fn new(owner: Name, verdict: Verdict<R>) -> Answer<R> {
        Answer { verdict, owner, links: Vec::new(), note: None }
    }

    pub fn with_links(mut self, links: Vec<Link>) -> Answer<R> {
        self.links = links;
        self
    }

    pub fn with_note(mut self, note: impl Into<String>) -> Answer<R> {
        self.note = Some(note.into());
        self
    }

    /// The state, and behind it what there is. There is no other way to the records.
    pub fn judge(&self) -> Judged<'_, R> {
        let (proof, found) = match &self.verdict {
            Verdict::Found(proof, records) => (proof, Found::Records(records)),
            Verdict::NoData(proof) => (proof, Found::NoData),
            Verdict::NoSuchName(proof) => (proof, Found::NoSuchName),
            Verdict::Failed(trouble) => return Judged::Failed(trouble),
        };
        match proof {
            Proof::Secure => Judged::Secure(found),
            Proof::Insecure => Judged::Insecure(found),
        }
    }

    /// The state alone, for display and the like.
    pub fn state(&self) -> ValidationState {
        match self.judge() {
            Judged::Secure(_) => ValidationState::Secure,
            Judged::Insecure(_) => ValidationState::Insecure,
            Judged::Failed(trouble) => trouble.state(),
        }
    }

    /// The end of the CNAMEs; the name asked for if there were none.
    pub fn owner(&self) -> &Name {
        &self.owner
    }

    /// The CNAMEs from the name asked for to the owner.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Something to know about the state, in words.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stand_behind_the_state() {
        let owner = Name::parse("example.org").unwrap();
        let cname = Cname(owner.clone());
        let secure = Answer::records(owner.clone(), Proof::Secure, vec![cname.clone()]);
        assert!(matches!(secure.judge(), Judged::Secure(Found::Records([one])) if *one == cname));
        let none = Answer::<Cname>::records(owner.clone(), Proof::Insecure, Vec::new());
        assert!(matches!(none.judge(), Judged::Insecure(Found::NoData)));
        let mut trouble = Trouble::indeterminate("SERVFAIL");
        trouble.zone = Some(owner.clone());
        trouble.errors.push(ExtendedError::new(InfoCode::NETWORK_ERROR, ""));
        assert_eq!(trouble.to_string(), "the lookup failed in example.org.: Other Error (0): SERVFAIL; Network Error (23)");
        let failed = Answer::<Cname>::failed(owner, trouble);
        assert!(matches!(failed.judge(), Judged::Failed(trouble) if trouble.cause == TroubleCause::Zone));
        assert_eq!(failed.state(), ValidationState::Indeterminate);
    }
}

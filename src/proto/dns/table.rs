//! A `Lookup` that answers from lines of text: a zone as tests write it.
//!
//! ```text
//! ; comment
//! example.org.      300 MX 10 mx.example.org.   (TTL and final dots may be left out)
//! www.example.org.  CNAME example.org.          (followed, at most 11 links)
//! gone.example.     NXDOMAIN
//! x.example.        MX SERVFAIL                 (also BOGUS, TIMEOUT; without a type: for every type)
//! signed.example.   SECURE                      (everything at and below; all else is insecure)
//! DOUBT no resolver proves anything             (why nothing may be final)
//! ```
//! A name without records is NXDOMAIN, one that has others, or names below it, NODATA.

use std::cell::RefCell;
use std::rc::Rc;

use crate::proto::dns::MAX_LINKS;
use crate::proto::dns::RecordType;
use crate::proto::dns::lookup::Answer;
use crate::proto::dns::lookup::Link;
use crate::proto::dns::lookup::Lookup;
use crate::proto::dns::lookup::Proof;
use crate::proto::dns::lookup::Rdata;
use crate::proto::dns::lookup::Record;
use crate::proto::dns::lookup::Trouble;
use crate::proto::dns::lookup::ValidationState;
use crate::proto::dns::name::Name;
use crate::proto::dns::presentation;
use crate::proto::dns::reader::RawRecord;
use crate::proto::dns::text;

/// Of records whose line says nothing.
const DEFAULT_TTL: u32 = 300;

/// The zone. Clones share it, and the log of what was asked.
#[derive(Clone, Debug, Default)]
pub struct Table(Rc<Rows>);

#[derive(Debug, Default)]
struct Rows {
    records: Vec<RawRecord>,
    faults: Vec<(Name, Option<RecordType>, Fault)>,
    secure: Vec<Name>,
    doubt: Option<String>,
    asked: RefCell<Vec<(Name, RecordType)>>,
}

/// What a line says instead of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoSuchName,
    ServFail,
    Bogus,
    Timeout,
}

/// What the table has at one name, CNAMEs not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Records(Vec<RawRecord>),
    Cname(RawRecord),
    NoData,
    Fault(Fault),
}

impl Fault {
    fn parse(word: &str) -> Option<Fault> {
        Some(match word {
            "NXDOMAIN" => Fault::NoSuchName,
            "SERVFAIL" => Fault::ServFail,
            "BOGUS" => Fault::Bogus,
            "TIMEOUT" => Fault::Timeout,
            _ => return None,
        })
    }
}

impl Table {
    /// Reads the lines; the error names the first that is not understood.
    pub fn parse(lines: &str) -> Result<Table, String> {
        let mut rows = Rows::default();
        for line in lines.lines() {
            let words = text::words(line).ok_or_else(|| format!("a quote is open in \"{line}\""))?;
            if !words.is_empty() {
                rows.add(&words).ok_or_else(|| format!("\"{line}\" is not understood"))?;
            }
        }
        Ok(Table(Rc::new(rows)))
    }

    /// What was looked up so far, in order.
    pub fn asked(&self) -> Vec<(Name, RecordType)> {
        self.0.asked.borrow().clone()
    }

    /// What stands at `name`.
    pub fn find(&self, name: &Name, kind: RecordType) -> Step {
        let rows = &self.0;
        if let Some((.., fault)) = rows.faults.iter().find(|(at, of, _)| at == name && of.is_none_or(|of| of == kind)) {
            return Step::Fault(*fault);
        }
        let here = || rows.records.iter().filter(|record| record.owner == *name);
        let records: Vec<RawRecord> = here().filter(|record| record.rtype == kind || kind == RecordType::ANY).cloned().collect();
        if !records.is_empty() {
            return Step::Records(records);
        }
        if let Some(cname) = here().find(|record| record.rtype == RecordType::CNAME) {
            return Step::Cname(cname.clone());
        }
        let owners =
            rows.records.iter().map(|record| &record.owner).chain(rows.faults.iter().filter(|row| row.1.is_some()).map(|row| &row.0));
        if owners.into_iter().any(|owner| owner.is_at_or_below(name)) { Step::NoData } else { Step::Fault(Fault::NoSuchName) }
    }

    fn proof(&self, name: &Name) -> Proof {
        if self.0.secure.iter().any(|zone| name.is_at_or_below(zone)) { Proof::Secure } else { Proof::Insecure }
    }

    fn answer<R: Record>(&self, name: &Name) -> Answer<R> {
        let mut owner = name.clone();
        let mut links = Vec::new();
        let mut weakest = self.proof(name);
        loop {
            let cname = match self.find(&owner, R::TYPE) {
                Step::Records(records) => {
                    let records = records.iter().filter_map(|record| R::decode(&Rdata::alone(&record.rdata))).collect();
                    return Answer::records(owner, weakest, records).with_links(links);
                }
                Step::NoData => return Answer::no_data(owner, weakest).with_links(links),
                Step::Fault(Fault::NoSuchName) => return Answer::no_such_name(owner, weakest).with_links(links),
                Step::Fault(Fault::ServFail) => return failed(owner, links, Trouble::indeterminate("SERVFAIL")),
                Step::Fault(Fault::Bogus) => {
                    let trouble = Trouble { zone: Some(owner.clone()), ..Trouble::bogus("the table says so") };
                    return failed(owner, links, trouble);
                }
                Step::Fault(Fault::Timeout) => return failed(owner, links, Trouble::unreachable("no upstream answers")),
                Step::Cname(cname) => cname,
            };
            let target = Rdata::alone(&cname.rdata).cursor().name();
            let Some(to) = target.filter(|_| links.len() < MAX_LINKS) else {
                return failed(owner, links, Trouble::indeterminate("the CNAMEs do not end"));
            };
            let state = match self.proof(&owner) {
                Proof::Secure => ValidationState::Secure,
                Proof::Insecure => ValidationState::Insecure,
            };
            links.push(Link { from: owner, to: to.clone(), state });
            if self.proof(&to) == Proof::Insecure {
                weakest = Proof::Insecure;
            }
            owner = to;
        }
    }
}

fn failed<R: Record>(owner: Name, links: Vec<Link>, trouble: Trouble) -> Answer<R> {
    Answer::failed(owner, trouble).with_links(links)
}

impl Rows {
    fn add(&mut self, words: &[&str]) -> Option<()> {
        let (owner, mut rest) = words.split_first()?;
        if *owner == "DOUBT" {
            self.doubt = Some(rest.join(" "));
            return Some(());
        }
        let owner = Name::parse(owner).ok()?;
        match rest {
            ["SECURE"] => {
                self.secure.push(owner);
                return Some(());
            }
            [fault] => {
                self.faults.push((owner, None, Fault::parse(fault)?));
                return Some(());
            }
            _ => {}
        }
        let mut ttl = DEFAULT_TTL;
        if let Some((Ok(written), behind)) = rest.split_first().map(|(word, behind)| (word.parse(), behind)) {
            (ttl, rest) = (written, behind);
        }
        if rest.first() == Some(&"IN") {
            rest = &rest[1..];
        }
        let (rtype, data) = rest.split_first()?;
        let rtype = RecordType::parse(rtype)?;
        if let [fault] = data
            && let Some(fault) = Fault::parse(fault)
        {
            self.faults.push((owner, Some(rtype), fault));
            return Some(());
        }
        let rdata = presentation::parse_rdata(rtype, &data.join(" "))?;
        self.records.push(RawRecord { owner, rtype, ttl, rdata });
        Some(())
    }
}

impl Lookup for Table {
    async fn lookup<R: Record>(&self, name: &Name) -> Answer<R> {
        self.0.asked.borrow_mut().push((name.clone(), R::TYPE));
        self.answer(name)
    }

    fn doubt(&self) -> Option<String> {
        self.0.doubt.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::lookup::A;
    use crate::proto::dns::lookup::Found;
    use crate::proto::dns::lookup::Judged;
    use crate::proto::dns::lookup::Mx;
    use crate::proto::dns::lookup::TroubleCause;
    use crate::proto::dns::lookup::TroubleState;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn lookup<R: Record>(table: &Table, at: &str) -> Answer<R> {
        table.answer(&name(at))
    }

    #[test]
    fn a_table_answers_as_it_says() {
        let table = Table::parse(
            "; two hosts
            example.org. 60 IN MX 10 mx.example.org. ; the first
            example.org MX 20 mx2.example.org
            a.b.example.org. A 192.0.2.1
            www.example.org. CNAME a.b.example.org.
            broken.example. MX SERVFAIL
            dark.example. TIMEOUT
            forged.example. TXT BOGUS
            example.org. SECURE",
        )
        .unwrap();
        assert!(
            matches!(lookup::<Mx>(&table, "EXAMPLE.org").judge(), Judged::Secure(Found::Records([first, _])) if first.preference == 10)
        );
        assert!(matches!(lookup::<A>(&table, "example.org").judge(), Judged::Secure(Found::NoData)));
        assert!(matches!(lookup::<A>(&table, "b.example.org").judge(), Judged::Secure(Found::NoData)));
        assert!(matches!(lookup::<A>(&table, "c.example.org").judge(), Judged::Secure(Found::NoSuchName)));
        assert!(matches!(lookup::<A>(&table, "example.net").judge(), Judged::Insecure(Found::NoSuchName)));
        let www = lookup::<A>(&table, "www.example.org");
        assert!(matches!(www.judge(), Judged::Secure(Found::Records([_]))));
        assert_eq!((www.owner(), www.links().len()), (&name("a.b.example.org"), 1));
        let judged = lookup::<Mx>(&table, "broken.example");
        assert!(matches!(judged.judge(), Judged::Failed(Trouble { cause: TroubleCause::Zone, state: TroubleState::Indeterminate, .. })));
        assert!(matches!(lookup::<A>(&table, "broken.example").judge(), Judged::Insecure(Found::NoData)));
        assert!(matches!(lookup::<A>(&table, "dark.example").judge(), Judged::Failed(Trouble { cause: TroubleCause::Ours, .. })));
    }

    #[test]
    fn chains_are_followed_eleven_links_far_and_keep_each_state() {
        let mut lines: String = (0..20).map(|n| format!("n{n}.x CNAME n{}.x\n", n + 1)).collect();
        lines.push_str("n20.x A 192.0.2.1\nloop.x CNAME loop.x\nsigned CNAME n18.x\nsigned SECURE");
        let table = Table::parse(&lines).unwrap();
        assert_eq!(lookup::<A>(&table, "n9.x").links().len(), MAX_LINKS);
        assert!(matches!(lookup::<A>(&table, "n9.x").judge(), Judged::Insecure(Found::Records(_))));
        assert!(matches!(lookup::<A>(&table, "n8.x").judge(), Judged::Failed(_)));
        assert!(matches!(lookup::<A>(&table, "loop.x").judge(), Judged::Failed(_)));
        let mixed = lookup::<A>(&table, "signed");
        assert!(matches!(mixed.judge(), Judged::Insecure(Found::Records(_))));
        assert_eq!(
            mixed.links().iter().map(|link| link.state).collect::<Vec<_>>(),
            [ValidationState::Secure, ValidationState::Insecure, ValidationState::Insecure]
        );
    }

    #[test]
    fn lines_that_are_not_understood_are_named() {
        for line in ["example.org", "example.org MX", "example.org MX mx", "a..b A 1.2.3.4", "x. TXT \"a", "x. NOTATYPE 1"] {
            assert!(Table::parse(line).unwrap_err().contains(line), "{line}");
        }
    }
}

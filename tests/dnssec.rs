//! Plays every scenario of `tests/dnssec/` through the walk, with a clock that stands still.
//!
//! `answers.txt` holds what servers of really signed zones say (`make.py` made it); a scenario changes some of it, asks one
//! question and says what must come out. `tests/dnssec/README.md` has the format. A question without a line in answers.txt
//! is answered SERVFAIL.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::HashMap;
use std::rc::Rc;

use pipit::mail::date::UnixTime;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::ClockTrust;
use pipit::proto::dns::dnssec::Sha1;
use pipit::proto::dns::dnssec::When;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::canonical;
use pipit::proto::dns::dnssec::rrset::Received;
use pipit::proto::dns::dnssec::walk::Action;
use pipit::proto::dns::dnssec::walk::Found;
use pipit::proto::dns::dnssec::walk::Input;
use pipit::proto::dns::dnssec::walk::Outcome;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::dnssec::walk::Trust;
use pipit::proto::dns::dnssec::walk::Verdict;
use pipit::proto::dns::dnssec::walk::Walk;
use pipit::proto::dns::lookup::Trouble;
use pipit::proto::dns::lookup::ValidationState;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::RawRecord;

#[path = "dnssec/world.rs"]
mod world;

use world::Question;
use world::Said;
use world::World;
use world::folder;
use world::question;
use world::rcode;
use world::world;

/// Fewer scenarios than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 80;
/// 2026-07-01T00:00:00Z, the middle of what the signatures allow.
const NOW: i64 = 1_782_864_000;

type Change = Box<dyn Fn(&mut RawRecord)>;

/// `A`, or `RRSIG(A)` for the signatures over A; with an owner, or `*` for any.
struct Which<'a> {
    owner: Option<Name>,
    kind: &'a str,
}

impl Which<'_> {
    fn new<'a>(owner: &str, kind: &'a str) -> Which<'a> {
        Which { owner: (owner != "any").then(|| Name::parse(owner).unwrap()), kind }
    }

    fn is(&self, record: &RawRecord) -> bool {
        let kind = match record.rtype {
            RecordType::RRSIG => format!("RRSIG({})", RecordType(u16::from_be_bytes([record.rdata[0], record.rdata[1]]))),
            kind => kind.to_string(),
        };
        let (wanted, algorithm) = self.kind.split_once('/').map_or((self.kind, None), |(kind, number)| (kind, number.parse::<u8>().ok()));
        (kind == wanted || wanted == "RRSIG" && record.rtype == RecordType::RRSIG)
            && algorithm.is_none_or(|number| record.rdata[2] == number)
            && self.owner.as_ref().is_none_or(|owner| *owner == record.owner)
    }
}

struct Scene {
    world: World,
    now: i64,
    clock: ClockTrust,
    sha1: Sha1,
    negative: Vec<Name>,
    known: Vec<Rc<pipit::proto::dns::dnssec::walk::Zone>>,
    verdict: Option<Rc<Verdict>>,
    asked: Vec<Question>,
    pauses: usize,
    failing: HashMap<Question, Trouble>,
}

impl Scene {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["now", seconds] => self.now = seconds.parse().map_err(|_| "unknown time")?,
            ["clock", "plausible"] => self.clock = ClockTrust::Plausible,
            ["sha1", "accepted"] => self.sha1 = Sha1::Accepted,
            ["anchor", "none"] => self.world.anchors = String::new(),
            ["anchor", ..] => self.world.anchors = format!("{}\n", &line[7..]),
            ["also-anchor-of", zone] => self.also_anchor_of(zone)?,
            ["also-anchor", ..] => self.world.anchors += &format!("{}\n", &line[12..]),
            ["negative", name] => self.negative.push(Name::parse(name).map_err(|e| e.to_string())?),
            ["fail", name, rtype] => {
                self.failing.insert(question(&[name, rtype]), Trouble::unreachable("no upstream"));
            }
            ["lookup", name, rtype] => self.lookup(question(&[name, rtype])),
            ["keep"] => self.known = self.verdict.as_ref().ok_or("no lookup yet")?.chain.clone(),
            ["drop" | "spoil" | "octet" | "shout" | "twice" | "backwards", ..] | ["ttl", _, _, _] => return self.change_records(&words),
            ["add" | "empty" | "reply" | "join", ..] | ["rcode", _, _, _] => return self.change_answer(&words),
            [..] => return self.expect(&words, line),
        }
        Ok(())
    }

    /// The keys that the zone shows.
    fn also_anchor_of(&mut self, zone: &str) -> Result<(), String> {
        let keys: Vec<String> = self.said(&[zone, "DNSKEY"])?.answer.iter().map(RawRecord::to_string).collect();
        let keys: Vec<&String> = keys.iter().filter(|line| line.contains(" DNSKEY 257 ")).collect();
        keys.iter().for_each(|key| self.world.anchors += &format!("{key}\n"));
        nonzero(keys.len())
    }

    /// In all answers, or in the one to a question.
    fn change_records(&mut self, words: &[&str]) -> Result<(), String> {
        if let ["drop", owner, kind, "from", name, rtype] = words {
            let which = Which::new(owner, kind);
            return nonzero(self.said(&[name, rtype])?.retain(|record| !which.is(record)));
        }
        let all = self.world.answers.values_mut();
        if let ["drop", owner, kind] = words {
            let which = Which::new(owner, kind);
            return nonzero(all.map(|said| said.retain(|record| !which.is(record))).sum());
        }
        let sections = all.flat_map(Said::sections);
        let (owner, kind, change): (_, _, Change) = match *words {
            ["spoil", owner, kind] => (owner, kind, Box::new(|record| *record.rdata.last_mut().unwrap() ^= 1)),
            ["ttl", owner, kind, seconds] => {
                let seconds = seconds.parse().map_err(|_| "unknown TTL")?;
                (owner, kind, Box::new(move |record| record.ttl = seconds))
            }
            ["octet", owner, kind, at, value] => {
                let (at, value): (usize, u8) = (at.parse().unwrap(), value.parse().unwrap());
                (owner, kind, Box::new(move |record| record.rdata[at] = value))
            }
            ["shout"] => return nonzero(sections.flatten().map(shout).count()),
            ["twice"] => return nonzero(sections.map(|section| section.extend(section.clone())).count()),
            ["backwards"] => return nonzero(sections.map(|section| section.reverse()).count()),
            _ => return Err("unknown change".into()),
        };
        let which = Which::new(owner, kind);
        nonzero(sections.flatten().filter(|record| which.is(record)).map(change).count())
    }

    fn change_answer(&mut self, words: &[&str]) -> Result<(), String> {
        match *words {
            ["rcode", name, rtype, code] => self.said(&[name, rtype])?.rcode = rcode(code),
            ["add", name, rtype, ref record @ ..] => {
                self.world.answers.entry(question(&[name, rtype])).or_insert(Said::empty()).add(&record.join(" "));
            }
            ["empty", name, rtype] => {
                self.world.answers.insert(question(&[name, rtype]), Said::empty());
            }
            ["reply", name, rtype, "as", other, kind] => {
                let said = self.said(&[other, kind])?.clone();
                self.world.answers.insert(question(&[name, rtype]), said);
            }
            ["join", name, rtype, "with", other, kind] => {
                let other = self.said(&[other, kind])?.clone();
                let said = self.said(&[name, rtype])?;
                said.rcode = other.rcode;
                said.authority.extend(other.authority);
                said.answer.extend(other.answer);
            }
            _ => return Err("unknown change".into()),
        }
        Ok(())
    }

    fn said(&mut self, words: &[&str]) -> Result<&mut Said, String> {
        self.world.answers.get_mut(&question(words)).ok_or_else(|| format!("no answer to {words:?}"))
    }

    fn lookup(&mut self, question: Question) {
        let mut anchors = if self.world.anchors.is_empty() { Anchors::none() } else { Anchors::parse(&self.world.anchors).unwrap() };
        for name in &self.negative {
            anchors = anchors.with_negative(name.clone(), None);
        }
        let policy = Policy { anchors: Rc::new(anchors), sha1: self.sha1, ..Policy::default() };
        let mut walk = Walk::new(question, &policy, When { now: UnixTime(self.now), clock: self.clock });
        (self.asked, self.pauses) = (Vec::new(), 0);
        let mut known = self.known.clone().into_iter();
        let mut input = known.next().map_or(Input::Continue, Input::Known);
        loop {
            input = match walk.handle(input) {
                Action::Done(verdict) => {
                    self.verdict = Some(verdict);
                    return;
                }
                Action::Pause => {
                    self.pauses += 1;
                    Input::Continue
                }
                Action::Ask { .. } if known.len() > 0 => Input::Known(known.next().unwrap()),
                Action::Ask { name, kind } => self.reply((name, kind)),
            };
        }
    }

    fn reply(&mut self, question: Question) -> Input {
        self.asked.push(question.clone());
        if let Some(trouble) = self.failing.get(&question) {
            return Input::Failed(trouble.clone());
        }
        let said = self.world.answers.get(&question).cloned().unwrap_or(Said { rcode: Rcode::SERV_FAIL, ..Said::empty() });
        Input::Answer(Received::new(said.rcode, said.answer, said.authority))
    }

    fn expect(&self, words: &[&str], line: &str) -> Result<(), String> {
        let verdict = self.verdict.as_ref().ok_or_else(|| format!("unknown line, or before the lookup: {line}"))?;
        let (expected, got) = match words {
            ["status", status] => (status.to_string(), verdict.state().to_string()),
            ["rcode", code] => (code.to_string(), verdict.rcode().to_string()),
            ["ede", codes @ ..] => {
                let got: Vec<String> = verdict.errors.iter().map(|error| error.code.0.to_string()).collect();
                (codes.join(" ").replace("none", ""), got.join(" "))
            }
            ["nodata"] => ("NoData".into(), found(verdict)),
            ["nosuchname"] => ("NoSuchName".into(), found(verdict)),
            ["records", count] => (count.to_string(), found(verdict)),
            ["record", ..] => {
                let expected = &line.trim()[7..];
                let Outcome::Proved { found: Found::Records(records), .. } = &verdict.outcome else {
                    return Err(format!("no records: {verdict:?}"));
                };
                let got: Vec<String> = records.iter().map(RawRecord::to_string).collect();
                if got.iter().any(|got| got == expected) {
                    return Ok(());
                }
                (expected.into(), got.join("\n"))
            }
            ["owner", name] => (name.to_string(), verdict.owner.to_string()),
            ["links", states @ ..] => {
                let got: Vec<String> = verdict.links.iter().map(|link| link.state.to_string()).collect();
                (states.join(" ").replace("none", ""), got.join(" "))
            }
            ["end", proof] => {
                let Outcome::Proved { proof: got, .. } = &verdict.outcome else { return Err(format!("no end: {verdict:?}")) };
                (proof.to_string(), format!("{got:?}").to_lowercase())
            }
            ["ttl", seconds] => (seconds.to_string(), verdict.ttl.to_string()),
            ["chain", names @ ..] => {
                let show = |zone: &Rc<pipit::proto::dns::dnssec::walk::Zone>| match zone.trust {
                    Trust::Keys { .. } => zone.name.to_string(),
                    Trust::Insecure { .. } => format!("({})", zone.name),
                };
                (names.join(" "), verdict.chain.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            ["asked", count] => (count.to_string(), self.asked.len().to_string()),
            ["zone", name] => {
                let Outcome::Failed(trouble) = &verdict.outcome else { return Err("it did not fail".into()) };
                (name.to_string(), trouble.zone.as_ref().map(Name::to_string).unwrap_or_default())
            }
            ["reason", ..] => {
                let expected = &line.trim()[7..];
                if verdict.reason.contains(expected) {
                    return Ok(());
                }
                (expected.into(), verdict.reason.clone())
            }
            _ => return Err(format!("unknown line: {line}")),
        };
        if expected == got {
            return Ok(());
        }
        Err(format!("expected {line}, got {got}; {}; asked {:?}", verdict.reason, self.asked))
    }
}

fn nonzero(count: usize) -> Result<(), String> {
    if count == 0 { Err("this changes nothing".into()) } else { Ok(()) }
}

/// The same record with all owners in capitals.
fn shout(record: &mut RawRecord) {
    record.owner = Name::parse(&record.owner.to_string().to_uppercase()).unwrap();
}

fn found(verdict: &Verdict) -> String {
    match &verdict.outcome {
        Outcome::Proved { found: Found::Records(records), .. } => records.len().to_string(),
        Outcome::Proved { found, .. } => format!("{found:?}"),
        Outcome::Failed(trouble) => trouble.to_string(),
    }
}

fn play(text: &str, world: &World) -> Result<(), String> {
    let mut scene = Scene {
        world: world.clone(),
        now: NOW,
        clock: ClockTrust::Confirmed,
        sha1: Sha1::Refused,
        negative: Vec::new(),
        known: Vec::new(),
        verdict: None,
        asked: Vec::new(),
        pauses: 0,
        failing: HashMap::new(),
    };
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        scene.line(line).map_err(|why| format!("line {}: {why}", at + 1))?;
    }
    if scene.verdict.is_none() { Err("nothing is looked up".into()) } else { Ok(()) }
}

#[test]
fn every_scenario_comes_out_as_written() {
    let world = world();
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt") && path.file_name().is_some_and(|name| name != "answers.txt"));
    files.sort();
    assert!(files.len() >= AT_LEAST, "only {} scenarios in {}", files.len(), folder().display());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| play(&std::fs::read_to_string(path).unwrap(), &world).err().map(|why| format!("{}: {why}", path.display())))
        .collect();
    assert!(failures.is_empty(), "{} of {} scenarios failed:\n{}", failures.len(), files.len(), failures.join("\n"));
}

#[test]
fn the_player_itself_is_strict() {
    let world = world();
    for (text, reason) in [
        ("", "nothing is looked up"),
        ("status secure", "before the lookup"),
        ("lookup www.p256.test. A\nstatus bogus", "expected"),
        ("lookup www.p256.test. A\nnonsense", "unknown"),
        ("drop www.p256.test. CAA", "changes nothing"),
        ("lookup www.p256.test. A\nrecord www.p256.test. 300 A 192.0.2.99", "expected"),
    ] {
        let why = play(text, &world).expect_err(text);
        assert!(why.contains(reason), "{text}: {why}");
    }
}

/// Lookups that are secure to their end; whatever is done to the answers on the way, they must not come out insecure, or
/// secure with other records.
const SECURE: [&str; 17] = [
    "www.p256.test. A",
    "p256.test. MX",
    "www.p256.test. MX",
    "nothing.p256.test. A",
    "one.wild.p256.test. A",
    "one.wild.p256.test. MX",
    "ent.p256.test. A",
    "alias.p256.test. A",
    "in3.p256.test. A",
    "www.dn.p256.test. A",
    "www.n3.test. A",
    "nothing.n3.test. A",
    "one.wild.n3.test. A",
    "www.n3.test. MX",
    "www.sub.p256.test. A",
    "www.mixed.test. A",
    "nx.compact.test. A",
];
/// Enough that each kind of change meets each kind of proof; the seed can be changed by hand.
const ROUNDS: u64 = 1500;

/// splitmix64
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// One change that somebody on the way can make.
fn meddle(said: &mut Said, all: &[Said], dice: &mut Dice) {
    let other = &all[dice.below(all.len())];
    let section = dice.below(2);
    match dice.below(9) {
        0 => *said = other.clone(),
        1 => said.rcode = [Rcode::NO_ERROR, Rcode::NX_DOMAIN, Rcode::SERV_FAIL][dice.below(3)],
        2 => said.authority = other.authority.clone(),
        3 => said.answer.extend(other.answer.iter().cloned()),
        4 => said.authority.extend(other.authority.iter().cloned()),
        5 => {
            said.retain(|record| record.rtype != RecordType::RRSIG);
        }
        6 => said.answer.clear(),
        change => {
            let records = &mut *said.sections()[section];
            if records.is_empty() {
                return;
            }
            let at = dice.below(records.len());
            match change {
                7 => drop(records.remove(at)),
                _ => {
                    let record = &mut records[at];
                    let octet = dice.below(record.rdata.len().max(1));
                    record.rdata.iter_mut().skip(octet).take(1).for_each(|octet| *octet ^= 1 << dice.below(8));
                }
            }
        }
    }
}

fn walk_through(question: &Question, anchors: &Rc<Anchors>, mut reply: impl FnMut(&Question) -> Said) -> Rc<Verdict> {
    let policy = Policy { anchors: Rc::clone(anchors), ..Policy::default() };
    let mut walk = Walk::new(question.clone(), &policy, When { now: UnixTime(NOW), clock: ClockTrust::Confirmed });
    let mut input = Input::Continue;
    loop {
        input = match walk.handle(input) {
            Action::Done(verdict) => return verdict,
            Action::Pause => Input::Continue,
            Action::Ask { name, kind } => {
                let said = reply(&(name, kind));
                Input::Answer(Received::new(said.rcode, said.answer, said.authority))
            }
        };
    }
}

/// The records at the end, without their TTL and the case of letters in names, which is not signed; none for a denial.
fn data(verdict: &Verdict) -> Vec<(Name, Vec<u8>)> {
    let Outcome::Proved { found: Found::Records(records), .. } = &verdict.outcome else { return Vec::new() };
    records.iter().map(|record| (record.owner.clone(), canonical::rdata(record.rtype, &record.rdata).into_owned())).collect()
}

#[test]
fn nobody_on_the_way_can_change_what_is_secure() {
    let world = world();
    let anchors = Rc::new(Anchors::parse(&world.anchors).unwrap());
    let mut questions: Vec<&Question> = world.answers.keys().collect();
    questions.sort();
    let all: Vec<Said> = questions.iter().map(|question| world.answers[*question].clone()).collect();
    let honest = |question: &Question| world.answers.get(question).cloned().unwrap_or(Said { rcode: Rcode::SERV_FAIL, ..Said::empty() });
    let mut survived = 0;
    for text in SECURE {
        let asked = question(&text.split(' ').collect::<Vec<_>>());
        let true_verdict = walk_through(&asked, &anchors, honest);
        assert_eq!(true_verdict.state(), ValidationState::Secure, "{text}");
        for round in 0..ROUNDS / SECURE.len() as u64 {
            let mut dice = Dice(round << 32 | asked.0.as_wire().len() as u64);
            let patience = dice.below(7);
            let mut count = 0;
            let verdict = walk_through(&asked, &anchors, |question| {
                let mut said = honest(question);
                count += 1;
                // One answer is meddled with, or all of them from some point on.
                if count > patience && (round % 2 == 0 || count == patience + 1) {
                    for _ in 0..=dice.below(2) {
                        meddle(&mut said, &all, &mut dice);
                    }
                }
                said
            });
            match verdict.state() {
                ValidationState::Secure => assert_eq!(data(&verdict), data(&true_verdict), "{text}, round {round}"),
                ValidationState::Insecure => panic!("{text}, round {round}: {verdict:?}"),
                ValidationState::Bogus | ValidationState::Indeterminate => {}
            }
            survived += usize::from(verdict.state() == ValidationState::Secure);
        }
    }
    // Neither everything nor nothing was harmless.
    assert!((ROUNDS as usize / 20..ROUNDS as usize * 19 / 20).contains(&survived), "{survived}");
}

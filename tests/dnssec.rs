//! Plays every scenario of `tests/dnssec/` through the walk, with a clock that stands still.
//!
//! `answers.txt` holds what servers of really signed zones say (`make.py` made it); a scenario changes some of it, asks one
//! question and says what must come out. `tests/dnssec/README.md` has the format. A question without a line in answers.txt
//! is answered SERVFAIL.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use pipit::mail::date::UnixTime;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::ClockTrust;
use pipit::proto::dns::dnssec::Sha1;
use pipit::proto::dns::dnssec::When;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::presentation::parse_record;
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
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::RawRecord;

/// Fewer scenarios than this mean that the folder was not found or was emptied.
const AT_LEAST: usize = 80;
/// 2026-07-01T00:00:00Z, the middle of what the signatures allow.
const NOW: i64 = 1_782_864_000;

type Question = (Name, RecordType);

/// What is said to one question.
#[derive(Clone, Debug)]
struct Said {
    rcode: Rcode,
    answer: Vec<RawRecord>,
    authority: Vec<RawRecord>,
}

/// What all servers say, and the root's anchor.
#[derive(Clone)]
struct World {
    anchors: String,
    answers: HashMap<Question, Said>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dnssec")
}

fn question(words: &[&str]) -> Question {
    (Name::parse(words[0]).unwrap(), RecordType::parse(words[1]).unwrap())
}

fn rcode(word: &str) -> Rcode {
    (0..24).map(Rcode).find(|code| code.to_string() == word).unwrap_or_else(|| panic!("rcode {word}"))
}

fn world() -> World {
    let text = std::fs::read_to_string(folder().join("answers.txt")).unwrap();
    let mut world = World { anchors: String::new(), answers: HashMap::new() };
    let mut current = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(';')) {
        if let Some(anchor) = line.strip_prefix("anchor ") {
            world.anchors += &format!("{anchor}\n");
        } else if let Some(asked) = line.strip_prefix("? ") {
            let words: Vec<&str> = asked.split(' ').collect();
            let said = Said { rcode: rcode(words[2]), answer: Vec::new(), authority: Vec::new() };
            world.answers.insert(question(&words), said);
            current = Some(question(&words));
        } else {
            let said = world.answers.get_mut(current.as_ref().unwrap()).unwrap();
            said.add(line);
        }
    }
    world
}

impl Said {
    /// A record line; `+` puts it into the authority section.
    fn add(&mut self, line: &str) {
        let record = |line: &str| parse_record(line).unwrap_or_else(|| panic!("no record: {line}"));
        match line.strip_prefix("+ ") {
            Some(line) => self.authority.push(record(line)),
            None => self.answer.push(record(line)),
        }
    }

    fn sections(&mut self) -> [&mut Vec<RawRecord>; 2] {
        [&mut self.answer, &mut self.authority]
    }
}

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
        let all = self.world.answers.values_mut();
        match words[..] {
            ["now", seconds] => self.now = seconds.parse().map_err(|_| "unknown time")?,
            ["clock", "plausible"] => self.clock = ClockTrust::Plausible,
            ["sha1", "accepted"] => self.sha1 = Sha1::Accepted,
            ["anchor", "none"] => self.world.anchors = String::new(),
            ["anchor", ..] => self.world.anchors = format!("{}\n", &line[7..]),
            ["also-anchor", ..] => self.world.anchors += &format!("{}\n", &line[12..]),
            ["negative", name] => self.negative.push(Name::parse(name).map_err(|e| e.to_string())?),
            // in all answers
            ["drop", owner, kind] => {
                let which = Which::new(owner, kind);
                let dropped: usize = all.map(|said| said.retain(|record| !which.is(record))).sum();
                nonzero(dropped)?;
            }
            // in the answer to one question
            ["drop", owner, kind, "from", name, rtype] => {
                let which = Which::new(owner, kind);
                nonzero(self.said(&[name, rtype])?.retain(|record| !which.is(record)))?;
            }
            ["spoil", owner, kind] => {
                let which = Which::new(owner, kind);
                let mut spoiled = 0;
                for record in all.flat_map(Said::sections).flatten().filter(|record| which.is(record)) {
                    *record.rdata.last_mut().unwrap() ^= 1;
                    spoiled += 1;
                }
                nonzero(spoiled)?;
            }
            ["ttl", owner, kind, seconds] => {
                let which = Which::new(owner, kind);
                let seconds = seconds.parse().map_err(|_| "unknown TTL")?;
                all.flat_map(Said::sections).flatten().filter(|record| which.is(record)).for_each(|record| record.ttl = seconds);
            }
            ["octet", owner, kind, at, value] => {
                let which = Which::new(owner, kind);
                let (at, value): (usize, u8) = (at.parse().unwrap(), value.parse().unwrap());
                all.flat_map(Said::sections).flatten().filter(|record| which.is(record)).for_each(|record| record.rdata[at] = value);
            }
            ["shout"] => all.flat_map(Said::sections).flatten().for_each(shout),
            ["twice"] => all.flat_map(Said::sections).for_each(|section| section.extend(section.clone())),
            ["backwards"] => all.flat_map(Said::sections).for_each(|section| section.reverse()),
            ["rcode", name, rtype, code] => self.said(&[name, rtype])?.rcode = rcode(code),
            ["add", name, rtype, ..] => {
                let record = line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
                self.world.answers.entry(question(&[name, rtype])).or_insert(Said::empty()).add(&record);
            }
            ["empty", name, rtype] => *self.world.answers.entry(question(&[name, rtype])).or_insert(Said::empty()) = Said::empty(),
            // the sections of another answer: instead of, or behind what is there
            ["reply", name, rtype, "as", other, kind] => {
                let said = self.said(&[other, kind])?.clone();
                self.world.answers.insert(question(&[name, rtype]), said);
            }
            ["join", name, rtype, "with", other, kind] => {
                let other = self.said(&[other, kind])?.clone();
                let said = self.said(&[name, rtype])?;
                (said.rcode, said.authority) = (other.rcode, [&said.authority[..], &other.authority].concat());
                said.answer.extend(other.answer);
            }
            ["fail", name, rtype] => {
                self.failing.insert(question(&[name, rtype]), Trouble::unreachable("no upstream"));
            }
            ["lookup", name, rtype] => self.lookup(question(&[name, rtype])),
            ["keep"] => self.known = self.verdict.as_ref().ok_or("no lookup yet")?.chain.clone(),
            [..] => return self.expect(&words, line),
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

impl Said {
    fn empty() -> Said {
        Said { rcode: Rcode::NO_ERROR, answer: Vec::new(), authority: Vec::new() }
    }

    /// How many were not kept.
    fn retain(&mut self, keep: impl Fn(&RawRecord) -> bool) -> usize {
        self.sections()
            .into_iter()
            .map(|section| {
                let before = section.len();
                section.retain(&keep);
                before - section.len()
            })
            .sum()
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

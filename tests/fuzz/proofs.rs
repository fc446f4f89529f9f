//! Proofs of DNSSEC: really signed answers, in which somebody on the way changes what he likes.
//!
//! An input is a program: the question, how the walk is set up, then changes of five octets each (which answer, what to
//! do, with what). No data may come out secure that the honest answers do not show as secure for the same question, and
//! nothing insecure whose chain is signed all the way. A walk ends, and stays within its limits.

use std::collections::HashMap;
use std::rc::Rc;

use pipit::mail::date::UnixTime;
use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::ClockTrust;
use pipit::proto::dns::dnssec::When;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::budget::Limits;
use pipit::proto::dns::dnssec::canonical;
use pipit::proto::dns::dnssec::rrset::Received;
use pipit::proto::dns::dnssec::rrset::RrSet;
use pipit::proto::dns::dnssec::walk::Action;
use pipit::proto::dns::dnssec::walk::Found;
use pipit::proto::dns::dnssec::walk::Input;
use pipit::proto::dns::dnssec::walk::Outcome;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::dnssec::walk::Verdict;
use pipit::proto::dns::dnssec::walk::Walk;
use pipit::proto::dns::dnssec::walk::Zone;
use pipit::proto::dns::lookup::ValidationState;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::RawRecord;

use crate::world::Question;
use crate::world::Said;
use crate::world::world;

pub const SEEDS: &[&[u8]] = &[
    b"\0\0\0\0",
    b"\x05\0\0\x01\x02\x00\x03\x04\x05",
    b"\x20\0\0\0\x00\x05\x20\x10\x10\x00\x06\x00\x00\x00",
    b"\x41\0\x01\0\x01\x07\x01\x02\x03\x01\x02\x03\x04\x05",
    b"\x60\0\x02\0\x03\x0a\x80\x10\x20\x00\x0b\x01\x00\x07\x02\x0c\x33\x44\x55",
    b"\x05\0\0\0\0\x10\x02\x01\x00\0\0\0\0\0",
    b"\x06\0\0\0\x08\x11\x01\x05\x02\x09\x10\x02\x03\x00",
    b"\x88\x01\0\x03\0\x0d\x01\x01\x01\0\x0e\x20\x01\x03\0\x08\x40\x02\x02",
];

/// 2026-07-01T00:00:00Z, the middle of what the signatures allow.
const NOW: i64 = 1_782_864_000;
/// Inputs that a walk takes at most: its questions, and a pause for each unit and hash.
const MAX_STEPS: usize = 60 + 200 + 256 + 2;

/// A question and what the honest answers to it prove.
struct Asked {
    question: Question,
    honest: Rc<Verdict>,
}

struct Stage {
    anchors: Rc<Anchors>,
    answers: HashMap<Question, Said>,
    asked: Vec<Asked>,
    /// all that is said, in a fixed order
    said: Vec<Said>,
    records: Vec<RawRecord>,
    /// each set that denies something with its signatures, and whose they are
    denials: Vec<(Name, Vec<RawRecord>)>,
    zones: Vec<Rc<Zone>>,
}

thread_local! {
    static STAGES: [Stage; 2] = [Stage::new(&[], None), Stage::new(&["signed.plain.test.", "sub.p256.test."], Some("p256.test."))];
}

impl Stage {
    /// With the keys of some zones as anchors, and one zone not believed.
    fn new(islands: &[&str], negative: Option<&str>) -> Stage {
        let world = world();
        let keys = islands.iter().flat_map(|zone| &world.answers[&crate::world::question(&[zone, "DNSKEY"])].answer);
        let keys: Vec<String> = keys.map(RawRecord::to_string).filter(|line| line.contains(" DNSKEY 257 ")).collect();
        let mut anchors = Anchors::parse(&(world.anchors.clone() + &keys.join("\n"))).expect("they are DS and DNSKEY lines");
        if let Some(zone) = negative {
            anchors = anchors.with_negative(Name::parse(zone).expect("it is written here"), None);
        }
        let anchors = Rc::new(anchors);
        let mut questions: Vec<Question> = world.answers.keys().cloned().collect();
        questions.sort();
        let said: Vec<Said> = questions.iter().map(|question| world.answers[question].clone()).collect();
        let records: Vec<RawRecord> = said.iter().flat_map(|said| said.answer.iter().chain(&said.authority)).cloned().collect();
        let denials = denials(&records);
        let mut stage = Stage { anchors, answers: world.answers, asked: Vec::new(), said, records, denials, zones: Vec::new() };
        for question in questions {
            let honest = stage.play(&question, &Program::default());
            for zone in &honest.chain {
                if stage.zones.iter().all(|known| known.name != zone.name) {
                    stage.zones.push(Rc::clone(zone));
                }
            }
            stage.asked.push(Asked { question, honest });
        }
        stage
    }

    fn honest(&self, question: &Question) -> Said {
        self.answers.get(question).cloned().unwrap_or(Said { rcode: Rcode::SERV_FAIL, ..Said::empty() })
    }

    fn play(&self, question: &Question, program: &Program<'_>) -> Rc<Verdict> {
        let meddle = |nth, said: Said, question: &Question| {
            let mut said = said;
            program.changes(nth).for_each(|change| self.meddle(&mut said, (&question.0, question.1), change));
            said
        };
        self.walk(question, program, meddle)
    }

    /// With the answers as `say` makes them of the honest ones; it gets the number of each, too.
    fn walk(&self, question: &Question, program: &Program<'_>, say: impl Fn(usize, Said, &Question) -> Said) -> Rc<Verdict> {
        let policy = Policy { anchors: Rc::clone(&self.anchors), ..Policy::default() };
        let mut walk = Walk::new(question.clone(), &policy, When { now: UnixTime(NOW), clock: program.clock() });
        let mut input = program.known(&self.zones).map_or(Input::Continue, Input::Known);
        let mut asked = 0;
        for _ in 0..MAX_STEPS {
            input = match walk.handle(input) {
                Action::Done(verdict) => return verdict,
                Action::Pause => Input::Continue,
                Action::Ask { name, kind } => {
                    let question = (name, kind);
                    let said = say(asked, self.honest(&question), &question);
                    asked += 1;
                    Input::Answer(Received::new(said.rcode, said.answer, said.authority))
                }
            };
        }
        panic!("{question:?} goes on and on");
    }

    /// What somebody on the way can do to the answer to `question`.
    fn meddle(&self, said: &mut Said, question: (&Name, RecordType), [_, what, a, b, c]: [u8; 5]) {
        let number = usize::from(a) << 8 | usize::from(b);
        let other = &self.said[number % self.said.len()];
        let foreign = &self.records[number % self.records.len()];
        let section = usize::from(c & 1);
        match what % 20 {
            0 => *said = other.clone(),
            1 => said.rcode = [Rcode::NO_ERROR, Rcode::NX_DOMAIN, Rcode(6), Rcode::SERV_FAIL][usize::from(a % 4)],
            2 => said.authority = other.authority.clone(),
            3 => said.answer.extend(other.answer.iter().cloned()),
            4 => said.authority.extend(other.authority.iter().cloned()),
            5 => drop(said.retain(|record| record.rtype != RecordType::RRSIG)),
            6 => said.sections()[section].clear(),
            7 => said.answer.extend(other.authority.iter().cloned()),
            8 => said.authority.extend(other.answer.iter().cloned()),
            // The proof of one name under another one's.
            9 => self.renamed(other, said, question.0, a),
            10 => said.sections()[section].push(foreign.clone()),
            11 => said.sections()[section].push(RawRecord { owner: question.0.clone(), ..foreign.clone() }),
            16.. => self.denied(said, question.0, [a, b, c]),
            _ => {
                let records = &mut *said.sections()[section];
                if records.is_empty() {
                    return;
                }
                let at = usize::from(a) % records.len();
                match what % 20 {
                    12 => drop(records.remove(at)),
                    13 => records[at].owner = [question.0, &foreign.owner][usize::from(c >> 1 & 1)].clone(),
                    14 => field(&mut records[at], foreign, (b, c >> 1)),
                    _ => records[at].rtype = foreign.rtype,
                }
            }
        }
    }

    /// Any choice of what a zone above the name denies.
    fn denied(&self, said: &mut Said, name: &Name, [zone, which, how]: [u8; 3]) {
        let above: Vec<Name> = canonical::upwards(name).collect();
        let zone = &above[usize::from(zone) % above.len()];
        let own = self.denials.iter().filter(|(signer, _)| signer == zone).map(|(_, set)| set);
        // The lower two bits say how many: all, or a half, a quarter, an eighth of them.
        let chosen = own.enumerate().filter(|(at, _)| (at * 7 + usize::from(which >> 2)) % (1 << (which & 3)) == 0);
        said.authority = chosen.flat_map(|(_, set)| set).cloned().collect();
        if how & 1 == 0 {
            said.answer.clear();
        }
        said.rcode = if how & 2 == 0 { Rcode::NX_DOMAIN } else { Rcode::NO_ERROR };
    }

    /// The sets of another answer, all those of one owner with the name that was asked for (as a wildcard would).
    fn renamed(&self, other: &Said, said: &mut Said, name: &Name, which: u8) {
        let mut other = other.clone();
        let owners: Vec<Name> = other.answer.iter().chain(&other.authority).map(|record| record.owner.clone()).collect();
        let Some(owner) = owners.get(usize::from(which) % owners.len().max(1)) else { return };
        for record in other.sections().into_iter().flatten().filter(|record| record.owner == *owner) {
            record.owner = name.clone();
        }
        *said = other;
    }

    /// Sets of the type that `zone` made from wildcards, or that are wildcards, with the name that was asked for.
    fn wildcards(&self, zone: &Name, question: &Question) -> Vec<(Rcode, Vec<RawRecord>)> {
        let all = Received::new(Rcode::NO_ERROR, self.records.iter().cloned(), []);
        let fits = |set: &&RrSet| {
            let signature = set.signatures.first().filter(|signature| signature.signer == *zone);
            let below = signature.is_some_and(|signature| usize::from(signature.labels) < canonical::label_count(&set.owner));
            below && [question.1, RecordType::CNAME].contains(&set.kind) && question.0.is_at_or_below(zone)
        };
        let sets = all.answer.iter().filter(fits).map(|set| {
            let of_set = |record: &&RawRecord| record.owner == set.owner && [set.kind, RecordType::RRSIG].contains(&record.rtype);
            let renamed = |record: &RawRecord| RawRecord { owner: question.0.clone(), ..record.clone() };
            (Rcode::NO_ERROR, self.records.iter().filter(of_set).map(renamed).collect())
        });
        sets.collect()
    }

    fn judge(&self, asked: &Asked, program: &Program<'_>) {
        Stage::check(asked, &self.play(&asked.question, program));
    }

    fn check(asked: &Asked, verdict: &Verdict) {
        let limits = Limits::default();
        let used = verdict.used;
        assert!(used.failures <= limits.failures && used.units <= limits.units && used.hashes <= limits.hashes, "{used:?}");
        assert!(used.questions <= limits.questions && verdict.links.len() <= 11, "{used:?}");
        let (question, honest) = (&asked.question, &asked.honest);
        match verdict.state() {
            ValidationState::Secure => {
                assert_eq!(honest.state(), ValidationState::Secure, "{question:?}: {verdict:?}");
                assert_eq!(data(verdict), data(honest), "{question:?}: {verdict:?}");
                assert_eq!(targets(verdict), targets(honest), "{question:?}: {verdict:?}");
                // A name that does not exist has no data; one that exists is not said to be missing.
                let missing = found(verdict) == Some(Found::NoSuchName);
                assert!(!missing || found(honest) == Some(Found::NoSuchName), "{question:?}: {verdict:?}");
            }
            ValidationState::Insecure => {
                // With more than 50 iterations a zone counts as unsigned as soon as anything is denied in it.
                let iterations = verdict.errors.iter().any(|error| error.code.0 == 27);
                // The honest answers may fail (a circle) below a zone that is insecure.
                let may_be = honest.state() != ValidationState::Secure && honest.chain.iter().any(|zone| zone.is_insecure());
                assert!(may_be || honest.state() == ValidationState::Insecure || iterations, "{question:?}: {verdict:?}");
                // What is proved to be signed remains so: no link before the first insecure one changes.
                for (link, honest) in verdict.links.iter().zip(&honest.links) {
                    if link.state == ValidationState::Insecure {
                        assert!(honest.state == ValidationState::Insecure || iterations, "{question:?}: {verdict:?}");
                        break;
                    }
                    assert_eq!((&link.to, link.state), (&honest.to, honest.state), "{question:?}: {verdict:?}");
                }
            }
            ValidationState::Bogus | ValidationState::Indeterminate => {}
        }
    }
}

fn denials(records: &[RawRecord]) -> Vec<(Name, Vec<RawRecord>)> {
    let mut sets: Vec<(Name, Vec<RawRecord>)> = Vec::new();
    let all = Received::new(Rcode::NO_ERROR, [], records.iter().cloned());
    for set in all.denials().filter(|set| !set.signatures.is_empty()) {
        let of_set = |record: &&RawRecord| {
            let covered = record.rdata.first_chunk::<2>().map(|octets| RecordType(u16::from_be_bytes(*octets)));
            record.owner == set.owner && (record.rtype == set.kind || record.rtype == RecordType::RRSIG && covered == Some(set.kind))
        };
        sets.push((set.signatures[0].signer.clone(), records.iter().filter(of_set).cloned().collect()));
    }
    sets
}

/// An input, taken apart.
#[derive(Default)]
struct Program<'a> {
    head: [u8; 2],
    body: &'a [u8],
}

impl<'a> Program<'a> {
    fn clock(&self) -> ClockTrust {
        if self.head[0] & 1 == 1 { ClockTrust::Plausible } else { ClockTrust::Confirmed }
    }

    /// A zone of another walk.
    fn known(&self, zones: &[Rc<Zone>]) -> Option<Rc<Zone>> {
        let at = usize::from(self.head[1].checked_sub(1)?);
        zones.get(at % zones.len().max(1)).cloned()
    }

    /// What is done to the answer `nth`.
    fn changes(&self, nth: usize) -> impl Iterator<Item = [u8; 5]> + 'a {
        let changes = self.body.as_chunks::<5>().0.iter().copied();
        changes.filter(move |change| usize::from(change[0] & 7) == nth || change[0] & 8 != 0 && nth >= usize::from(change[0] & 7))
    }
}

/// The octet at a place, one bit of it, or the fields of a signature that are not about time.
fn field(record: &mut RawRecord, foreign: &RawRecord, (place, bit): (u8, u8)) {
    let length = record.rdata.len().max(1);
    match bit % 10 {
        // labels, signer and all behind them
        8 => record.rdata.iter_mut().skip(3).take(1).for_each(|labels| *labels = place % 6),
        9 if record.rtype == foreign.rtype => record.rdata = foreign.rdata.clone(),
        bit => record.rdata.iter_mut().skip(usize::from(place) % length).take(1).for_each(|octet| *octet ^= 1 << (bit % 8)),
    }
}

/// The records at the end, without their TTL and the case of letters in names, which is not signed; none for a denial.
fn data(verdict: &Verdict) -> Vec<(Name, Vec<u8>)> {
    let Some(Found::Records(records)) = found(verdict) else { return Vec::new() };
    records.iter().map(|record| (record.owner.clone(), canonical::rdata(record.rtype, &record.rdata).into_owned())).collect()
}

fn found(verdict: &Verdict) -> Option<Found> {
    match &verdict.outcome {
        Outcome::Proved { found, .. } => Some(found.clone()),
        Outcome::Failed(_) => None,
    }
}

fn targets(verdict: &Verdict) -> Vec<&Name> {
    verdict.links.iter().map(|link| &link.to).collect()
}

/// Every question with each choice of proofs of each zone above it, and with what wildcards of that zone stand for: what no
/// blind change would meet soon.
pub fn systematically() {
    let stage = Stage::new(&[], None);
    let mut played = 0;
    // Keys are asked for on the way to everything else.
    for asked in stage.asked.iter().filter(|asked| asked.question.1 != RecordType::DNSKEY) {
        let zones = canonical::upwards(&asked.question.0).filter(|zone| stage.denials.iter().any(|(signer, _)| signer == zone));
        // The zone that the name is in, or that denies its DS, and the one above.
        for zone in zones.take(2) {
            let own: Vec<&Vec<RawRecord>> = stage.denials.iter().filter(|(signer, _)| *signer == zone).map(|(_, set)| set).collect();
            // As many as are looked at in one message, each choice overlapping the one before by half.
            for chosen in (0..own.len()).step_by(8).map(|from| &own[from..own.len().min(from + 16)]) {
                let authority: Vec<RawRecord> = chosen.iter().flat_map(|set| set.iter()).cloned().collect();
                let wildcards = stage.wildcards(&zone, &asked.question);
                for (rcode, answer) in [Rcode::NX_DOMAIN, Rcode::NO_ERROR].map(|rcode| (rcode, Vec::new())).into_iter().chain(wildcards) {
                    let said = Said { rcode, answer, authority: authority.clone() };
                    Stage::check(
                        asked,
                        &stage.walk(&asked.question, &Program::default(), |nth, honest, _| if nth == 0 { said.clone() } else { honest }),
                    );
                    played += 1;
                }
            }
        }
    }
    assert!(played > 1000, "{played}");
}

pub fn target(input: &[u8]) {
    let [question, low, clock, known, body @ ..] = input else { return };
    STAGES.with(|stages| {
        let stage = &stages[usize::from(clock >> 1 & 1)];
        let at = usize::from(*question) << 8 | usize::from(*low);
        let program = Program { head: [*clock, *known], body: &body[..body.len().min(40)] };
        stage.judge(&stage.asked[at % stage.asked.len()], &program);
    });
}

//! What the servers of `answers.txt` say: read once, changed by scenarios (`tests/dnssec.rs`) and by the fuzz target of
//! proofs (`tests/fuzz/proofs.rs`).

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::presentation::parse_record;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::RawRecord;

pub type Question = (Name, RecordType);

/// What is said to one question.
#[derive(Clone, Debug)]
pub struct Said {
    pub rcode: Rcode,
    pub answer: Vec<RawRecord>,
    pub authority: Vec<RawRecord>,
}

/// What all servers say, and the root's anchor.
#[derive(Clone)]
pub struct World {
    pub anchors: String,
    pub answers: HashMap<Question, Said>,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dnssec")
}

pub fn question(words: &[&str]) -> Question {
    (Name::parse(words[0]).unwrap(), RecordType::parse(words[1]).unwrap())
}

pub fn rcode(word: &str) -> Rcode {
    (0..24).map(Rcode).find(|code| code.to_string() == word).unwrap_or_else(|| panic!("rcode {word}"))
}

pub fn world() -> World {
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
    pub fn add(&mut self, line: &str) {
        let record = |line: &str| parse_record(line).unwrap_or_else(|| panic!("no record: {line}"));
        match line.strip_prefix("+ ") {
            Some(line) => self.authority.push(record(line)),
            None => self.answer.push(record(line)),
        }
    }

    pub fn sections(&mut self) -> [&mut Vec<RawRecord>; 2] {
        [&mut self.answer, &mut self.authority]
    }

    pub fn empty() -> Said {
        Said { rcode: Rcode::NO_ERROR, answer: Vec::new(), authority: Vec::new() }
    }

    /// How many were not kept.
    pub fn retain(&mut self, keep: impl Fn(&RawRecord) -> bool) -> usize {
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

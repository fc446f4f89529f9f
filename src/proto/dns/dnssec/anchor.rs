//! Trust anchors (RFC 4033 section 2, RFC 5011): keys of zones that are believed without proof, and zones never believed.
//!
//! The built-in ones are the DS records of the root's keys of 2017 and 2024, as IANA publishes them
//! (<https://data.iana.org/root-anchors/root-anchors.xml>; compared with the Debian package dns-root-data 2024071801).
//! A file of DS or DNSKEY lines replaces them. Keys that were revoked (RFC 5011 section 2.1) are no anchors.

use std::collections::HashMap;
use std::fmt;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::presentation::parse_record;
use crate::proto::dns::name::Name;

/// Key signing keys of the root: 20326 signs since 2018, 38696 is there since 2025.
const ROOT: &str = "\
. DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// What is believed of one zone; one record that fits its keys is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    pub ds: Vec<Ds>,
    pub keys: Vec<Dnskey>,
}

/// All that is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    positive: HashMap<Name, Anchor>,
    /// RFC 7646: the zone counts as unsigned, until a time if there is one.
    negative: HashMap<Name, Option<UnixTime>>,
}

/// RFC 7646: a zone that counts as unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegativeAnchor {
    pub zone: Name,
    /// from when on not any more; `None`: for good
    pub until: Option<UnixTime>,
}

impl NegativeAnchor {
    pub fn has_ended(&self, now: UnixTime) -> bool {
        self.until.is_some_and(|until| now.0 >= until.0)
    }

    /// `zone`, or `zone until YYYY-MM-DD`: until that day begins, UTC. Names with letters beyond ASCII are taken too.
    pub fn parse(text: &str) -> Result<NegativeAnchor, &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (zone, until) = match words[..] {
            [zone] => (zone, None),
            [zone, "until", day] => (zone, Some(parse_day(day).ok_or("there is no such day")?)),
            _ => return Err("it has too few or too many words"),
        };
        let ascii = if zone.is_ascii() { None } else { Domain::parse(zone).ok().and_then(|domain| Name::from_domain(&domain)) };
        let zone = ascii.map_or_else(|| Name::parse(zone), Ok).map_err(|_| "the zone is no name")?;
        if zone == Name::root() {
            return Err("the root would be all there is");
        }
        Ok(NegativeAnchor { zone, until })
    }
}

fn parse_day(text: &str) -> Option<UnixTime> {
    let numbers: Vec<&str> = text.split('-').collect();
    let [year, month, day] = numbers[..] else { return None };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    UnixTime::from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, 0)
}

/// A line of a file of anchors that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorFault {
    /// from 1; 0 if the file as a whole is meant
    pub line: usize,
    pub why: &'static str,
}

impl fmt::Display for AnchorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl std::error::Error for AnchorFault {}

impl Anchors {
    /// The root's.
    pub fn built_in() -> Anchors {
        Anchors::parse(ROOT).expect("the built-in anchors are two lines that were tried")
    }

    /// None at all: nothing can be proved, and every answer is indeterminate.
    pub fn none() -> Anchors {
        Anchors::default()
    }

    /// DS and DNSKEY lines in presentation form, one record a line or in parentheses; `;` begins a comment.
    pub fn parse(text: &str) -> Result<Anchors, AnchorFault> {
        let mut anchors = Anchors::none();
        for (line, record) in logical_lines(text) {
            let fault = |why| AnchorFault { line, why };
            let record = parse_record(&record).ok_or(fault("this is no DS or DNSKEY record in presentation form"))?;
            let anchor = anchors.positive.entry(record.owner).or_default();
            match record.rtype {
                RecordType::DS => anchor.ds.push(Ds::decode(&record.rdata).ok_or(fault("the DS record is too short"))?),
                RecordType::DNSKEY => {
                    let key = Dnskey::decode(&record.rdata).ok_or(fault("the DNSKEY record is too short"))?;
                    if !key.may_sign() {
                        return Err(fault("the key is revoked or no zone key, and cannot be an anchor"));
                    }
                    anchor.keys.push(key);
                }
                _ => return Err(fault("only DS and DNSKEY records can be anchors")),
            }
        }
        if anchors.positive.is_empty() {
            return Err(AnchorFault { line: 0, why: "there is no DS or DNSKEY record" });
        }
        Ok(anchors)
    }

    /// The zone's keys are those that the anchor stands for.
    pub fn with_positive(mut self, zone: Name, anchor: Anchor) -> Anchors {
        self.positive.insert(zone, anchor);
        self
    }

    /// The zone and what is below it count as unsigned, where no anchor is closer; `until` a time, or for ever.
    pub fn with_negative(mut self, zone: Name, until: Option<UnixTime>) -> Anchors {
        self.negative.insert(zone, until);
        self
    }

    /// The same for each of a list.
    pub fn with_negatives<'a>(self, anchors: impl IntoIterator<Item = &'a NegativeAnchor>) -> Anchors {
        anchors.into_iter().fold(self, |all, anchor| all.with_negative(anchor.zone.clone(), anchor.until))
    }

    /// Whether nothing is believed.
    pub fn is_empty(&self) -> bool {
        self.positive.is_empty()
    }

    /// The zone with an anchor that is nearest to the root, among equals the first by name.
    pub fn highest(&self) -> Option<Name> {
        self.positive.keys().min_by_key(|zone| (zone.labels().count(), zone.to_string())).cloned()
    }

    pub fn positive(&self, zone: &Name) -> Option<&Anchor> {
        self.positive.get(zone)
    }

    /// Those with an anchor, in no order.
    pub fn zones(&self) -> impl Iterator<Item = &Name> {
        self.positive.keys()
    }

    pub fn is_negative(&self, zone: &Name, now: UnixTime) -> bool {
        self.negative.get(zone).is_some_and(|until| until.is_none_or(|until| now.0 < until.0))
    }
}

/// Lines without comments, those in parentheses joined (RFC 1035 section 5.1), with the number of the first of each.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or("").trim();
        let plain = line.replace(['(', ')'], " ");
        match lines.last_mut() {
            Some((_, last)) if open => {
                last.push(' ');
                last.push_str(&plain);
            }
            _ if plain.trim().is_empty() => {}
            _ => lines.push((at + 1, plain)),
        }
        open = if open { !line.contains(')') } else { line.contains('(') && !line.contains(')') };
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_built_in() {
        let anchors = Anchors::built_in();
        let root = anchors.positive(&Name::root()).unwrap();
        assert_eq!(
            root.ds.iter().map(|ds| (ds.tag, ds.algorithm.0, ds.digest.len())).collect::<Vec<_>>(),
            [(20326, 8, 32), (38696, 8, 32)]
        );
    }

    #[test]
    fn a_file_of_anchors() {
        let text = "; comment\n\n. 3600 IN DS 1 13 2 aabb ; x\nexample. IN DNSKEY (257 3\n 13 Zm9v )\n. DS 2 13 2 (\n aa bb )\n";
        let anchors = Anchors::parse(text).unwrap();
        assert_eq!(anchors.positive(&Name::root()).unwrap().ds.len(), 2);
        assert_eq!(anchors.positive(&Name::parse("EXAMPLE").unwrap()).unwrap().keys.len(), 1);
        for (text, line) in [
            ("", 0),
            ("; nothing", 0),
            (". A 1.2.3.4", 1),
            ("\nnonsense", 2),
            (". DNSKEY 385 3 13 Zm9v", 1),
            (". DNSKEY 0 3 13 Zm9v", 1),
            (". DS 1 13", 1),
        ] {
            assert_eq!(Anchors::parse(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn negative_anchors_have_a_text() {
        let parse = NegativeAnchor::parse;
        let zone = Name::parse("example.org").unwrap();
        assert_eq!(parse("Example.Org."), Ok(NegativeAnchor { zone: zone.clone(), until: None }));
        assert_eq!(parse("example.org until 2027-01-31"), Ok(NegativeAnchor { zone, until: Some(UnixTime(1_801_353_600)) }));
        assert_eq!(parse("päivi.example").unwrap().zone, Name::parse("xn--pivi-loa.example").unwrap());
        for text in
            ["", ".", "a..b", "a b", "a until", "a until 2027-1-31", "a until 2027-02-29", "a until 2027-01-31T00", "a until 2027-01-31 x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_highest_zone_is_the_root_where_that_has_an_anchor() {
        let ds = "DS 1 13 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
        let highest = |zones: &[&str]| {
            let lines: Vec<String> = zones.iter().map(|zone| format!("{zone} {ds}")).collect();
            Anchors::parse(&lines.join("\n")).unwrap().highest().unwrap().to_string()
        };
        assert_eq!(highest(&["b.test.", "test.", "example."]), "example.");
        assert_eq!(highest(&["test.", "."]), ".");
        assert_eq!(Anchors::none().highest(), None);
    }

    #[test]
    fn negative_anchors_end() {
        let zone = Name::parse("example").unwrap();
        let anchors = Anchors::built_in().with_negative(zone.clone(), Some(UnixTime(100)));
        assert!(anchors.is_negative(&zone, UnixTime(99)) && !anchors.is_negative(&zone, UnixTime(100)));
        assert!(!anchors.is_negative(&Name::root(), UnixTime(0)));
    }
}

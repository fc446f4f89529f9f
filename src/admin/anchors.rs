//! What answers of the DNS are believed by: the file of the configuration alone if there is one, else what was learnt of the
//! root's keys and those built in; and zones that count as unsigned (`resolver.md`, proving 1).

use std::rc::Rc;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::row;
use crate::admin::wire::dns::AnchorRow;
use crate::config::settings::Settings;
use crate::mail::date::UnixTime;
use crate::net::resolver::Beliefs;
use crate::net::resolver::TrustAd;
use crate::proto::dns::dnssec::anchor::Anchor;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::proto::dns::dnssec::anchor::NegativeAnchor;
use crate::proto::dns::dnssec::dnskey::Algorithm;
use crate::proto::dns::dnssec::rollover::Kept;
use crate::proto::dns::dnssec::rollover::Rollover;
use crate::proto::dns::dnssec::rollover::Source;
use crate::proto::dns::dnssec::rollover::State;
use crate::proto::dns::dnssec::walk::Policy;
use crate::proto::dns::name::Name;
use crate::store::Error;
use crate::store::Store;
use crate::store::anchors;

/// What the store knows of the root's keys, and what this program brings along.
pub fn learnt(store: &Store) -> Result<Rollover, Error> {
    let stored = store.read(anchors::root)?;
    Ok(stored.map_or_else(untaught, |stored| stored.seed(&Anchors::built_in())))
}

/// Nothing was learnt: the built-in keys.
pub fn untaught() -> Rollover {
    Rollover::new(Name::root()).seed(&Anchors::built_in())
}

/// For the resolver.
pub fn beliefs(settings: &Settings, learnt: &Rollover) -> Beliefs {
    let positive = settings.dns.trust_anchor.as_ref().map_or_else(|| learnt.anchors(), |given| given.anchors.clone());
    let anchors = Rc::new(positive.with_negatives(&settings.dns.negative_anchors));
    let trust_ad = if settings.dns.trust_ad { TrustAd::Yes } else { TrustAd::No };
    Beliefs { policy: Policy { anchors, ..Policy::default() }, trust_ad }
}

/// A row a key, then one a negative anchor.
pub fn rows(settings: &Settings, learnt: &Rollover, now: UnixTime) -> Vec<AnchorRow> {
    let mut rows = match &settings.dns.trust_anchor {
        Some(given) => {
            let mut zones: Vec<&Name> = given.anchors.zones().collect();
            zones.sort_by_key(|zone| zone.to_string());
            zones.into_iter().filter_map(|zone| Some((zone, given.anchors.positive(zone)?))).flat_map(fixed).collect()
        }
        None => learnt.keys.iter().map(|kept| followed(&learnt.zone, kept)).collect::<Vec<_>>(),
    };
    rows.extend(settings.dns.negative_anchors.iter().map(|anchor| negative(anchor, now)));
    rows
}

fn fixed((zone, anchor): (&Name, &Anchor)) -> Vec<AnchorRow> {
    let ds = anchor.ds.iter().map(|ds| (ds.tag, ds.algorithm));
    let keys = anchor.keys.iter().map(|key| (key.tag, key.algorithm));
    let row = |(tag, algorithm): (u16, Algorithm)| AnchorRow {
        zone: zone.to_string(),
        tag,
        algorithm: algorithm.0,
        state: "fixed".into(),
        source: "file".into(),
        ..AnchorRow::default()
    };
    ds.chain(keys).map(row).collect()
}

fn followed(zone: &Name, kept: &Kept) -> AnchorRow {
    let (state, until) = match kept.state {
        State::Pending { until } => ("pending", Some(until)),
        State::Valid => ("valid", None),
        State::Missing => ("missing", None),
        State::Revoked { until } => ("revoked", Some(until)),
        State::Removed => ("removed", None),
    };
    let source = match kept.source {
        Source::BuiltIn => "built-in",
        Source::Learnt => "learnt",
    };
    let time = |time: Option<UnixTime>| time.map(|time| time.to_string()).unwrap_or_default();
    AnchorRow {
        zone: zone.to_string(),
        tag: kept.ds.tag,
        algorithm: kept.ds.algorithm.0,
        state: state.into(),
        since: time(kept.since),
        until: time(until),
        source: source.into(),
    }
}

fn negative(anchor: &NegativeAnchor, now: UnixTime) -> AnchorRow {
    let over = anchor.has_ended(now);
    AnchorRow {
        zone: anchor.zone.to_string(),
        state: if over { "ended" } else { "negative" }.into(),
        until: anchor.until.map(|until| until.to_string()).unwrap_or_default(),
        source: "configuration".into(),
        ..AnchorRow::default()
    }
}

/// `pipit dns anchors`.
pub async fn list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let settings = instance.live.current();
    // With a file of anchors it does not matter what was learnt, nor whether that can be read.
    let learnt = if settings.dns.trust_anchor.is_some() { untaught() } else { learnt(&instance.store)? };
    for fields in rows(&settings, &learnt, instance.clock.now()) {
        row(channel, &fields).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check;
    use crate::config::settings::TrustAnchor;

    const TEXT: &str = "hostname = \"m.example.org\"\n[dns]\nnegative-anchor = [\"a.test until 2026-01-01\", \"b.test\"]\n[[domain]]\nname = \"example.org\"\n";
    /// 2026-11-23
    const NOW: UnixTime = UnixTime(1_795_452_194);

    fn told(settings: &Settings, learnt: &Rollover) -> Vec<String> {
        let word = |row: AnchorRow| format!("{} {} {} {}", row.zone, row.tag, row.state, row.source);
        rows(settings, learnt, NOW).into_iter().map(word).collect()
    }

    #[test]
    fn the_file_alone_counts_if_there_is_one() {
        let mut settings = check::check(TEXT).unwrap();
        let mut learnt = untaught();
        learnt.keys[0].state = State::Revoked { until: NOW };
        let negative = ["a.test. 0 ended configuration", "b.test. 0 negative configuration"];
        assert_eq!(told(&settings, &learnt)[..2], [". 20326 revoked built-in", ". 38696 valid built-in"]);
        assert_eq!(told(&settings, &learnt)[2..], negative);
        let believed = beliefs(&settings, &learnt).policy.anchors;
        assert_eq!(believed.positive(&Name::root()).unwrap().ds.iter().map(|ds| ds.tag).collect::<Vec<_>>(), [38696]);
        let zone = |name| Name::parse(name).unwrap();
        assert!(!believed.is_negative(&zone("a.test"), NOW) && believed.is_negative(&zone("b.test"), NOW));

        let given = TrustAnchor {
            file: "/x".into(),
            line: 1,
            anchors: Anchors::parse("test. DS 7 13 2 aabb\ntest. DNSKEY 257 3 13 Zm9v\n").unwrap(),
        };
        settings.dns.trust_anchor = Some(given);
        let tag = rows(&settings, &learnt, NOW)[1].tag;
        assert_eq!(told(&settings, &learnt)[..2], ["test. 7 fixed file".to_owned(), format!("test. {tag} fixed file")]);
        assert_eq!(told(&settings, &learnt)[2..], negative);
        let believed = beliefs(&settings, &learnt).policy.anchors;
        assert!(believed.positive(&Name::root()).is_none() && believed.positive(&zone("test")).is_some());
    }
}

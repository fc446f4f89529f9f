//! How far the clock is believed, for people; and their word that it is right (resolver.md 12, R12).
//!
//! The server saves the time that was last believed as a floor: a clock below it is certainly wrong, and mail waits. A clock
//! that once went ahead leaves a floor in the future, and set right it would be in doubt until then. Only a person can know:
//! `accept` forgets the floor. No word makes a time before the release of this version right.

use log::warn;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::row;
use crate::admin::wire::clock::ClockCommand;
use crate::admin::wire::clock::ClockRow;
use crate::mail::date::UnixTime;
use crate::net::clock::Certainty;
use crate::net::clock::RELEASED;
use crate::store::Error;
use crate::store::Topic;
use crate::store::meta;

pub async fn run<C: Channel>(instance: &Instance, command: ClockCommand, channel: &mut C) -> Result<(), Failure> {
    match command {
        ClockCommand::Show => {}
        ClockCommand::Accept => accept(instance).await?,
    }
    row(channel, &clock_row(instance)?).await?;
    Ok(())
}

fn clock_row(instance: &Instance) -> Result<ClockRow, Failure> {
    let saved = instance.store.read(meta::last_good_time)?;
    Ok(ClockRow {
        now: instance.clock.now().to_string(),
        certainty: match instance.clock.certainty() {
            Certainty::Confirmed => "confirmed",
            Certainty::Plausible => "plausible",
            Certainty::Unknown => "unknown",
        }
        .to_owned(),
        floor: instance.clock.floor().to_string(),
        saved: saved.map(|time| time.to_string()).unwrap_or_default(),
        released: RELEASED.to_string(),
        problem: problem(instance).unwrap_or_default(),
    })
}

/// What is wrong with the clock and what to do about it, for `status`. `None`: it is believed.
pub fn problem(instance: &Instance) -> Option<String> {
    sentence(instance.clock.certainty(), instance.clock.now(), instance.clock.floor())
}

fn sentence(certainty: Certainty, now: UnixTime, floor: UnixTime) -> Option<String> {
    let accept = format!("if {now} is right, say so with `pipit clock accept`, else set the clock of this machine; mail waits until then");
    match certainty {
        Certainty::Confirmed => None,
        Certainty::Unknown if now < RELEASED => Some(format!(
            "the clock is not set: it says {now}, before this version was made; set the clock of this machine, mail waits until then"
        )),
        Certainty::Unknown => Some(format!("the clock says {now}, but {floor} was seen already: {accept}")),
        Certainty::Plausible => Some(format!("the clock says {now}, years after {floor}, when it was last believed: {accept}")),
    }
}

/// The clock is right: what it says becomes the floor, in the store and for the running server.
async fn accept(instance: &Instance) -> Result<(), Failure> {
    let (now, before) = (instance.clock.now(), instance.clock.floor());
    if now < RELEASED {
        let hint = "set the clock of this machine first, e.g. with `date -s`";
        return Err(Failure::new(
            format!("the clock says {now}, before this version was made ({RELEASED}): that is certainly wrong"),
            hint,
        ));
    }
    // Before the scheduler is woken, which looks at once.
    instance.clock.lower_floor(now);
    let saved = instance.store.write(move |w| {
        meta::set_last_good_time(w, now)?;
        w.raise(Topic::Queue);
        Ok(())
    });
    let saved: Result<(), Error> = saved.await;
    if saved.is_err() {
        instance.clock.raise_floor(before);
    }
    saved?;
    warn!("the administrator says that the clock is right: {now} is believed, the floor {before} is forgotten");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubt_has_a_sentence_with_a_way_out() {
        let year = 365 * 86_400;
        let says = |certainty, now, floor| sentence(certainty, now, floor).unwrap_or_default();
        assert_eq!(sentence(Certainty::Confirmed, RELEASED, RELEASED), None);
        let unset = says(Certainty::Unknown, UnixTime(0), RELEASED);
        assert!(unset.contains("not set: it says 1970-01-01") && !unset.contains("accept"), "{unset}");
        let floor = RELEASED.plus(2 * year);
        let ahead = says(Certainty::Unknown, RELEASED.plus(year), floor);
        assert!(ahead.contains(&format!("but {floor} was seen")) && ahead.contains("`pipit clock accept`"), "{ahead}");
        let late = says(Certainty::Plausible, RELEASED.plus(9 * year), RELEASED);
        assert!(late.contains("years after") && late.contains("`pipit clock accept`"), "{late}");
    }
}

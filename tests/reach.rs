//! Which hosts take the mail of a domain: plays the tables in `tests/routes/`.
//!
//! A table has cases, each begun by `== title`. Its lines: `zone ` and a line for `proto::dns::table`; `own` names or
//! addresses that are ourselves; `private` allows private addresses; then `ask DOMAIN` and the lines of the route:
//! `PREFERENCE HOST ADDRESS…` (hosts of equal preference in any order), or `permanent|temporary|blind STATUS`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::Path;

use pipit::config::settings::PrivateAddresses;
use pipit::mail::domain::Domain;
use pipit::proto::dns::table::Table;
use pipit::reach::route::MAX_ADDRESSES;
use pipit::reach::route::MAX_HOSTS;
use pipit::reach::route::Ourselves;
use pipit::reach::route::Route;
use pipit::reach::route::gather;
use ring::rand::SystemRandom;

struct Case {
    title: String,
    zone: String,
    ourselves: Ourselves,
    private: PrivateAddresses,
    /// domains, and the sorted lines of their routes
    asked: Vec<(Domain, Vec<String>)>,
}

impl Case {
    fn parse(text: &str) -> Case {
        let (title, rest) = text.split_once('\n').unwrap();
        let mut case = Case {
            title: title.trim().to_owned(),
            zone: String::new(),
            ourselves: Ourselves::default(),
            private: PrivateAddresses::Refused,
            asked: Vec::new(),
        };
        for line in rest.lines().map(|line| line.split('#').next().unwrap().trim()).filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("zone", record)) => case.zone.push_str(&format!("{record}\n")),
                Some(("own", names)) => names.split_whitespace().for_each(|name| case.own(name)),
                Some(("ask", domain)) => case.asked.push((Domain::parse(domain).unwrap(), Vec::new())),
                None if line == "private" => case.private = PrivateAddresses::Allowed,
                _ => case.asked.last_mut().expect("a line of a route stands behind `ask`").1.push(line.to_owned()),
            }
        }
        case.asked.iter_mut().for_each(|(_, lines)| lines.sort());
        case
    }

    fn own(&mut self, name: &str) {
        match name.parse() {
            Ok(address) => self.ourselves.addresses.push(address),
            Err(_) => self.ourselves.names.push(Domain::parse(name).unwrap()),
        }
    }

    fn play(&self) {
        let table = Table::parse(&self.zone).unwrap();
        for (domain, expected) in &self.asked {
            let route = ask(domain, &table, &self.ourselves, self.private);
            if let Route::Hosts(hosts) = &route {
                assert!(hosts.is_sorted_by_key(|host| host.preference), "{}: {hosts:?}", self.title);
            }
            let mut lines = lines(&route);
            lines.sort();
            assert_eq!(&lines, expected, "{}: {domain}: {route:?}", self.title);
        }
    }
}

fn ask(domain: &Domain, table: &Table, ourselves: &Ourselves, private: PrivateAddresses) -> Route {
    smol::block_on(gather(domain, table, ourselves, private, &SystemRandom::new()))
}

fn lines(route: &Route) -> Vec<String> {
    match route {
        Route::Hosts(hosts) => hosts
            .iter()
            .map(|host| {
                let mut addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
                addresses.sort();
                format!("{} {} {}", host.preference, host.name, addresses.join(" "))
            })
            .collect(),
        Route::Permanent(verdict) => vec![format!("permanent {}", verdict.status)],
        Route::Temporary(verdict) => vec![format!("temporary {}", verdict.status)],
        Route::Blind(verdict) => vec![format!("blind {}", verdict.status)],
    }
}

#[test]
fn every_case_of_the_tables_leads_where_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routes");
    let mut played = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for case in text.split("\n== ").skip(1) {
            Case::parse(case).play();
            played += 1;
        }
    }
    assert!(played >= 20, "only {played} cases were found");
}

#[test]
fn hosts_of_equal_preference_take_turns() {
    let zone = "a.test. MX 1 x.test.\na.test. MX 1 y.test.\nx.test. A 192.0.2.1\ny.test. A 192.0.2.2\n";
    let table = Table::parse(zone).unwrap();
    let domain = Domain::parse("a.test").unwrap();
    let mut firsts: Vec<String> =
        (0..60).map(|_| lines(&ask(&domain, &table, &Ourselves::default(), PrivateAddresses::Refused))[0].clone()).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts, ["1 x.test 192.0.2.1", "1 y.test 192.0.2.2"]);
}

#[test]
fn endless_lists_are_cut() {
    let mut zone = String::new();
    for number in 0..200 {
        zone.push_str(&format!("big.test. MX {number} h{number}.test.\nh{number}.test. A 192.0.2.{number}\n"));
        zone.push_str(&format!("wide.test. A 198.51.100.{number}\n"));
    }
    let table = Table::parse(&zone).unwrap();
    let ask = |name: &str| match ask(&Domain::parse(name).unwrap(), &table, &Ourselves::default(), PrivateAddresses::Refused) {
        Route::Hosts(hosts) => hosts,
        other => panic!("{other:?}"),
    };
    let big = ask("big.test");
    assert_eq!(big.iter().map(|host| usize::from(host.preference)).collect::<Vec<_>>(), (0..MAX_ADDRESSES).collect::<Vec<_>>());
    assert_eq!(table.asked().len(), 1 + 2 * MAX_HOSTS);
    assert_eq!(ask("wide.test")[0].addresses.len(), MAX_ADDRESSES);
}

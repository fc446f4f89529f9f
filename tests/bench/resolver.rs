//! The product's resolver in a process of its own, for `resolver.py`: looks names up and says what that cost.
//!
//! In: `--upstream ADDR:PORT --anchor FILE --names FILE [--passes N] [--width N]`; the file has `NAME TYPE` a line. Each pass looks
//! all of them up, `--width` at a time; the first pass finds an empty cache. Out: a line of JSON a pass: answers by state,
//! CPU of the process, resident memory, and the longest time that one task held the event loop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::rc::Rc;
use std::time::Instant;

use pipit::metrics::Metrics;
use pipit::net::breathe::StallMeter;
use pipit::net::clock::Clock;
use pipit::net::clock::RELEASED;
use pipit::net::resolver::Beliefs;
use pipit::net::resolver::Resolver;
use pipit::net::resolver::Upstreams;
use pipit::net::tasks::Tasks;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::Anchors;
use pipit::proto::dns::dnssec::walk::Policy;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::upstream::UpstreamAddress;
use smol::LocalExecutor;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Plan {
    upstream: UpstreamAddress,
    anchors: Anchors,
    names: Vec<(Name, RecordType)>,
    passes: usize,
    width: usize,
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = plan(&words)? else {
        println!("bench resolver: started by tests/bench/resolver.py");
        return Ok(());
    };
    let executor = Rc::new(LocalExecutor::new());
    let meter = StallMeter::new();
    let tasks = Tasks::new(Rc::clone(&executor), meter.clone(), Rc::new(Metrics::default()));
    let resolver = Resolver::new(Upstreams::Listed(vec![plan.upstream.clone()]), Clock::host(RELEASED), Rc::new(Metrics::default()));
    let policy = Policy { anchors: Rc::new(plan.anchors.clone()), ..Policy::default() };
    resolver.set_beliefs(Beliefs { policy, ..Beliefs::default() });
    let names = Rc::new(plan.names);
    for pass in 1..=plan.passes {
        meter.take_longest();
        let (cpu, began) = (cpu_ns()?, Instant::now());
        let counts = pipit::net::run(&executor, look_up_all(&tasks, &resolver, &names, plan.width));
        let answers: usize = counts.values().sum();
        let states: Vec<String> = counts.iter().map(|(state, count)| format!("\"{state}\":{count}")).collect();
        println!(
            "{{\"pass\":{pass},\"answers\":{answers},{},\"cpu_ms\":{:.3},\"wall_ms\":{},\"rss_kib\":{},\"stall_us\":{}}}",
            states.join(","),
            (cpu_ns()? - cpu) as f64 / 1e6,
            began.elapsed().as_millis(),
            rss_kib()?,
            meter.longest().map_or(0, |stall| stall.length.as_micros()),
        );
    }
    Ok(())
}

/// `None` without arguments of ours: `cargo bench` starts every benchmark.
fn plan(words: &[String]) -> Outcome<Option<Plan>> {
    let value = |option: &str| words.iter().position(|word| word == option).and_then(|at| words.get(at + 1));
    let (Some(upstream), Some(anchor), Some(names)) = (value("--upstream"), value("--anchor"), value("--names")) else { return Ok(None) };
    let number = |option: &str, without: usize| value(option).map_or(Ok(without), |text| text.parse());
    let line = |line: &str| -> Outcome<(Name, RecordType)> {
        let (name, kind) = line.split_once(' ').ok_or("a line is NAME TYPE")?;
        Ok((Name::parse(name).map_err(|fault| fault.to_string())?, RecordType::parse(kind).ok_or("no type")?))
    };
    Ok(Some(Plan {
        upstream: UpstreamAddress::parse(upstream)?,
        anchors: Anchors::parse(&fs::read_to_string(anchor)?)?,
        names: fs::read_to_string(names)?.lines().map(line).collect::<Outcome<_>>()?,
        passes: number("--passes", 2)?,
        width: number("--width", 16)?,
    }))
}

async fn look_up_all(tasks: &Tasks, resolver: &Resolver, names: &Rc<Vec<(Name, RecordType)>>, width: usize) -> BTreeMap<String, usize> {
    let counts = Rc::new(RefCell::new(BTreeMap::new()));
    let (done, all_done) = smol::channel::bounded::<()>(1);
    for lane in 0..width {
        let (resolver, names, counts, done) = (resolver.clone(), Rc::clone(names), Rc::clone(&counts), done.clone());
        tasks.spawn("lookup", async move {
            for (name, kind) in names.iter().skip(lane).step_by(width) {
                let verdict = resolver.query(name, *kind).await;
                *counts.borrow_mut().entry(verdict.state().to_string()).or_insert(0) += 1;
            }
            drop(done);
        });
    }
    drop(done);
    // Closes when the last lane is done.
    let _ = all_done.recv().await;
    counts.take()
}

/// Of all threads.
fn cpu_ns() -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(sum)
}

fn rss_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
}

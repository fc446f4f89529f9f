//! `pipit localserve`: the product on loopback, without root, network or configuration.
//!
//! Two servers in one process: ours for `home.test` on 127.0.0.1, and `friend.test` on 127.0.1.2, in the folder `friend` of the
//! same directory. Their mail to each other really leaves through queue, DNS and SMTP: the names are answered by the small
//! internet of `world`, which both are told to ask, and whose trust anchor, new at each start, both are told to believe. The
//! directory is noted for commands without `--config`; without `--dir` it is a temporary one that is removed at the end.

use std::fs;
use std::io;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ring::rand::SystemRandom;

use crate::admin::Failure;
use crate::admin::runtime;
use crate::admin::settings::write_file;
use crate::app::certificates;
use crate::app::instance::Running;
use crate::cli::args::Globals;
use crate::cli::place;
use crate::cli::place::FILE;
use crate::cli::place::Place;
use crate::host::privileges;
use crate::proto::x509::key::spki_of_key;
use crate::store::keys;
use crate::world::dns;
use crate::world::dns::Known;
use crate::world::names::World;

const PASSWORD: &str = "localserve";
/// The second instance's folder within the directory.
const FRIEND: &str = "friend";
/// The trust anchor in our own form, and in that of BIND's delv; both in the directory.
const ANCHOR: &str = "anchor.ds";
const DELV_ANCHOR: &str = "delv.keys";
/// Where the small internet answers (`cli.md`).
const DNS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1053);
/// The first lines of our files, by which they are known as ours.
const MARK: &str = "# pipit localserve";

/// One of the two servers.
struct Site {
    domain: &'static str,
    address: &'static str,
    accounts: &'static [&'static str],
}

const HOME: Site = Site { domain: "home.test", address: "127.0.0.1", accounts: &["ann@home.test", "admin@home.test"] };
const OTHER: Site = Site { domain: "friend.test", address: "127.0.1.2", accounts: &["bob@friend.test"] };

/// Serves until Ctrl-C.
pub fn run(globals: &Globals, fresh: Fresh) -> Result<(), Failure> {
    let (dir, temporary) = match &globals.dir {
        Some(dir) => (std::path::absolute(dir).map_err(failed)?, None),
        None => {
            let dir = runtime::temporary().map_err(failed)?;
            (dir.clone(), Some(dir))
        }
    };
    if fresh == Fresh::Yes {
        forget_data(&dir)?;
    }
    let served = serve(&dir);
    if let Some(dir) = temporary {
        let _ = fs::remove_dir_all(dir);
    }
    served
}

fn failed(error: io::Error) -> Failure {
    Failure::new(format!("localserve cannot start: {error}"), "choose a directory with --dir DIR")
}

fn serve(dir: &Path) -> Result<(), Failure> {
    // Before the note, which would lead commands to a server that does not start, and before the anchor of one that runs is
    // replaced.
    let sockets = dns::bind(DNS).map_err(|error| {
        let hint = "another localserve is running, or another program uses this port: end that one first";
        Failure::new(format!("localserve cannot start: its DNS cannot listen on {DNS}: {error}"), hint)
    })?;
    let mut world = World::new(&SystemRandom::new()).map_err(|error| Failure::new(error, "report this"))?;
    // The configurations name it, and are read with it.
    make_directory(dir)?;
    write_file(&dir.join(ANCHOR), &world.anchor())?;
    write_file(&dir.join(DELV_ANCHOR), &world.delv_anchor())?;
    let mut home = settle(dir, (dir, &HOME))?;
    let friend = settle(&dir.join(FRIEND), (dir, &OTHER))?;
    runtime::note(dir).map_err(failed)?;
    // To take the note and a temporary directory back at the end.
    home.more_writable.push(runtime::folder());
    let told = dir.to_path_buf();
    let served = super::serve_all(vec![home, friend], move |running| {
        for one in running {
            publish(&mut world, one)?;
        }
        if let Some(Running { instance, tasks, .. }) = running.first() {
            dns::start(tasks, sockets, Known { tree: world.finish(), clock: instance.clock.clone() }).map_err(failed)?;
        }
        tell(&told);
        Ok(())
    });
    // Only our own: one that runs in the same directory has ended us before the note.
    runtime::forget(dir);
    served
}

fn make_directory(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
}

/// Shows the world the key of one of our servers: its certificate is of its own making, and DANE is what makes it good.
fn publish(world: &mut World, running: &Running) -> Result<(), Failure> {
    let instance = &running.instance;
    let key = instance.store.read(|reader| keys::get(reader, certificates::CURRENT))?;
    let spki = key.and_then(|key| spki_of_key(&key, &SystemRandom::new()).ok());
    let host = instance.live.current().hostname.clone();
    let unpublished = |why: &str| Failure::new(format!("no TLSA record for {host}: {why}"), "report this");
    world.publish(host.as_str(), &spki.ok_or_else(|| unpublished("it has no key"))?).map_err(|error| unpublished(&error))
}

/// Makes a site's directory and configuration where they are missing. `top` has the trust anchor.
fn settle(dir: &Path, (top, site): (&Path, &Site)) -> Result<Place, Failure> {
    let file = dir.join(FILE);
    if fs::symlink_metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        make_directory(dir)?;
        write_file(&file, &configuration(dir, (top, site)))?;
    }
    let text = fs::read_to_string(&file).map_err(failed)?;
    if text.contains(MARK) && !text.contains(ANCHOR) {
        let hint =
            format!("start with --fresh, which removes its mail, or write trust-anchor = \"{}\" below [dns]", top.join(ANCHOR).display());
        return Err(Failure::new(format!("{} was made before names were proved: it has no trust anchor", file.display()), hint));
    }
    place::find(&Globals { config: Some(file), dir: None, json: false })
}

/// Whether data of an earlier run is removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    Yes,
    No,
}

/// Removes an earlier localserve's data; a directory that is none of ours is left alone.
fn forget_data(dir: &Path) -> Result<(), Failure> {
    let Ok(text) = fs::read_to_string(dir.join(FILE)) else { return Ok(()) };
    if !text.contains(MARK) {
        return Err(Failure::new(format!("{} is not a localserve directory; nothing was removed", dir.display()), "choose another --dir"));
    }
    for owned in [dir, &dir.join(FRIEND)] {
        if runtime::is_owned(owned) {
            return Err(Failure::new(format!("a server is running in {}; nothing was removed", owned.display()), "end it first"));
        }
    }
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", dir.display()), "remove it by hand");
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // `lock` stays: a file of that name with another inode would let two servers own the directory.
        if path.file_name().is_some_and(|name| name == "lock") {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed)?;
    }
    Ok(())
}

fn configuration(dir: &Path, (top, site): (&Path, &Site)) -> String {
    let users: String =
        site.accounts.iter().map(|address| format!("\n[[first-user]]\naddress = \"{address}\"\npassword = \"{PASSWORD}\"\n")).collect();
    let quoted = |path: &Path| path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    let (text, anchor) = (quoted(dir), quoted(&top.join(ANCHOR)));
    // A demonstration runs as whoever started it, root too: its directory is nobody else's.
    let user = if privileges::is_root() { "user = \"root\"\n" } else { "" };
    let (Site { domain, address, .. }, port) = (site, SMTP_PORT);
    format!(
        "{MARK}: a demonstration on loopback\nhostname = \"mx.{domain}\"\ndir = \"{text}\"\n{user}\n[listen]\nsmtp = [\"{address}:{port}\"]\nsubmission = [\"{address}:1587\"]\nsubmissions = [\"{address}:1465\"]\n\n\
         # the other servers of this small world listen on the same port, and its DNS knows them\n[outbound]\nport = {port}\nprivate-addresses = true\n\n[dns]\nupstream = [\"{DNS}\"]\ntrust-anchor = \"{anchor}\"\n\n\
         [[domain]]\nname = \"{domain}\"\n{users}"
    )
}

/// Of both servers; what stands for port 25 here.
const SMTP_PORT: u16 = 1025;

fn tell(dir: &Path) {
    // As we were called: a build that is tried is in nobody's PATH.
    let pipit = std::env::args().next().unwrap_or_else(|| "pipit".into());
    let friend = dir.join(FRIEND).display().to_string();
    let (anchor, delv) = (dir.join(ANCHOR).display().to_string(), dir.join(DELV_ANCHOR).display().to_string());
    let dir = dir.display();
    print!(
        "\
Pipit serves home.test and friend.test on this machine. Ctrl-C ends it.

  home.test     SMTP 127.0.0.1:1025, submission 127.0.0.1:1587 (STARTTLS) and 127.0.0.1:1465 (TLS)
                accounts {} (password {PASSWORD}), data in {dir}
  friend.test   SMTP 127.0.1.2:1025, submission 127.0.1.2:1587 and 127.0.1.2:1465
                account {} (password {PASSWORD}), data in {friend}
  DNS           {DNS}; test. is signed, its trust anchor is {anchor} (for BIND {delv})
                signed: home.test friend.test dane.test both.test opportunistic.test broken.test; unsigned: plain.test sts.test;
                bogus.test has signatures that do not hold. Only our two have mail servers yet: mail to the others waits
                dead.test, nullmx.test, nohost.test and missing.test go wrong, each in its way

Try, in another terminal:

  a login, and mail that leaves      swaks --server 127.0.0.1:1587 --tls --auth-user ann@home.test --auth-password {PASSWORD} --from ann@home.test --to bob@friend.test
  read what Bob got                  {pipit} mail list bob@friend.test --dir {friend}
  mail from a program                printf 'Subject: hello\\n\\nfrom the command line\\n' | {pipit} send -f ann@home.test bob@friend.test
  mail from outside                  swaks --server 127.0.0.1:1025 --from x@friend.test --to ann@home.test
  read what Ann got                  {pipit} mail list ann@home.test
  mail that cannot leave             printf 'Subject: hello\\n\\nanybody?\\n' | {pipit} send -f ann@home.test x@dead.test
  mail to a name that is not proved  printf 'Subject: hello\\n\\nwho are you?\\n' | {pipit} send -f ann@home.test x@bogus.test
  what waits, and why                {pipit} queue list, and {pipit} queue show ID
  a key for DANE, and its proof      {pipit} dns lookup --upstream {DNS} --trust-anchor {anchor} _25._tcp.mx.dane.test TLSA
  the same by BIND                   delv @{} -p {} -a {delv} +root=test _25._tcp.mx.dane.test TLSA
  a TLSA record that does not match  {pipit} dns lookup --upstream {DNS} --trust-anchor {anchor} _25._tcp.mx.broken.test TLSA
  a zone that is not signed          {pipit} dns lookup --upstream {DNS} --trust-anchor {anchor} plain.test MX
  signatures that do not hold        {pipit} dns lookup --upstream {DNS} --trust-anchor {anchor} bogus.test MX

",
        HOME.accounts.join(", "),
        OTHER.accounts.join(", "),
        DNS.ip(),
        DNS.port(),
    );
    // A pipe would keep it until the end.
    let _ = io::stdout().flush();
}

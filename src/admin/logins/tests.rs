//! Logins on a real store: who gets in, what a stranger can tell, and when a pair is blocked.

use std::net::Ipv4Addr;

use ring::rand::SystemRandom;
use smol::LocalExecutor;

use super::*;
use crate::config::check::check;
use crate::net::clock::Hand;
use crate::net::clock::RELEASED;
use crate::proto::smtp::sasl::Mechanism;
use crate::store::NewAccount;
use crate::store::Options;
use crate::store::accounts::AppPassword;
use crate::store::accounts::ScramSalt;

const APP: &str = "k7m2p-x9q4w-3hd8-vvvv-0000-zzzz";
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

struct Scene {
    logins: Logins,
    hand: Hand,
    ann: AccountId,
    live: Rc<Live>,
}

const BOTH: &str = "[[domain]]\nname = \"home.test\"\n[[domain]]\nname = \"other.test\"\n";

/// ann@home.test with the password `localserve` and an app password; bob@home.test and bob@other.test with neither.
fn play<F: Future<Output = ()>>(story: impl FnOnce(Scene) -> F) {
    let mut name = [0; 8];
    SystemRandom::new().fill(&mut name).unwrap();
    let dir = std::env::temp_dir().join(format!("pipit-logins-{}", u64::from_be_bytes(name)));
    let text = format!("hostname = \"mx.home.test\"\ndir = \"{}\"\n{BOTH}", dir.display());
    crate::net::run(&LocalExecutor::new(), async {
        let store = Store::open(&dir, Options { map_size: Some(16 << 20) }).unwrap();
        let mut ids = Vec::new();
        for (address, password) in [("Ann@home.test", "localserve"), ("bob@home.test", ""), ("bob@other.test", "")] {
            let password = if password.is_empty() { String::new() } else { passwords::hash(password).unwrap() };
            let new = NewAccount { address: Address::parse(address).unwrap(), password, created: RELEASED };
            ids.push(store.write(move |w| accounts::create(w, new)).await.unwrap().unwrap());
        }
        let ann = ids[0];
        let key = salt_key(&store.read(meta::instance_id).unwrap());
        let salt = ScramSalt { salt: salt_for(&key, "Ann@home.test"), iterations: scram::ITERATIONS };
        let keys = scram::derive(APP, &salt.salt, salt.iterations);
        let app = AppPassword { name: "phone".into(), created: RELEASED, stored_key: keys.stored, server_key: keys.server };
        store.write(move |w| accounts::add_app_password(w, ann, salt, app)).await.unwrap().unwrap();
        let (clock, hand) = Clock::settable(RELEASED);
        let live = Rc::new(Live::new(check(&text).unwrap()));
        let logins = Logins::new(&store, &live, &Offload::start().unwrap(), &clock, &Rc::new(Metrics::default())).unwrap();
        drop(store);
        story(Scene { logins, hand, ann, live }).await;
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

fn attempt(name: &str, password: &str) -> Attempt {
    Attempt { mechanism: Mechanism::Plain, name: name.into(), proof: Proof::Password(Password::new(password.into())) }
}

#[test]
fn the_hash_of_nobody_costs_what_a_hash_costs_and_fits_nothing() {
    let real = passwords::hash("x").unwrap();
    let parameters = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(parameters(NOBODYS), parameters(&real));
    assert_eq!(NOBODYS.len(), real.len());
    let began = Instant::now();
    assert_eq!(passwords::verify("", NOBODYS), passwords::Verdict::Wrong);
    let (nobodys, began) = (began.elapsed(), Instant::now());
    assert_eq!(passwords::verify("", &real), passwords::Verdict::Wrong);
    assert!(nobodys * 4 > began.elapsed(), "it is really computed");
}

#[test]
fn passwords_and_app_passwords_open_the_account_they_belong_to() {
    play(|scene| async move {
        let ann = Verdict::Welcome(Login { account: scene.ann, address: Address::parse("Ann@home.test").unwrap() });
        for (name, password) in
            [("ann@HOME.test", "localserve"), ("ann", "localserve"), ("ann@home.test", APP), ("ann", &APP.to_uppercase().replace('-', " "))]
        {
            assert_eq!(scene.logins.check(attempt(name, password), PEER).await, ann, "{name} {password}");
        }
        let proved = scene.logins.keys("ann").unwrap().keys.remove(0);
        let proved = Attempt { proof: Proof::Keys(Box::new(proved)), ..attempt("ann@home.test", "x") };
        assert_eq!(scene.logins.check(proved, PEER).await, ann);
        // `bob` is two people, and neither has a password.
        for (name, password) in [("ann@home.test", "wrong"), ("bob", "localserve"), ("bob@home.test", ""), ("nobody", APP)] {
            let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(name.len()).unwrap()));
            let verdict = scene.logins.judge(attempt(name, password)).await;
            assert_eq!(verdict, Verdict::Refused, "{name} {other}");
        }
    });
}

/// The client has its challenge, made with the keys of two app passwords, when one is taken away.
#[test]
fn a_revoked_app_password_opens_nothing_not_even_in_the_middle_of_a_login() {
    play(|scene| async move {
        let (logins, ann) = (&scene.logins, scene.ann);
        let before = logins.keys("ann").unwrap();
        let second = "22222-22222-2222-2222-2222-2222";
        let keys = scram::derive(second, &before.salt, before.iterations);
        let tablet = AppPassword { name: "tablet".into(), created: RELEASED, stored_key: keys.stored, server_key: keys.server };
        let salt = ScramSalt { salt: before.salt, iterations: before.iterations };
        logins.store.write(move |w| accounts::add_app_password(w, ann, salt, tablet)).await.unwrap().unwrap();
        let held = logins.keys("ann").unwrap().keys;
        let proved = |at: usize| Attempt { proof: Proof::Keys(Box::new(held[at].clone())), ..attempt("ann@home.test", "x") };
        for at in 0..2 {
            assert!(matches!(logins.judge(proved(at)).await, Verdict::Welcome(_)), "{at}");
        }
        let revoked = logins.store.write(move |w| accounts::remove_app_password(w, ann, "phone")).await.unwrap().unwrap();
        assert_eq!(revoked, accounts::Removed::One);
        assert_eq!(logins.judge(proved(0)).await, Verdict::Refused, "its place among the keys is the other's now");
        assert_eq!(logins.judge(attempt("ann@home.test", APP)).await, Verdict::Refused);
        assert!(matches!(logins.judge(proved(1)).await, Verdict::Welcome(_)));
        assert!(matches!(logins.judge(attempt("ann@home.test", second)).await, Verdict::Welcome(_)));
    });
}

#[test]
fn an_account_whose_domain_was_taken_out_is_nobodys() {
    play(|scene| async move {
        let logins = &scene.logins;
        let proved = Proof::Keys(Box::new(logins.keys("ann").unwrap().keys.remove(0)));
        let text = format!("hostname = \"mx.home.test\"\ndir = \"{}\"\n[[domain]]\nname = \"other.test\"\n", logins.store.dir().display());
        let salt = logins.keys("ann@home.test").unwrap().salt;
        scene.live.replace(check(&text).unwrap());
        for name in ["ann@home.test", "ANN@home.test", "ann"] {
            for attempt in [attempt(name, "localserve"), attempt(name, APP), Attempt { proof: proved.clone(), ..attempt(name, "x") }] {
                assert_eq!(logins.judge(attempt).await, Verdict::Refused, "{name}");
            }
            assert_eq!(logins.keys(name).unwrap().keys, [], "{name}");
        }
        let told = logins.keys("ann@home.test").unwrap();
        assert_eq!((told.salt, told.iterations), (salt, scram::ITERATIONS), "nobody sees that there was a change");
        assert!(logins.reason("ann@home.test").contains("not in the configuration"));
        assert_eq!(logins.reason("nobody@home.test"), "refused");
        assert_eq!(logins.reason("bob@other.test"), "refused");
        // A name without a domain meant nobody while there were two.
        assert_eq!(logins.find("bob").unwrap().map(|(_, row)| row.address.to_string()).as_deref(), Some("bob@other.test"));
        scene.live.replace(check(&format!("hostname = \"mx.home.test\"\ndir = \"{}\"\n{BOTH}", logins.store.dir().display())).unwrap());
        assert!(matches!(logins.judge(attempt("ann@home.test", "localserve")).await, Verdict::Welcome(_)));
    });
}

#[test]
fn challenges_do_not_tell_who_exists() {
    play(|scene| async move {
        let keys = |name: &str| scene.logins.keys(name).unwrap();
        for name in ["ann@home.test", "ann", "bob@home.test", "nobody@home.test", "nobody"] {
            let (first, second) = (keys(name), keys(&name.to_uppercase()));
            assert_eq!((first.salt.len(), first.iterations), (SALT, scram::ITERATIONS), "{name}");
            assert_eq!(first.salt, second.salt, "{name}");
            assert_ne!(first.nonce, second.nonce);
            assert_eq!(first.keys.len(), usize::from(name.starts_with("ann")), "{name}");
        }
        assert_eq!(keys("ann").salt, keys("ann@home.test").salt);
        // Whether a bare name means an account of the second domain, or nobody, it is challenged as one of both.
        let carol = NewAccount { address: Address::parse("carol@other.test").unwrap(), password: String::new(), created: RELEASED };
        scene.logins.store.write(move |w| accounts::create(w, carol)).await.unwrap().unwrap();
        assert_eq!(keys("carol").salt, keys("carol@other.test").salt);
        let names: Vec<String> = (0..40).map(|number| format!("nobody{number}")).collect();
        let as_at = |domain: &str| names.iter().filter(|name| keys(name).salt == keys(&format!("{name}@{domain}")).salt).count();
        let (first, second) = (as_at("home.test"), as_at("other.test"));
        assert!(first + second == 40 && first > 5 && second > 5, "{first} {second}");
        assert_ne!(keys("nobody").salt, keys("ann").salt);
        // Quotes mean nothing: whether they change the salt must not depend on who exists.
        for (plain, quoted) in [("ann@home.test", "\"a\\nn\"@home.test"), ("nobody@home.test", "\"no\\body\"@HOME.test")] {
            assert_eq!(keys(plain).salt, keys(quoted).salt, "{quoted}");
        }
    });
}

#[test]
fn other_spellings_of_a_name_are_no_further_guesses() {
    play(|scene| async move {
        let logins = &scene.logins;
        let pair = |name: &str| logins.pair(name, PEER);
        for spelling in ["ANN@home.test", "\"ann\"@home.test", "\"a\\n\\n\"@home.test", "ann@home.test.", "ann"] {
            let means_ann = logins.find(spelling).unwrap().is_some();
            assert!(!means_ann || pair(spelling) == pair("ann@home.test"), "{spelling}");
        }
        for other in ["ann@other.test", "bob@home.test", "bob", "", "\"ann@home.test"] {
            assert_ne!(pair(other), pair("ann@home.test"), "{other}");
        }
    });
}

#[test]
fn a_pair_is_paused_longer_and_longer_then_blocked_for_a_while() {
    play(|scene| async move {
        let logins = &scene.logins;
        let pair = logins.pair("ann@home.test", PEER);
        let pauses: Vec<u64> = (0..FREE + 2).map(|_| logins.guesses.borrow_mut().count(pair, logins.clock.instant()).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8]);
        let blocked = |name: &str, peer: IpAddr| logins.guesses.borrow().is_blocked(&logins.pair(name, peer), logins.clock.instant());
        assert!(blocked("ANN@home.test", PEER));
        assert!(!blocked("ann@home.test", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8))), "the owner elsewhere gets in");
        assert!(!blocked("bob@home.test", PEER));
        scene.hand.advance(BLOCKED);
        assert!(!blocked("ann@home.test", PEER));
        assert_eq!(logins.guesses.borrow_mut().count(pair, logins.clock.instant()), FIRST_PAUSE);
    });
}

#[test]
fn guesses_at_once_are_all_counted() {
    play(|scene| async move {
        let logins = &scene.logins;
        let all: Vec<_> = (0..FREE + 5).map(|_| logins.check(attempt("nobody@home.test", "wrong"), PEER)).collect();
        let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
        for guess in &mut all {
            assert!(smol::future::poll_once(guess).await.is_none());
        }
        assert!(logins.guesses.borrow().is_blocked(&logins.pair("nobody@home.test", PEER), logins.clock.instant()));
    });
}

#[test]
fn networks_are_what_one_customer_has_and_memory_is_bounded() {
    let mut guesses = Guesses::default();
    let pair = |guesses: &Guesses, peer: &str| guesses.pair("ann", peer.parse().unwrap());
    assert_eq!(pair(&guesses, "2001:db8::1"), pair(&guesses, "2001:db8::ffff:0:0:2"));
    assert_ne!(pair(&guesses, "2001:db8::1"), pair(&guesses, "2001:db8:0:1::1"));
    assert_eq!(pair(&guesses, "::ffff:192.0.2.7"), pair(&guesses, "192.0.2.7"));
    let begin = Instant::now();
    for number in 0..u32::try_from(MAX_PAIRS).unwrap() + 100 {
        let pair = (u64::from(number), IpAddr::V4(Ipv4Addr::from(number)));
        guesses.count(pair, begin + Duration::from_millis(number.into()));
    }
    assert_eq!(guesses.failures.len(), MAX_PAIRS);
    assert!(guesses.failures.contains_key(&(200, IpAddr::V4(Ipv4Addr::from(200)))), "the longest silent ones are forgotten");
    let guesser = pair(&guesses, "192.0.2.7");
    (0..FREE).for_each(|_| _ = guesses.count(guesser, begin + Duration::from_secs(20)));
    for number in 0..u32::try_from(MAX_PAIRS).unwrap() {
        guesses.count((1 << 40 | u64::from(number), guesser.1), begin + Duration::from_secs(30));
    }
    assert!(guesses.is_blocked(&guesser, begin + Duration::from_secs(31)), "other names do not wash a block out");
}

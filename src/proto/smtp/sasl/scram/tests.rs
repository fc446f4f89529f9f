//! SCRAM against the vector of RFC 7677 section 3, and with a small client of its own for everything else.

use super::*;

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const BOUND: Binding = [7; 32];

fn credentials(passwords: &[&str]) -> Credentials {
    let salt = base64::decode(SALT.as_bytes()).unwrap();
    let keys = passwords.iter().map(|password| derive(password, &salt, ITERATIONS)).collect();
    Credentials { salt, iterations: ITERATIONS, keys, nonce: SERVER_NONCE.into() }
}

fn first(mechanism: Mechanism, binding: Option<Binding>, said: &str) -> Next {
    First { mechanism, binding }.answer(said.as_bytes())
}

/// The awaited end after a first message that is fine.
fn challenged(mechanism: Mechanism, binding: Option<Binding>, said: &str, passwords: &[&str]) -> (Exchange, String) {
    let Next::FindKeys(lookup) = first(mechanism, binding, said) else { panic!("{said}") };
    let Next::Challenge(exchange, challenge) = lookup.challenge(credentials(passwords)) else { panic!("{said}") };
    (exchange, String::from_utf8(challenge).unwrap())
}

/// What a client with this password says at the end.
fn proof_of(password: &str, bare: &str, challenge: &str, bound: &[u8]) -> String {
    let salt = base64::decode(SALT.as_bytes()).unwrap();
    let mut salted = [0; KEY];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(ITERATIONS).unwrap(), &salt, password.as_bytes(), &mut salted);
    let mut client = sign(&salted, b"Client Key");
    let nonce = challenge.split(',').next().unwrap();
    let without_proof = format!("c={},{nonce}", base64::encode(bound));
    let signature = sign(&hash(&client), format!("{bare},{challenge},{without_proof}").as_bytes());
    client.iter_mut().zip(signature).for_each(|(key, octet)| *key ^= octet);
    format!("{without_proof},p={}", base64::encode(&client))
}

#[test]
fn the_vector_of_rfc_7677() {
    let (exchange, challenge) = challenged(Mechanism::ScramSha256, None, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", &["other", "pencil"]);
    assert_eq!(challenge, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let pencil = derive("pencil", &base64::decode(SALT.as_bytes()).unwrap(), ITERATIONS);
    let attempt = Attempt { mechanism: Mechanism::ScramSha256, name: "user".into(), proof: Proof::Keys(Box::new(pencil)) };
    let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec();
    assert_eq!(exchange.answer(last.as_bytes()), Next::Judge(attempt, Ending::Prove(proof)));
}

#[test]
fn wrong_passwords_nonces_and_bindings_prove_nothing() {
    let bare = "n=ann@home.test,r=abc";
    let is_wrong = |next: Next| matches!(next, Next::Judge(Attempt { proof: Proof::Wrong, .. }, _));
    let plain = || challenged(Mechanism::ScramSha256, None, &format!("n,,{bare}"), &["right"]);
    let (exchange, challenge) = plain();
    assert!(is_wrong(exchange.answer(proof_of("wrong", bare, &challenge, b"n,,").as_bytes())));
    let (exchange, challenge) = plain();
    assert!(is_wrong(exchange.answer(proof_of("right", bare, &challenge, b"y,,").as_bytes())), "another header than in the first message");
    let (exchange, challenge) = plain();
    let other_nonce = challenge.replace("r=abc", "r=abd");
    assert!(is_wrong(exchange.answer(proof_of("right", bare, &other_nonce, b"n,,").as_bytes())));
    let (exchange, challenge) = challenged(Mechanism::ScramSha256, None, &format!("n,,{bare}"), &[]);
    assert!(is_wrong(exchange.answer(proof_of("right", bare, &challenge, b"n,,").as_bytes())), "a name without keys");
}

#[test]
fn plus_is_bound_to_the_session() {
    let bare = "n=ann@home.test,r=abc";
    let said = format!("p=tls-exporter,,{bare}");
    let run = |bound: Binding| {
        let (exchange, challenge) = challenged(Mechanism::ScramSha256Plus, Some(BOUND), &said, &["right"]);
        exchange.answer(proof_of("right", bare, &challenge, &[b"p=tls-exporter,,".as_slice(), &bound].concat()).as_bytes())
    };
    assert!(matches!(run(BOUND), Next::Judge(Attempt { proof: Proof::Keys(_), .. }, Ending::Prove(_))));
    assert!(matches!(run([8; 32]), Next::Judge(Attempt { proof: Proof::Wrong, .. }, _)), "somebody in the middle");
}

#[test]
fn first_messages_are_judged() {
    use Mechanism::{ScramSha256, ScramSha256Plus};
    let malformed = [
        (ScramSha256, None, ""),
        (ScramSha256, None, "n"),
        (ScramSha256, None, "n,,"),
        (ScramSha256, None, "n,,n=ann"),
        (ScramSha256, None, "n,,n=,r=abc"),
        (ScramSha256, None, "n,,n=ann,r="),
        (ScramSha256, None, "n,,n=a=nn,r=abc"),
        (ScramSha256, None, "n,,m=x,n=ann,r=abc"),
        (ScramSha256, None, "n,ann,n=ann,r=abc"),
        (ScramSha256, None, "x,,n=ann,r=abc"),
        (ScramSha256, None, "n,,n=ann,r=a c"),
        (ScramSha256, Some(BOUND), "p=tls-exporter,,n=ann,r=abc"),
        (ScramSha256Plus, Some(BOUND), "n,,n=ann,r=abc"),
        (ScramSha256Plus, Some(BOUND), "y,,n=ann,r=abc"),
        (ScramSha256Plus, Some(BOUND), "p=tls-unique,,n=ann,r=abc"),
    ];
    for (mechanism, binding, said) in malformed {
        assert!(matches!(first(mechanism, binding, said), Next::Malformed(_)), "{said}");
    }
    let wrong = [(None, "n,a=bob,n=ann,r=abc"), (Some(BOUND), "y,,n=ann,r=abc")];
    for (binding, said) in wrong {
        assert!(matches!(first(ScramSha256, binding, said), Next::Judge(Attempt { proof: Proof::Wrong, .. }, _)), "{said}");
    }
    let fine = [(None, "y,,n=a=2Cb=3Dc,r=abc", "a,b=c"), (Some(BOUND), "n,a=ANN,n=ann,r=abc,x=y", "ann")];
    for (binding, said, name) in fine {
        assert!(matches!(first(ScramSha256, binding, said), Next::FindKeys(lookup) if lookup.name == name), "{said}");
    }
}

#[test]
fn final_messages_are_judged() {
    let nonce = format!("abc{SERVER_NONCE}");
    let proof = base64::encode(&[0; KEY]);
    for said in [
        String::new(),
        "c=biws".into(),
        format!("c=biws,r={nonce}"),
        format!("c=biws,r={nonce},p="),
        format!("c=biws,r={nonce},p=AAAA"),
        format!("c=???,r={nonce},p={proof}"),
        format!("r={nonce},c=biws,p={proof}"),
        format!("c=biws,r={nonce},p={proof},x=y"),
    ] {
        let (exchange, _) = challenged(Mechanism::ScramSha256, None, "n,,n=ann,r=abc", &[]);
        assert!(matches!(exchange.answer(said.as_bytes()), Next::Malformed(_)), "{said}");
    }
    assert_eq!(Exchange::ScramEnd.answer(b""), Next::Welcome);
    assert!(matches!(Exchange::ScramEnd.answer(b"x"), Next::Malformed(_)));
}

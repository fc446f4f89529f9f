//! What clients say in SASL conversations: any octets, any mechanism, in bounded time.
//!
//! The first octet chooses mechanism and binding; the rest is what is said, line by line. Promises: a name that comes out
//! is one (not empty, bounded, no NUL); nobody is welcome whose password or proof was not asked about; base64 that is
//! read is written back as it was.

use pipit::proto::smtp::sasl::Ending;
use pipit::proto::smtp::sasl::Exchange;
use pipit::proto::smtp::sasl::MAX_NAME;
use pipit::proto::smtp::sasl::Mechanism;
use pipit::proto::smtp::sasl::Next;
use pipit::proto::smtp::sasl::Proof;
use pipit::proto::smtp::sasl::base64;
use pipit::proto::smtp::sasl::scram::Credentials;
use pipit::proto::smtp::sasl::scram::Keys;

pub const SEEDS: &[&[u8]] = &[
    b"\x00\0ann@home.test\0secret",
    b"\x01ann@home.test\nsecret",
    b"\x02n,,n=user,r=rOprNGfwEbeRWgbNEkqO\nc=biws,r=rOprNGfwEbeRWgbNEkqOn,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=\n",
    b"\x07p=tls-exporter,a=user,n=u=2Cs=3Der,r=abc\nc=biws,r=abcn,p=AAAA\n",
    b"\x06y,,n=user,r=abc,x=y\n",
];

pub fn target(data: &[u8]) {
    if let Some(octets) = base64::decode(data) {
        assert_eq!(base64::encode(&octets).as_bytes(), data);
    }
    let Some((choice, said)) = data.split_first() else { return };
    let mechanism = [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256, Mechanism::ScramSha256Plus][usize::from(choice & 3)];
    let mut exchange = Exchange::begin(mechanism, (choice & 4 != 0).then_some([7; 32]));
    let mut proved = false;
    for line in said.split(|octet| *octet == b'\n') {
        let mut next = exchange.answer(line);
        if let Next::FindKeys(lookup) = next {
            assert!(!lookup.name.is_empty() && lookup.name.len() <= MAX_NAME);
            let keys = vec![Keys { stored: [1; 32], server: [2; 32] }];
            next = lookup.challenge(Credentials { salt: vec![3; 16], iterations: 4096, keys, nonce: "n".into() });
        }
        exchange = match next {
            Next::Challenge(exchange, challenge) => {
                assert!(challenge.len() < 8 * 1024);
                exchange
            }
            Next::Judge(attempt, ending) => {
                assert!(!attempt.name.is_empty() && attempt.name.len() <= MAX_NAME && !attempt.name.contains('\0'));
                assert_eq!(attempt.mechanism, mechanism);
                assert!(!matches!(attempt.proof, Proof::Keys(_)), "the keys of nobody's password are not proved");
                proved = ending == Ending::Welcome;
                return assert!(proved);
            }
            Next::Welcome => return assert!(proved, "welcome without a proof"),
            Next::Malformed(why) => return assert!(!why.is_empty()),
            Next::FindKeys(_) => panic!("the keys were found already"),
        };
    }
}

//! Requests of the control socket: any line gives a command or a sentence, in bounded time and stack.

use pipit::admin::wire;
use pipit::admin::wire::Command;
use pipit::admin::wire::ImportFrame;
use pipit::admin::wire::Verdict;

pub const SEEDS: &[&[u8]] = &[
    br#"{"do":"status"}"#,
    br#"{"do":"user.add","address":"ann@home.test","password":"a \"b\" \u00e9 \\"}"#,
    br#"{"do":"alias.add","address":"info@home.test","to":["ann@home.test","bob@home.test"]}"#,
    br#"{"do":"mail.show","address":"ann@home.test","id":18446744073709551615}"#,
    br#"{"do":"mail.import","address":"ann@home.test","bytes":17}"#,
    br#"{"do":"send","from":"","full_name":"Ann","to":["root","a@b.test"],"notify":"never","ret":"hdrs","envid":"x","bytes":7}"#,
    br#"{"do":"config.set","key":"limits.connections","value":"7"}"#,
    br#"{"do":"queue.drop","ids":["1nfm2rbq0a1b2","1nfm2rbq0a1b2/2"]}"#,
    br#"{"do":"queue.retry","domain":"example.net"}"#,
    br#"{"do":"queue.fail","all":true}"#,
    br#"{"do":"hold.add","sender":"","recipient":"ann@home.test","domain":"home.test"}"#,
    br#"{"bytes":12,"flags":["\\Seen"],"received":-1}"#,
    br#"{"do":"x","unknown":[[{"a":[1,2.5e9,null,true]}]]}"#,
    br#"[[[[[[[[[["#,
];

pub fn target(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    match Command::parse(line) {
        Ok(command) => {
            let again = command.to_line();
            assert!(!again.contains('\n'), "{again:?}");
            assert_eq!(Command::parse(&again).as_ref(), Ok(&command));
        }
        Err(bad) => assert!(!bad.0.is_empty()),
    }
    let _ = wire::parse_json::<ImportFrame>(line);
    let _ = wire::parse_json::<Verdict>(line);
}

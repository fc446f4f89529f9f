//! Commands of a client (RFC 5321 section 4.1.1): one line in, without its CRLF; one `Command` or `Fault` out.
//!
//! Verbs in any case; blanks behind `FROM:` and `TO:` and at the end of the line are forgiven, as other servers do.
//! The answer to a command depends on the session and is not decided here; only what is wrong with the line alone is.
//! Verbs that are known but never served are `NotServed`; verbs of HTTP are `Foreign`: a web page made a browser talk
//! to us, and nothing it says may be taken for mail.
//! Not done here: what parameters mean (`smtp::parameters`), lengths of lines (the driver's).

use std::borrow::Cow;
use std::fmt;

use crate::mail::path::ForwardPath;
use crate::mail::path::PathError;
use crate::mail::path::ReversePath;
use crate::mail::path::path_end;

/// Longest name behind HELO and EHLO; a domain has at most 253 octets (RFC 5321 section 4.5.3.1.2 says 255).
pub const MAX_HELO: usize = 255;
/// Parameters behind one path; eight are announced.
const MAX_PARAMETERS: usize = 32;

/// One word behind the path of MAIL or RCPT: `keyword[=value]` (RFC 5321 section 4.1.2, `esmtp-param`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    pub keyword: &'a str,
    pub value: Option<&'a str>,
}

/// Whether a path as written needs SMTPUTF8 (RFC 6531 section 3.2): the parsed domain no longer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    Ascii,
    Utf8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// the peer's name for itself, in any form
    Helo(Cow<'a, str>),
    Ehlo(Cow<'a, str>),
    Mail {
        path: ReversePath,
        charset: Charset,
        parameters: Vec<Parameter<'a>>,
    },
    Rcpt {
        path: ForwardPath,
        charset: Charset,
        parameters: Vec<Parameter<'a>>,
    },
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
    StartTls,
    /// what stands behind the word: mechanism and initial response (RFC 4954 section 4), not yet looked at
    Auth(&'a [u8]),
    /// known and never served here: EXPN, BDAT, ETRN, TURN, SEND, SOML, SAML
    NotServed,
    /// a verb of HTTP
    Foreign,
    Unknown,
}

/// What is wrong with a line whatever the state of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// HELO and EHLO
    NameMissing,
    NameTooLong,
    ArgumentMissing,
    UnwantedArgument,
    /// no `FROM:` or `TO:`
    KeywordMissing,
    NotUtf8,
    ReversePath(PathError),
    ForwardPath(PathError),
    /// text behind the path that is no list of parameters
    BadParameters,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NameMissing => "tell your name behind HELO or EHLO",
            Fault::NameTooLong => "the name is longer than 255 octets",
            Fault::ArgumentMissing => "the command needs an argument",
            Fault::UnwantedArgument => "the command takes no argument",
            Fault::KeywordMissing => "the syntax is MAIL FROM:<address> and RCPT TO:<address>",
            Fault::NotUtf8 => "the line is not valid UTF-8",
            Fault::ReversePath(error) | Fault::ForwardPath(error) => return error.fmt(f),
            Fault::BadParameters => "the parameters behind the path are malformed",
        })
    }
}

/// Parses a line without its CRLF.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    let line = line.trim_ascii_end();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (verb, argument) = (line[..end].to_ascii_uppercase(), line[end..].trim_ascii_start());
    match verb.as_slice() {
        b"HELO" => name(argument).map(Command::Helo),
        b"EHLO" => name(argument).map(Command::Ehlo),
        b"MAIL" => mail(argument),
        b"RCPT" => rcpt(argument),
        b"DATA" => alone(argument, Command::Data),
        b"RSET" => alone(argument, Command::Rset),
        b"QUIT" => alone(argument, Command::Quit),
        b"STARTTLS" => alone(argument, Command::StartTls),
        // RFC 5321 section 4.1.1.9: the parameter of NOOP is ignored.
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" if argument.is_empty() => Err(Fault::ArgumentMissing),
        b"VRFY" => Ok(Command::Vrfy),
        b"AUTH" => Ok(Command::Auth(argument)),
        b"EXPN" | b"BDAT" | b"ETRN" | b"TURN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" => Ok(Command::NotServed),
        b"GET" | b"POST" | b"CONNECT" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"PATCH" | b"PRI" => Ok(Command::Foreign),
        _ => Ok(Command::Unknown),
    }
}

fn alone<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, Fault> {
    if argument.is_empty() { Ok(command) } else { Err(Fault::UnwantedArgument) }
}

/// RFC 5321 section 4.1.4 forbids to refuse mail because the name is not right, so any text will do.
fn name(argument: &[u8]) -> Result<Cow<'_, str>, Fault> {
    match argument.len() {
        0 => Err(Fault::NameMissing),
        length if length > MAX_HELO => Err(Fault::NameTooLong),
        _ => Ok(String::from_utf8_lossy(argument)),
    }
}

fn mail(argument: &[u8]) -> Result<Command<'_>, Fault> {
    let (path, parameters) = path_and_parameters(argument, "FROM:", Fault::ReversePath)?;
    let charset = charset(path);
    let path = ReversePath::parse(path).map_err(Fault::ReversePath)?;
    Ok(Command::Mail { path, charset, parameters })
}

fn rcpt(argument: &[u8]) -> Result<Command<'_>, Fault> {
    let (path, parameters) = path_and_parameters(argument, "TO:", Fault::ForwardPath)?;
    let charset = charset(path);
    let path = ForwardPath::parse(path).map_err(Fault::ForwardPath)?;
    Ok(Command::Rcpt { path, charset, parameters })
}

fn charset(path: &str) -> Charset {
    if path.is_ascii() { Charset::Ascii } else { Charset::Utf8 }
}

fn path_and_parameters<'a>(
    argument: &'a [u8],
    keyword: &str,
    fault: fn(PathError) -> Fault,
) -> Result<(&'a str, Vec<Parameter<'a>>), Fault> {
    let text = std::str::from_utf8(argument).map_err(|_| Fault::NotUtf8)?;
    let begins = text.get(..keyword.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(keyword));
    if !begins {
        return Err(Fault::KeywordMissing);
    }
    let text = text[keyword.len()..].trim_start_matches([' ', '\t']);
    let end = path_end(text).ok_or(fault(PathError::NoBrackets))?;
    let (path, rest) = text.split_at(end);
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(Fault::BadParameters);
    }
    let parameters: Option<Vec<Parameter<'a>>> = rest.split([' ', '\t']).filter(|word| !word.is_empty()).map(parameter).collect();
    let parameters = parameters.filter(|list| list.len() <= MAX_PARAMETERS).ok_or(Fault::BadParameters)?;
    Ok((path, parameters))
}

/// RFC 5321 section 4.1.2: `esmtp-keyword ["=" esmtp-value]`.
fn parameter(word: &str) -> Option<Parameter<'_>> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let begins = keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
    let letters = keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    // RFC 6531 section 3.3 widens the value to UTF-8.
    let visible = value.is_none_or(|value| !value.is_empty() && value.chars().all(|c| !c.is_control() && c != ' ' && c != '='));
    (begins && letters && visible).then_some(Parameter { keyword, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail_of(line: &str) -> (String, Charset, Vec<(&str, Option<&str>)>) {
        match parse(line.as_bytes()).unwrap() {
            Command::Mail { path, charset, parameters } => {
                (path.to_string(), charset, parameters.iter().map(|found| (found.keyword, found.value)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verbs_are_known_in_any_case() {
        let rows = [
            ("data", Command::Data),
            ("DATA  ", Command::Data),
            ("rSeT", Command::Rset),
            ("NOOP anything \u{7f}", Command::Noop),
            ("quit", Command::Quit),
            ("help me", Command::Help),
            ("vrfy ann", Command::Vrfy),
            ("expn list", Command::NotServed),
            ("BDAT 5 LAST", Command::NotServed),
            ("StartTls", Command::StartTls),
            ("AUTH PLAIN AGEAYg==", Command::Auth(b"PLAIN AGEAYg==")),
            ("GET / HTTP/1.1", Command::Foreign),
            ("PRI * HTTP/2.0", Command::Foreign),
            ("", Command::Unknown),
            (" DATA", Command::Unknown),
            ("DATAX", Command::Unknown),
            ("HELO x", Command::Helo("x".into())),
            ("EHLO [192.0.2.1]", Command::Ehlo("[192.0.2.1]".into())),
            ("helo my old pc", Command::Helo("my old pc".into())),
        ];
        for (line, command) in rows {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
        assert_eq!(parse(b"HELO M\xdcLLER"), Ok(Command::Helo("M\u{fffd}LLER".into())));
    }

    #[test]
    fn paths_and_parameters_are_taken_apart() {
        assert_eq!(mail_of("MAIL FROM:<>"), ("<>".into(), Charset::Ascii, vec![]));
        assert_eq!(mail_of("mail from: <a@x.org>"), ("<a@x.org>".into(), Charset::Ascii, vec![]));
        assert_eq!(
            mail_of("MAIL From:<a@x.org>  SIZE=10 RequireTls\tBODY=8BITMIME"),
            ("<a@x.org>".into(), Charset::Ascii, vec![("SIZE", Some("10")), ("RequireTls", None), ("BODY", Some("8BITMIME"))])
        );
        assert_eq!(mail_of("MAIL FROM:<\"a> SIZE=1\"@x.org>").2, vec![]);
        assert_eq!(mail_of("MAIL FROM:<p\u{e4}ivi@x.org>").1, Charset::Utf8);
        assert_eq!(mail_of("MAIL FROM:<a@b\u{fc}cher.example>").1, Charset::Utf8);
    }

    #[test]
    fn faults_are_told_apart() {
        let rows: [(&[u8], Fault); 15] = [
            (b"HELO", Fault::NameMissing),
            (b"EHLO  ", Fault::NameMissing),
            (b"VRFY", Fault::ArgumentMissing),
            (b"DATA x", Fault::UnwantedArgument),
            (b"STARTTLS now", Fault::UnwantedArgument),
            (b"MAIL", Fault::KeywordMissing),
            (b"MAIL TO:<a@x.org>", Fault::KeywordMissing),
            (b"RCPT FROM:<a@x.org>", Fault::KeywordMissing),
            (b"MAIL FROM:a@x.org", Fault::ReversePath(PathError::NoBrackets)),
            (b"RCPT TO:<>", Fault::ForwardPath(PathError::NullForward)),
            (b"MAIL FROM:<a@x.org>SIZE=1", Fault::BadParameters),
            (b"MAIL FROM:<a@x.org> SIZE=", Fault::BadParameters),
            (b"MAIL FROM:<a@x.org> =1", Fault::BadParameters),
            (b"MAIL FROM:<a@x.org> A=b=c", Fault::BadParameters),
            (b"MAIL FROM:<a\xff@x.org>", Fault::NotUtf8),
        ];
        for (line, fault) in rows {
            assert_eq!(parse(line), Err(fault), "{}", String::from_utf8_lossy(line));
        }
        let many = format!("MAIL FROM:<>{}", " A=1".repeat(MAX_PARAMETERS + 1));
        assert_eq!(parse(many.as_bytes()), Err(Fault::BadParameters));
        assert_eq!(parse(format!("HELO {}", "a".repeat(256)).as_bytes()), Err(Fault::NameTooLong));
    }
}

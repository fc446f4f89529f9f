//! What the parameters of MAIL and RCPT mean, and which are refused (RFC 5321 section 4.1.1.11).
//!
//! In go the words of `smtp::command` and what the session is; out comes `MailParameters` or a `Refusal`.
//! The order of the tests is that of delivery.md section 1: malformed before unknown before "not in this session".
//! DSN parameters (RFC 3461) and AUTH= (RFC 4954) are known on submission only, where their extensions are announced.

use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::proto::smtp::command::Parameter;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::extension::Offer;
use crate::proto::smtp::extension::Role;
use crate::proto::smtp::reply::Reply;

/// RFC 1870 section 3: `size-value ::= 1*20DIGIT`.
const MAX_SIZE_DIGITS: usize = 20;
/// RFC 3461 section 4.4.
const MAX_ENVID: usize = 100;
/// RFC 3461 section 4.2.
const MAX_ORCPT: usize = 500;

/// How the client greeted: behind HELO nothing was announced (RFC 5321 section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HELO
    Smtp,
    /// EHLO
    Esmtp,
}

/// The facts of a session on which parameters are judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub role: Role,
    pub protocol: Protocol,
    pub channel: Channel,
    pub require_tls: Offer,
    pub max_size: u64,
}

/// What MAIL asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    pub declared_size: Option<u64>,
    pub body: Body,
    pub smtp_utf8: bool,
    pub require_tls: RequireTls,
    pub ret: Ret,
    pub envid: Option<String>,
}

/// What RCPT asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    pub notify: Notify,
    pub orcpt: Option<String>,
}

/// Why a parameter is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// a value that does not fit, a value too many, or the parameter twice
    Malformed(&'static str),
    /// not known, not implemented, or switched off
    Unknown(String),
    /// REQUIRETLS without TLS
    NeedsTls,
    /// SIZE over the limit, in octets
    TooBig { limit: u64 },
}

impl Refusal {
    pub fn reply(&self) -> Reply {
        match self {
            Refusal::Malformed(keyword) => {
                Reply::new(501, EnhancedStatus::new(5, 5, 4), &format!("the parameter {keyword} is malformed or given twice"))
            }
            Refusal::Unknown(keyword) => {
                Reply::new(555, EnhancedStatus::new(5, 5, 4), &format!("the parameter {keyword} is not implemented here"))
            }
            // RFC 5248 section 2.4 registers 523 and 530 with 5.7.10, "encryption needed".
            Refusal::NeedsTls => Reply::new(523, EnhancedStatus::new(5, 7, 10), "REQUIRETLS needs a session under TLS"),
            Refusal::TooBig { limit } => {
                Reply::new(552, EnhancedStatus::new(5, 3, 4), &format!("messages may have at most {limit} octets here"))
            }
        }
    }
}

/// Parameters of MAIL that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Size,
    Body,
    SmtpUtf8,
    RequireTls,
    Ret,
    Envid,
    Auth,
}

impl Known {
    fn of(keyword: &str, role: Role) -> Option<Known> {
        match (keyword.to_ascii_uppercase().as_str(), role) {
            ("SIZE", _) => Some(Known::Size),
            ("BODY", _) => Some(Known::Body),
            ("SMTPUTF8", _) => Some(Known::SmtpUtf8),
            ("REQUIRETLS", _) => Some(Known::RequireTls),
            ("RET", Role::Submission) => Some(Known::Ret),
            ("ENVID", Role::Submission) => Some(Known::Envid),
            ("AUTH", Role::Submission) => Some(Known::Auth),
            _ => None,
        }
    }

    fn keyword(self) -> &'static str {
        match self {
            Known::Size => "SIZE",
            Known::Body => "BODY",
            Known::SmtpUtf8 => "SMTPUTF8",
            Known::RequireTls => "REQUIRETLS",
            Known::Ret => "RET",
            Known::Envid => "ENVID",
            Known::Auth => "AUTH",
        }
    }

    /// Whether a client may use it on these terms. SIZE and BODY do no harm behind HELO and are met there.
    fn allowed(self, terms: Terms) -> bool {
        match (self, terms.protocol, terms.require_tls) {
            (Known::Size | Known::Body, _, _) => true,
            (Known::SmtpUtf8 | Known::Ret | Known::Envid | Known::Auth, Protocol::Esmtp, _) => true,
            (Known::RequireTls, Protocol::Esmtp, Offer::Offered) => true,
            (Known::RequireTls, Protocol::Esmtp, Offer::Withheld) => false,
            (Known::SmtpUtf8 | Known::Ret | Known::Envid | Known::Auth | Known::RequireTls, Protocol::Smtp, _) => false,
        }
    }
}

/// Judges the parameters of MAIL.
pub fn judge_mail(parameters: &[Parameter<'_>], terms: Terms) -> Result<MailParameters, Refusal> {
    let mut wanted = MailParameters::default();
    let mut seen: Vec<Known> = Vec::new();
    let mut unknown = None;
    for parameter in parameters {
        let Some(known) = Known::of(parameter.keyword, terms.role) else {
            unknown.get_or_insert(parameter.keyword);
            continue;
        };
        let malformed = Refusal::Malformed(known.keyword());
        if seen.contains(&known) {
            return Err(malformed);
        }
        seen.push(known);
        match (known, parameter.value) {
            (Known::Size, Some(value)) => wanted.declared_size = Some(size(value).ok_or(malformed)?),
            (Known::Body, Some(value)) => match value.to_ascii_uppercase().as_str() {
                "7BIT" => wanted.body = Body::SevenBit,
                "8BITMIME" => wanted.body = Body::EightBit,
                // BINARYMIME (RFC 3030) among them
                _ => unknown = unknown.or(Some("BODY with this value")),
            },
            (Known::SmtpUtf8, None) => wanted.smtp_utf8 = true,
            (Known::RequireTls, None) => wanted.require_tls = RequireTls::Required,
            (Known::Ret, Some(value)) => wanted.ret = Ret::parse(value).ok_or(malformed)?,
            (Known::Envid, Some(value)) if is_envid(value) => wanted.envid = Some(value.to_owned()),
            // RFC 4954 section 5: whom a trusted relay speaks for. Our clients speak for themselves, so it is only read.
            (Known::Auth, Some(value)) if is_xtext(value) => {}
            (Known::Envid | Known::Auth, Some(_)) => return Err(malformed),
            (Known::Size | Known::Body | Known::Ret | Known::Envid | Known::Auth, None) => return Err(malformed),
            (Known::SmtpUtf8 | Known::RequireTls, Some(_)) => return Err(malformed),
        }
    }
    let withheld = seen.iter().find(|known| !known.allowed(terms)).map(|known| known.keyword());
    if let Some(keyword) = unknown.or(withheld) {
        return Err(Refusal::Unknown(keyword.to_owned()));
    }
    // Only under TLS did EHLO announce it (RFC 8689 section 4.2.1); tested last.
    match (wanted.require_tls, terms.channel) {
        (RequireTls::Required, Channel::Plain) => return Err(Refusal::NeedsTls),
        (RequireTls::Required, Channel::Tls) | (RequireTls::Default | RequireTls::Waived, _) => {}
    }
    // RFC 1870 section 6.1: a declared size over the limit is refused at MAIL.
    match wanted.declared_size {
        Some(size) if size > terms.max_size => Err(Refusal::TooBig { limit: terms.max_size }),
        Some(_) | None => Ok(wanted),
    }
}

/// Judges the parameters of RCPT: those of DSN on submission, none elsewhere.
pub fn judge_rcpt(parameters: &[Parameter<'_>], terms: Terms) -> Result<RcptParameters, Refusal> {
    let mut wanted = RcptParameters::default();
    let (mut notify, mut unknown) = (None, None);
    for parameter in parameters {
        let keyword = parameter.keyword.to_ascii_uppercase();
        match (keyword.as_str(), terms.role, terms.protocol) {
            ("NOTIFY", Role::Submission, Protocol::Esmtp) => {
                let value = parameter.value.and_then(Notify::parse).filter(|_| notify.is_none());
                notify = Some(value.ok_or(Refusal::Malformed("NOTIFY"))?);
            }
            ("ORCPT", Role::Submission, Protocol::Esmtp) => {
                let value = parameter.value.filter(|value| is_orcpt(value) && wanted.orcpt.is_none());
                wanted.orcpt = Some(value.ok_or(Refusal::Malformed("ORCPT"))?.to_owned());
            }
            _ => unknown = unknown.or(Some(parameter.keyword)),
        }
    }
    wanted.notify = notify.unwrap_or_default();
    match unknown {
        Some(keyword) => Err(Refusal::Unknown(keyword.to_owned())),
        None => Ok(wanted),
    }
}

/// Whether a text can be the value of ENVID (RFC 3461 section 4.4).
pub fn is_envid(text: &str) -> bool {
    text.len() <= MAX_ENVID && is_xtext(text)
}

/// RFC 3461 section 4: printable ASCII without `+` and `=`, or `+` and two upper-case hexadecimal digits.
fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let fine = match octet {
            b'+' => [octets.next(), octets.next()].iter().all(|digit| matches!(digit, Some(b'0'..=b'9' | b'A'..=b'F'))),
            octet => octet.is_ascii_graphic() && octet != b'=',
        };
        if !fine {
            return false;
        }
    }
    true
}

/// `addr-type ";" xtext` (RFC 3461 section 4.2). Addresses beyond ASCII come in the xtext form of RFC 6533 section 3.
fn is_orcpt(text: &str) -> bool {
    let Some((kind, address)) = text.split_once(';') else { return false };
    let kind_fits = !kind.is_empty() && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    text.len() <= MAX_ORCPT && kind_fits && !address.is_empty() && is_xtext(address)
}

/// A number too big for 64 bits is still a number, and too big for us.
fn size(value: &str) -> Option<u64> {
    let digits = value.len() <= MAX_SIZE_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::smtp::command::Command;
    use crate::proto::smtp::command::parse;

    fn judge(text: &str, terms: Terms) -> Result<MailParameters, u16> {
        match parse(format!("MAIL FROM:<> {text}").as_bytes()) {
            Ok(Command::Mail { parameters, .. }) => judge_mail(&parameters, terms).map_err(|refusal| refusal.reply().code),
            other => panic!("{other:?}"),
        }
    }

    const TLS: Terms =
        Terms { role: Role::Exchange, protocol: Protocol::Esmtp, channel: Channel::Tls, require_tls: Offer::Offered, max_size: 1000 };

    #[test]
    fn requiretls_is_tested_in_the_order_of_the_specification() {
        for protocol in [Protocol::Smtp, Protocol::Esmtp] {
            for channel in [Channel::Plain, Channel::Tls] {
                for require_tls in [Offer::Offered, Offer::Withheld] {
                    let terms = Terms { protocol, channel, require_tls, ..TLS };
                    for malformed in ["REQUIRETLS=1", "REQUIRETLS requiretls", "FOO REQUIRETLS=1", "REQUIRETLS REQUIRETLS FOO"] {
                        assert_eq!(judge(malformed, terms), Err(501), "{malformed} {terms:?}");
                    }
                    assert_eq!(judge("REQUIRETLS FOO", terms), Err(555), "{terms:?}");
                    let plain = judge("requireTLS", terms).map(|wanted| wanted.require_tls);
                    let expected = match (protocol, require_tls, channel) {
                        (Protocol::Smtp, _, _) | (_, Offer::Withheld, _) => Err(555),
                        (Protocol::Esmtp, Offer::Offered, Channel::Plain) => Err(523),
                        (Protocol::Esmtp, Offer::Offered, Channel::Tls) => Ok(RequireTls::Required),
                    };
                    assert_eq!(plain, expected, "{terms:?}");
                }
            }
        }
    }

    #[test]
    fn every_parameter_has_its_answer() {
        let rows = [
            ("SIZE=1000", Ok(())),
            ("SIZE=1001", Err(552)),
            ("SIZE=99999999999999999999", Err(552)),
            ("SIZE=999999999999999999999", Err(501)),
            ("SIZE=-1", Err(501)),
            ("SIZE", Err(501)),
            ("SIZE=1 SIZE=1", Err(501)),
            ("BODY=8bitmime", Ok(())),
            ("BODY=7BIT", Ok(())),
            ("BODY", Err(501)),
            ("BODY=BINARYMIME", Err(555)),
            ("SMTPUTF8", Ok(())),
            ("SMTPUTF8=1", Err(501)),
            ("AUTH=<>", Err(555)),
            ("RET=FULL", Err(555)),
            ("ENVID=x", Err(555)),
        ];
        for (text, expected) in rows {
            assert_eq!(judge(text, TLS).map(|_| ()), expected, "{text}");
        }
        assert_eq!(judge("SMTPUTF8", Terms { protocol: Protocol::Smtp, ..TLS }), Err(555));
        let wanted = judge("SIZE=10 BODY=8BITMIME SMTPUTF8 REQUIRETLS", TLS).unwrap();
        let all = MailParameters {
            declared_size: Some(10),
            body: Body::EightBit,
            smtp_utf8: true,
            require_tls: RequireTls::Required,
            ..MailParameters::default()
        };
        assert_eq!(wanted, all);
    }

    #[test]
    fn parameters_of_dsn_and_auth_belong_to_submission() {
        let terms = Terms { role: Role::Submission, ..TLS };
        let rows = [
            ("RET=FULL ENVID=QQ314159", Ok((Ret::Full, Some("QQ314159")))),
            ("ret=hdrs AUTH=<>", Ok((Ret::Headers, None))),
            ("AUTH=e+3Dmc2@example.com ENVID=a+2Bb", Ok((Ret::Unset, Some("a+2Bb")))),
            ("RET=ALL", Err(501)),
            ("RET", Err(501)),
            ("RET=FULL RET=FULL", Err(501)),
            ("ENVID", Err(501)),
            ("ENVID=a+2bc", Err(501)),
            ("ENVID=a+2", Err(501)),
            ("ENVID=\u{fc}", Err(501)),
            ("AUTH", Err(501)),
            ("AUTH=a+", Err(501)),
            ("NOTIFY=NEVER", Err(555)),
        ];
        for (text, expected) in rows {
            let found = judge(text, terms);
            assert_eq!(found.as_ref().map(|wanted| (wanted.ret, wanted.envid.as_deref())).map_err(|code| *code), expected, "{text}");
            assert_eq!(judge(text, TLS).map(|_| ()), Err(555), "{text}");
        }
        assert_eq!(judge(&format!("ENVID={}", "x".repeat(101)), terms), Err(501));
        assert_eq!(judge("RET=FULL", Terms { protocol: Protocol::Smtp, ..terms }), Err(555));
    }

    #[test]
    fn parameters_of_rcpt_are_those_of_dsn() {
        let judge = |text: &str, terms: Terms| match parse(format!("RCPT TO:<a@b.c> {text}").as_bytes()) {
            Ok(Command::Rcpt { parameters, .. }) => judge_rcpt(&parameters, terms).map_err(|refusal| refusal.reply().code),
            other => panic!("{other:?}"),
        };
        let terms = Terms { role: Role::Submission, ..TLS };
        let wanted = judge("NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.d", terms).unwrap();
        assert!(wanted.notify.wants_success() && wanted.notify.wants_delay() && !wanted.notify.wants_failure());
        assert_eq!(wanted.orcpt.as_deref(), Some("rfc822;a+2Bb@c.d"));
        let long = format!("ORCPT=rfc822;{}", "x".repeat(500));
        for malformed in [
            "NOTIFY",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=NEVER NOTIFY=NEVER",
            "ORCPT=a@b",
            "ORCPT=;a",
            "ORCPT=rfc822;",
            "ORCPT=r;a ORCPT=r;a",
            &long,
        ] {
            assert_eq!(judge(malformed, terms), Err(501), "{malformed}");
            assert_eq!(judge(malformed, TLS), Err(555), "{malformed}");
        }
        assert_eq!(judge("FOO NOTIFY=NEVER", terms), Err(555));
    }
}

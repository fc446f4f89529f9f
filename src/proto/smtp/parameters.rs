//! What the parameters of MAIL and RCPT mean, and which are refused (RFC 5321 section 4.1.1.11).
//!
//! In go the words of `smtp::command` and what the session is; out comes `MailParameters` or a `Refusal`.
//! The order of the tests is that of delivery.md section 1: malformed before unknown before "not in this session".
//! DSN parameters (RFC 3461) and AUTH= (RFC 4954) are unknown here: neither extension is announced.

use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::Body;
use crate::mail::envelope::RequireTls;
use crate::proto::smtp::command::Parameter;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::extension::Offer;
use crate::proto::smtp::reply::Reply;

/// RFC 1870 section 3: `size-value ::= 1*20DIGIT`.
const MAX_SIZE_DIGITS: usize = 20;

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
    pub protocol: Protocol,
    pub channel: Channel,
    pub require_tls: Offer,
    pub max_size: u64,
}

/// What MAIL asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    pub declared_size: Option<u64>,
    pub body: Body,
    pub smtp_utf8: bool,
    pub require_tls: RequireTls,
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

/// Parameters we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Size,
    Body,
    SmtpUtf8,
    RequireTls,
}

impl Known {
    fn of(keyword: &str) -> Option<Known> {
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => Some(Known::Size),
            "BODY" => Some(Known::Body),
            "SMTPUTF8" => Some(Known::SmtpUtf8),
            "REQUIRETLS" => Some(Known::RequireTls),
            _ => None,
        }
    }

    fn keyword(self) -> &'static str {
        match self {
            Known::Size => "SIZE",
            Known::Body => "BODY",
            Known::SmtpUtf8 => "SMTPUTF8",
            Known::RequireTls => "REQUIRETLS",
        }
    }

    /// Whether a client may use it on these terms. SIZE and BODY do no harm behind HELO and are met there.
    fn allowed(self, terms: Terms) -> bool {
        match (self, terms.protocol, terms.require_tls) {
            (Known::Size | Known::Body, _, _) | (Known::SmtpUtf8, Protocol::Esmtp, _) => true,
            (Known::RequireTls, Protocol::Esmtp, Offer::Offered) => true,
            (Known::SmtpUtf8 | Known::RequireTls, Protocol::Smtp, _) | (Known::RequireTls, Protocol::Esmtp, Offer::Withheld) => false,
        }
    }
}

/// Judges the parameters of MAIL.
pub fn judge_mail(parameters: &[Parameter<'_>], terms: Terms) -> Result<MailParameters, Refusal> {
    let mut wanted = MailParameters::default();
    let mut seen: Vec<Known> = Vec::new();
    let mut unknown = None;
    for parameter in parameters {
        let Some(known) = Known::of(parameter.keyword) else {
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
            (Known::Size | Known::Body, None) | (Known::SmtpUtf8 | Known::RequireTls, Some(_)) => return Err(malformed),
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

/// RCPT has no parameter of ours.
pub fn judge_rcpt(parameters: &[Parameter<'_>]) -> Result<(), Refusal> {
    match parameters.first() {
        None => Ok(()),
        Some(parameter) => Err(Refusal::Unknown(parameter.keyword.to_owned())),
    }
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

    const TLS: Terms = Terms { protocol: Protocol::Esmtp, channel: Channel::Tls, require_tls: Offer::Offered, max_size: 1000 };

    #[test]
    fn requiretls_is_tested_in_the_order_of_the_specification() {
        for protocol in [Protocol::Smtp, Protocol::Esmtp] {
            for channel in [Channel::Plain, Channel::Tls] {
                for require_tls in [Offer::Offered, Offer::Withheld] {
                    let terms = Terms { protocol, channel, require_tls, max_size: 1000 };
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
        let all = MailParameters { declared_size: Some(10), body: Body::EightBit, smtp_utf8: true, require_tls: RequireTls::Required };
        assert_eq!(wanted, all);
    }
}

//! Service extensions (RFC 5321 section 2.2): which ones are announced when, and how their EHLO lines read.
//!
//! In goes what the configuration offers and what the session is; out comes the list, in the order of the lines.
//! DSN and AUTH are for submission only: on port 25 we would owe notices to strangers (delivery.md section 6).
//! Not announced: CHUNKING (RFC 3030; smuggling has been found in it again and again).

use std::fmt;

/// Whether the configuration has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Offered,
    Withheld,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// other servers bring mail for us (port 25)
    Exchange,
    /// our people hand in mail (RFC 6409)
    Submission,
}

/// How the session is protected now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Plain,
    Tls,
}

/// One line of the answer to EHLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// RFC 2920
    Pipelining,
    /// RFC 1870, octets
    Size(u64),
    /// RFC 6152
    EightBitMime,
    /// RFC 6531
    SmtpUtf8,
    /// RFC 2034
    EnhancedStatusCodes,
    /// RFC 9422: recipients in one transaction
    Limits { recipients: usize },
    /// RFC 3207
    StartTls,
    /// RFC 8689
    RequireTls,
    /// RFC 3461
    Dsn,
    /// RFC 4954; `plus`: whether the session has a channel binding
    Auth { plus: Offer },
}

/// What the configuration says about extensions.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    pub role: Role,
    pub max_size: u64,
    pub max_recipients: usize,
    pub starttls: Offer,
    pub require_tls: Offer,
}

impl Offers {
    /// What EHLO announces in a session over `channel`; `binding`: whether SCRAM can be bound to it. HELO announces nothing.
    pub fn announced(self, channel: Channel, binding: Offer) -> Vec<Extension> {
        let mut list = vec![
            Extension::Pipelining,
            Extension::Size(self.max_size),
            Extension::EightBitMime,
            Extension::SmtpUtf8,
            Extension::EnhancedStatusCodes,
            Extension::Limits { recipients: self.max_recipients },
        ];
        if self.role == Role::Submission {
            list.push(Extension::Dsn);
        }
        match (channel, self.starttls, self.require_tls) {
            // RFC 3207 section 4.2: no STARTTLS under TLS. RFC 8689 section 2: REQUIRETLS only there (D4).
            (Channel::Tls, _, Offer::Offered) => list.push(Extension::RequireTls),
            (Channel::Plain, Offer::Offered, _) => list.push(Extension::StartTls),
            (Channel::Tls, _, Offer::Withheld) | (Channel::Plain, Offer::Withheld, _) => {}
        }
        // Promise R14: no password ever crosses the net in the clear, so plaintext sessions are not even invited.
        if (self.role, channel) == (Role::Submission, Channel::Tls) {
            list.push(Extension::Auth { plus: binding });
        }
        list
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extension::Pipelining => f.write_str("PIPELINING"),
            Extension::Size(octets) => write!(f, "SIZE {octets}"),
            Extension::EightBitMime => f.write_str("8BITMIME"),
            Extension::SmtpUtf8 => f.write_str("SMTPUTF8"),
            Extension::EnhancedStatusCodes => f.write_str("ENHANCEDSTATUSCODES"),
            Extension::Limits { recipients } => write!(f, "LIMITS RCPTMAX={recipients}"),
            Extension::StartTls => f.write_str("STARTTLS"),
            Extension::RequireTls => f.write_str("REQUIRETLS"),
            Extension::Dsn => f.write_str("DSN"),
            Extension::Auth { plus: Offer::Withheld } => f.write_str("AUTH PLAIN LOGIN SCRAM-SHA-256"),
            Extension::Auth { plus: Offer::Offered } => f.write_str("AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starttls_and_requiretls_depend_on_the_channel_and_the_offer() {
        for starttls in [Offer::Offered, Offer::Withheld] {
            for require_tls in [Offer::Offered, Offer::Withheld] {
                let offers = Offers { role: Role::Exchange, max_size: 1, max_recipients: 2, starttls, require_tls };
                let plain = offers.announced(Channel::Plain, Offer::Withheld);
                assert_eq!(plain.contains(&Extension::StartTls), starttls == Offer::Offered);
                assert!(!plain.contains(&Extension::RequireTls), "D4");
                let tls = offers.announced(Channel::Tls, Offer::Offered);
                assert_eq!(tls.contains(&Extension::RequireTls), require_tls == Offer::Offered);
                assert!(!tls.contains(&Extension::StartTls));
            }
        }
    }

    #[test]
    fn auth_and_dsn_are_for_submission_and_auth_for_tls() {
        for role in [Role::Exchange, Role::Submission] {
            for channel in [Channel::Plain, Channel::Tls] {
                for plus in [Offer::Offered, Offer::Withheld] {
                    let offers = Offers { role, max_size: 1, max_recipients: 2, starttls: Offer::Offered, require_tls: Offer::Withheld };
                    let list = offers.announced(channel, plus);
                    assert_eq!(list.contains(&Extension::Dsn), role == Role::Submission);
                    let auth = list.iter().find(|extension| matches!(extension, Extension::Auth { .. }));
                    let expected = (role, channel) == (Role::Submission, Channel::Tls);
                    assert_eq!(auth, expected.then_some(&Extension::Auth { plus }));
                }
            }
        }
    }
}

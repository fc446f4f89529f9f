//! Service extensions (RFC 5321 section 2.2): which ones are announced when, and how their EHLO lines read.
//!
//! In goes what the configuration offers and what the session is; out comes the list, in the order of the lines.
//! Not announced: CHUNKING (RFC 3030; smuggling has been found in it again and again), DSN (delivery.md section 6:
//! on port 25 we would owe notices to strangers), AUTH (submission only).

use std::fmt;

/// Whether the configuration has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Offered,
    Withheld,
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
}

/// What the configuration says about extensions.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    pub max_size: u64,
    pub max_recipients: usize,
    pub starttls: Offer,
    pub require_tls: Offer,
}

impl Offers {
    /// What EHLO announces in a session over `channel`. HELO announces nothing.
    pub fn announced(self, channel: Channel) -> Vec<Extension> {
        let mut list = vec![
            Extension::Pipelining,
            Extension::Size(self.max_size),
            Extension::EightBitMime,
            Extension::SmtpUtf8,
            Extension::EnhancedStatusCodes,
            Extension::Limits { recipients: self.max_recipients },
        ];
        match (channel, self.starttls, self.require_tls) {
            // RFC 3207 section 4.2: no STARTTLS under TLS. RFC 8689 section 2: REQUIRETLS only there (D4).
            (Channel::Tls, _, Offer::Offered) => list.push(Extension::RequireTls),
            (Channel::Plain, Offer::Offered, _) => list.push(Extension::StartTls),
            (Channel::Tls, _, Offer::Withheld) | (Channel::Plain, Offer::Withheld, _) => {}
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
                let offers = Offers { max_size: 1, max_recipients: 2, starttls, require_tls };
                let plain = offers.announced(Channel::Plain);
                assert_eq!(plain.contains(&Extension::StartTls), starttls == Offer::Offered);
                assert!(!plain.contains(&Extension::RequireTls), "D4");
                let tls = offers.announced(Channel::Tls);
                assert_eq!(tls.contains(&Extension::RequireTls), require_tls == Offer::Offered);
                assert!(!tls.contains(&Extension::StartTls));
            }
        }
    }
}

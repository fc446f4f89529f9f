//! What a peer offers: the lines of its answer to EHLO (RFC 5321 section 4.1.1.1).
//!
//! Unknown keywords are passed over. A parameter that cannot be read leaves the extension offered without it.
//! Not done here: remembering over STARTTLS; the session forgets (RFC 3207 section 4.2).

use crate::proto::smtp::peer_reply::PeerReply;

/// Most digits of a number in LIMITS (RFC 9422 section 3.1).
const MAX_LIMIT_DIGITS: usize = 6;

/// How the peer understood our greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// HELO only: nothing is offered
    #[default]
    Smtp,
    Esmtp,
}

/// RFC 1870.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizeOffer {
    #[default]
    No,
    /// SIZE is understood, no maximum is named (section 4: 0 means none)
    Unlimited,
    /// octets
    AtMost(u64),
}

/// What may be used in this session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerOffers {
    pub dialect: Dialect,
    /// RFC 3207
    pub starttls: bool,
    /// RFC 2920
    pub pipelining: bool,
    /// RFC 6152
    pub eight_bit_mime: bool,
    /// RFC 6531
    pub smtp_utf8: bool,
    /// RFC 3461
    pub dsn: bool,
    /// RFC 8689
    pub require_tls: bool,
    pub size: SizeOffer,
    /// RFC 9422: recipients of one transaction
    pub rcpt_max: Option<usize>,
    /// RFC 9422: transactions of one session
    pub mail_max: Option<usize>,
}

impl PeerOffers {
    /// From the reply to EHLO; its first line names the peer.
    pub fn read(reply: &PeerReply) -> PeerOffers {
        let mut offers = PeerOffers { dialect: Dialect::Esmtp, ..PeerOffers::default() };
        for line in reply.lines.iter().skip(1) {
            offers.keyword(line);
        }
        offers
    }

    fn keyword(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        // Section 2.4: keywords are not case sensitive.
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "STARTTLS" => self.starttls = true,
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtp_utf8 = true,
            "DSN" => self.dsn = true,
            "REQUIRETLS" => self.require_tls = true,
            "SIZE" => {
                let limit = words.next().and_then(|number| number.parse().ok()).filter(|limit| *limit > 0);
                self.size = limit.map_or(SizeOffer::Unlimited, SizeOffer::AtMost);
            }
            "LIMITS" => words.for_each(|word| self.limit(word)),
            _ => {}
        }
    }

    fn limit(&mut self, word: &str) {
        let Some((name, number)) = word.split_once('=') else { return };
        if number.len() > MAX_LIMIT_DIGITS {
            return;
        }
        let number = number.parse().ok().filter(|number| *number > 0);
        if name.eq_ignore_ascii_case("RCPTMAX") {
            self.rcpt_max = number;
        } else if name.eq_ignore_ascii_case("MAILMAX") {
            self.mail_max = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> PeerOffers {
        PeerOffers::read(&PeerReply { code: 250, enhanced: None, lines: lines.iter().map(|line| line.to_string()).collect() })
    }

    #[test]
    fn keywords_in_any_case_and_unknown_ones() {
        let offers =
            read(&["SIZE 7", "pipelining", "SIZE 1000", "8BitMime", "X-THING", "", "AUTH=LOGIN", "LIMITS RCPTMAX=20 mailmax=3 A=1"]);
        let expected = PeerOffers {
            dialect: Dialect::Esmtp,
            pipelining: true,
            eight_bit_mime: true,
            size: SizeOffer::AtMost(1000),
            rcpt_max: Some(20),
            mail_max: Some(3),
            ..PeerOffers::default()
        };
        assert_eq!(offers, expected);
    }

    #[test]
    fn parameters_that_cannot_be_read_limit_nothing() {
        for size in ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE 99999999999999999999999"] {
            assert_eq!(read(&["mx", size]).size, SizeOffer::Unlimited, "{size}");
        }
        for limits in ["LIMITS", "LIMITS RCPTMAX", "LIMITS RCPTMAX=0", "LIMITS RCPTMAX=1234567", "LIMITS RCPTMAX=x"] {
            assert_eq!(read(&["mx", limits]).rcpt_max, None, "{limits}");
        }
        assert_eq!(read(&["mx"]).size, SizeOffer::No);
    }
}

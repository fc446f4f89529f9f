//! How long each side waits (RFC 5321 section 4.5.3.2).
//!
//! The only place with these numbers; machines get time-outs as inputs, drivers apply them.

/// The receiving side.
pub mod server {
    use std::time::Duration;

    /// For the next command or the next octets of data (section 4.5.3.2.7).
    pub const IDLE: Duration = Duration::from_secs(5 * 60);
    /// The same while more than three quarters of the slots are taken; sections 4.5.3.2 and R5: 10 to 30 s.
    pub const IDLE_WHEN_BUSY: Duration = Duration::from_secs(20);
    /// For a TLS handshake: several round trips at most, and a held slot otherwise.
    pub const HANDSHAKE: Duration = Duration::from_secs(60);
    /// For one reply to be taken by the peer; a peer that does not read cannot be served.
    pub const WRITE: Duration = Duration::from_secs(60);
    /// For a whole message, so that one octet every four minutes does not hold a slot for ever: 35 MiB at 5 kB/s.
    pub const MESSAGE: Duration = Duration::from_secs(2 * 60 * 60);
}

/// The sending side: section 4.5.3.2.1 to 4.5.3.2.6.
pub mod client {
    use std::time::Duration;

    /// For the TCP connection; the RFC names none, this is what Postfix uses.
    pub const CONNECT: Duration = Duration::from_secs(30);
    pub const GREETING: Duration = Duration::from_secs(5 * 60);
    /// EHLO, HELO, STARTTLS and RSET: the time of MAIL, which the RFC gives for commands of no work.
    pub const COMMAND: Duration = Duration::from_secs(5 * 60);
    pub const HANDSHAKE: Duration = Duration::from_secs(60);
    pub const MAIL: Duration = Duration::from_secs(5 * 60);
    pub const RECIPIENT: Duration = Duration::from_secs(5 * 60);
    pub const DATA_START: Duration = Duration::from_secs(2 * 60);
    pub const DATA_BLOCK: Duration = Duration::from_secs(3 * 60);
    pub const DATA_END: Duration = Duration::from_secs(10 * 60);
    /// For everything up to the last EHLO, so that a host that answers each step at its last second is left.
    pub const DIALOGUE: Duration = Duration::from_secs(15 * 60);
    /// For a whole transaction: 35 MiB at 5 kB/s, as for the receiving side.
    pub const TRANSACTION: Duration = Duration::from_secs(2 * 60 * 60);
    /// The reply to QUIT changes nothing any more.
    pub const QUIT: Duration = Duration::from_secs(5);
}

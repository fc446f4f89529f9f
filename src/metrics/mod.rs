//! Counters of one running instance, and their text exposition (Prometheus format 0.0.4, prefix `pipit_`).
//!
//! One `Metrics` value belongs to one instance (localserve runs several servers), is shared by `Rc` on the event loop,
//! and only grows. What is measured at the moment of asking (memory, store size) comes in as `Gauge`s from outside.

use std::cell::Cell;
use std::fmt::Write;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add_one(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().saturating_add(n));
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// A closed set of label values: the enum's variants and their words.
pub trait Label: Copy + 'static {
    const KEY: &'static str;
    const ALL: &'static [(Self, &'static str)];
    fn index(self) -> usize;
}

/// One counter for each value of a label.
pub struct Labelled<L: Label> {
    counts: Vec<Counter>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label> Default for Labelled<L> {
    fn default() -> Self {
        Labelled { counts: L::ALL.iter().map(|_| Counter::default()).collect(), label: std::marker::PhantomData }
    }
}

impl<L: Label> Labelled<L> {
    pub fn add_one(&self, value: L) {
        self.counts[value.index()].add_one();
    }

    pub fn value(&self, value: L) -> u64 {
        self.counts[value.index()].value()
    }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $key:literal, $($variant:ident => $word:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }
        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [(Self, &'static str)] = &[$(($name::$variant, $word)),+];
            fn index(self) -> usize { self as usize }
        }
    };
}

label!(
    /// Why a connection was turned away with 421 before a greeting.
    TurnedAway, "reason", Total => "total", Address => "address", Rate => "rate"
);
label!(
    /// How a TLS handshake ended.
    TlsOutcome, "result", Established => "established", Failed => "failed", Injected => "plaintext-after-starttls"
);
label!(
    /// What RCPT was answered.
    RecipientOutcome, "result", Accepted => "accepted", Remote => "remote", Unknown => "unknown", NotLocal => "not-local", Full => "mailbox-full", Later => "later"
);
label!(
    /// How the end of a message's data was answered.
    MessageOutcome, "result", Stored => "stored", TooBig => "too-big", Broken => "broken", Header => "header", Loop => "loop",
    NoSpace => "no-space", Overloaded => "overloaded", Failed => "failed", Abandoned => "abandoned"
);
label!(
    /// How an attempt ended for one recipient.
    DeliveryOutcome, "result", Delivered => "delivered", Deferred => "deferred", Failed => "failed"
);
label!(
    /// How the way of a delivered recipient was protected.
    DeliveryTls, "mode", Tls => "tls", Plaintext => "plaintext"
);

label!(
    /// How a login was answered; `Blocked` without a look at the password.
    LoginOutcome, "result", Accepted => "accepted", Refused => "refused", Blocked => "blocked", Later => "later"
);

label!(
    /// How a lookup in the DNS ended.
    DnsOutcome, "result", Records => "records", NoData => "no-data", NoSuchName => "no-such-name", Failed => "failed"
);
label!(
    /// What was proved about a lookup in the DNS (RFC 4035 section 4.3).
    DnsState, "state", Secure => "secure", Insecure => "insecure", Bogus => "bogus", Indeterminate => "indeterminate"
);

/// A value read when asked.
pub struct Gauge {
    pub name: &'static str,
    pub help: &'static str,
    pub value: u64,
}

/// All counters of one instance.
#[derive(Default)]
pub struct Metrics {
    pub connections: Counter,
    pub turned_away: Labelled<TurnedAway>,
    pub tls: Labelled<TlsOutcome>,
    pub commands: Counter,
    pub error_replies: Counter,
    pub timeouts: Counter,
    pub recipients: Labelled<RecipientOutcome>,
    pub messages: Labelled<MessageOutcome>,
    pub message_bytes: Counter,
    pub logins: Labelled<LoginOutcome>,
    pub panics: Counter,
    pub memory_waits: Counter,
    pub control_requests: Counter,
    pub deliveries: Labelled<DeliveryOutcome>,
    pub delivery_tls: Labelled<DeliveryTls>,
    pub notices: Counter,
    pub client_connections: Counter,
    pub client_tls: Labelled<TlsOutcome>,
    pub dns_lookups: Labelled<DnsOutcome>,
    pub dns_states: Labelled<DnsState>,
    pub dns_cached: Counter,
    pub dns_second_tries: Counter,
    pub dns_queries: Counter,
}

impl Metrics {
    /// The text exposition of all counters and the given gauges.
    pub fn expose(&self, gauges: &[Gauge]) -> String {
        let mut out = String::with_capacity(4096);
        plain(&mut out, "smtp_connections_total", "connections accepted", &self.connections);
        labelled(&mut out, "smtp_turned_away_total", "connections answered 421 before a greeting", &self.turned_away);
        labelled(&mut out, "smtp_tls_handshakes_total", "TLS handshakes with clients", &self.tls);
        plain(&mut out, "smtp_commands_total", "command lines read", &self.commands);
        plain(&mut out, "smtp_error_replies_total", "replies 4yz and 5yz", &self.error_replies);
        plain(&mut out, "smtp_timeouts_total", "sessions ended for want of input", &self.timeouts);
        labelled(&mut out, "smtp_recipients_total", "RCPT commands by answer", &self.recipients);
        labelled(&mut out, "messages_received_total", "messages by answer to their end", &self.messages);
        plain(&mut out, "message_bytes_received_total", "octets of stored messages", &self.message_bytes);
        labelled(&mut out, "logins_total", "logins by answer", &self.logins);
        plain(&mut out, "panics_total", "tasks that ended in a panic", &self.panics);
        plain(&mut out, "memory_waits_total", "times a session waited for message memory", &self.memory_waits);
        plain(&mut out, "control_requests_total", "requests on the control socket", &self.control_requests);
        labelled(&mut out, "delivery_attempts_total", "attempts to deliver to a recipient, by their end", &self.deliveries);
        labelled(&mut out, "deliveries_total", "recipients delivered to other servers, by the protection of the way", &self.delivery_tls);
        plain(&mut out, "notices_total", "notices about failure, delay or relaying", &self.notices);
        plain(&mut out, "smtp_client_connections_total", "connections tried to other servers", &self.client_connections);
        labelled(&mut out, "smtp_client_tls_handshakes_total", "TLS handshakes with other servers", &self.client_tls);
        labelled(&mut out, "dns_lookups_total", "lookups in the DNS by their end", &self.dns_lookups);
        labelled(&mut out, "dns_validations_total", "lookups in the DNS by their DNSSEC state", &self.dns_states);
        plain(
            &mut out,
            "dns_second_tries_total",
            "lookups tried in another way because the first answers proved nothing",
            &self.dns_second_tries,
        );
        plain(&mut out, "dns_lookups_cached_total", "lookups answered from memory", &self.dns_cached);
        plain(&mut out, "dns_upstream_queries_total", "queries sent to upstream resolvers", &self.dns_queries);
        for gauge in gauges {
            head(&mut out, gauge.name, gauge.help, "gauge");
            let _ = writeln!(out, "pipit_{} {}", gauge.name, gauge.value);
        }
        out
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP pipit_{name} {help}\n# TYPE pipit_{name} {kind}");
}

fn plain(out: &mut String, name: &str, help: &str, counter: &Counter) {
    head(out, name, help, "counter");
    let _ = writeln!(out, "pipit_{name} {}", counter.value());
}

fn labelled<L: Label>(out: &mut String, name: &str, help: &str, counters: &Labelled<L>) {
    head(out, name, help, "counter");
    for (value, word) in L::ALL {
        let _ = writeln!(out, "pipit_{name}{{{}=\"{word}\"}} {}", L::KEY, counters.value(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_exposed_once_with_help_and_type() {
        let metrics = Metrics::default();
        metrics.connections.add_one();
        metrics.messages.add_one(MessageOutcome::Loop);
        let text = metrics.expose(&[Gauge { name: "resident_bytes", help: "memory", value: 7 }]);
        assert!(text.contains("\npipit_smtp_connections_total 1\n"));
        assert!(text.contains("\npipit_messages_received_total{result=\"loop\"} 1\n"));
        assert!(text.ends_with("pipit_resident_bytes 7\n"));
        let mut names: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

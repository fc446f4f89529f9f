//! What a delivery to a domain would meet. Everybody who must know asks here: the delivery, later the composer, the
//! checks of an administrator and the probe, so that what people are shown is what mail meets.
//!
//! `route` finds the hosts of a domain; policies (MTA-STS, DANE) come with the plan for TLS.

pub mod route;

//! The one door into the store for messages: who a recipient is, and the transaction that
//! files a message for all of them. Services and faces call these; none of them writes a message row itself.

pub mod bounce;
pub mod deliver;
pub mod delivered;
pub mod outgoing;
pub mod recipients;
pub mod senders;
pub mod submit;
pub mod trace;

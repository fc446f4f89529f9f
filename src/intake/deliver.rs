//! Files one received message for all its local recipients: one blob, one row each, one transaction.
//!
//! In goes a spooled message whose client waits for its `250`; when `deliver` returns `Ok` the message is on stable
//! storage (promises R1 and R2), and nothing slow may follow before the reply (R3). On `Err` nothing was stored.

use crate::intake::recipients::Destination;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ReversePath;
use crate::store::Error;
use crate::store::Spooled;
use crate::store::Store;
use crate::store::blobs;
use crate::store::mailboxes;
use crate::store::messages;
use crate::store::messages::Flags;
use crate::store::messages::NewMessage;
use crate::store::messages::Reception;

/// A message that is complete and judged, ready to be filed.
pub struct Arrival {
    pub spooled: Spooled,
    pub reverse_path: ReversePath,
    /// one an account
    pub destinations: Vec<Destination>,
    pub received: UnixTime,
    pub flags: Flags,
    pub digest: Digest,
    pub auth_results: String,
    pub require_tls: RequireTls,
    pub reception: Reception,
}

/// How many copies were filed. Fewer than there were destinations: accounts were removed since RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub copies: usize,
}

/// Files the message; returns after the sync.
pub async fn deliver(store: &Store, arrival: Arrival) -> Result<Delivered, Error> {
    store
        .write(move |writer| {
            let mut inboxes = Vec::with_capacity(arrival.destinations.len());
            for destination in arrival.destinations {
                // An account removed between RCPT and the final dot must not cost the others their copy.
                if let Some(inbox) = mailboxes::inbox(&writer.reader(), destination.account)? {
                    inboxes.push((destination, inbox));
                }
            }
            if inboxes.is_empty() {
                return Err(Error::Withdrawn("every recipient's account was removed meanwhile".into()));
            }
            let uses = u32::try_from(inboxes.len()).map_err(|_| Error::Withdrawn("too many recipients".into()))?;
            let blob = blobs::adopt(writer, arrival.spooled, uses)?;
            let copies = inboxes.len();
            for (destination, inbox) in inboxes {
                let row = NewMessage {
                    blob,
                    return_path: arrival.reverse_path.clone(),
                    delivered_to: destination.address,
                    flags: arrival.flags,
                    received: arrival.received,
                    digest: arrival.digest.clone(),
                    auth_results: arrival.auth_results.clone(),
                    require_tls: arrival.require_tls,
                    reception: arrival.reception.clone(),
                };
                messages::file(writer, destination.account, inbox, row)?;
            }
            Ok(Delivered { copies })
        })
        .await
}

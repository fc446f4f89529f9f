//! A message as a host without 8BITMIME gets it (delivery.md section 6): planned, measured, and read again for each sending.
//!
//! Three readings of the blob, one chunk at a time: the parts, the size that MAIL declares, the octets. Nothing of the
//! message is kept between them but the plan. A message that one of our domains has signed (DKIM) is not touched: whoever
//! signs for us does so in 7 bits (RFC 6376 section 5.3). A stranger's signature on it breaks, which is as if it had none
//! (section 6.1); a message that comes back would help nobody more.

use crate::mail::domain::Domain;
use crate::mail::recode::Plan;
use crate::mail::recode::Recoder;
use crate::mail::recode::Survey;
use crate::net::breathe::breathe;
use crate::outbound::converse::Source;
use crate::outbound::source::StoredMessage;

/// A message that can be sent with 7 bits.
#[derive(Debug)]
pub struct Recoded {
    plan: Plan,
    /// octets as they are sent, before dots are stuffed
    pub size: u64,
}

/// Why there is none; sentences.
#[derive(Clone, Debug)]
pub enum Obstacle {
    /// of the message
    Unfit(String),
    /// our own trouble with reading it
    Unread(String),
}

/// Reads the message and finds out what it takes. `is_ours`: whether we sign for a domain.
pub async fn plan(message: &mut StoredMessage<'_>, is_ours: impl Fn(&Domain) -> bool) -> Result<Recoded, Obstacle> {
    let mut survey = Survey::new();
    message.restart();
    while let Some(chunk) = message.next().await {
        survey.push(&chunk.map_err(Obstacle::Unread)?);
        breathe().await;
    }
    let plan = survey.finish().map_err(|unfit| Obstacle::Unfit(unfit.to_string()))?;
    if let Some(domain) = plan.signers().iter().find(|domain| is_ours(domain))
        && !plan.is_empty()
    {
        return Err(Obstacle::Unfit(format!("{domain} has signed it as it is")));
    }
    let mut recoded = Recoded { plan, size: 0 };
    let mut sending = RecodedMessage::new(message, &recoded);
    let mut size = 0;
    while let Some(chunk) = sending.next().await {
        size += chunk.map_err(Obstacle::Unread)?.len() as u64;
        breathe().await;
    }
    recoded.size = size;
    Ok(recoded)
}

/// Its octets for a connection.
pub struct RecodedMessage<'m, 's> {
    message: &'m mut StoredMessage<'s>,
    recoder: Recoder<'m>,
    plan: &'m Plan,
}

impl<'m, 's> RecodedMessage<'m, 's> {
    /// From the begin of `message`.
    pub fn new(message: &'m mut StoredMessage<'s>, recoded: &'m Recoded) -> RecodedMessage<'m, 's> {
        message.restart();
        RecodedMessage { message, recoder: Recoder::new(&recoded.plan), plan: &recoded.plan }
    }
}

impl Source for RecodedMessage<'_, '_> {
    async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        let chunk = match self.message.next().await? {
            Ok(chunk) => chunk,
            Err(why) => return Some(Err(why)),
        };
        let mut octets = Vec::with_capacity(2 * chunk.len());
        self.recoder.push(&chunk, &mut octets);
        Some(Ok(octets))
    }

    fn restart(&mut self) {
        self.message.restart();
        self.recoder = Recoder::new(self.plan);
    }
}

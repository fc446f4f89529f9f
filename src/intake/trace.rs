//! The id that follows one message from its reception to the last line of the log about it.
//!
//! It stands in the `id` clause of Received, in the reply to the final dot, in the message row and in every log line.
//! 13 letters: 7 of the second of reception (so ids sort by time), 6 at random (30 bits within that second).

use ring::rand::SecureRandom;

use crate::mail::date::UnixTime;
use crate::store::ids::TRACE_LETTERS;

const TIME_LETTERS: u32 = 7;
const RANDOM_LETTERS: usize = 6;

/// A new id for a message that begins now.
pub fn new_trace_id(now: UnixTime, random: &dyn SecureRandom) -> Result<String, ring::error::Unspecified> {
    let mut noise = [0u8; RANDOM_LETTERS];
    random.fill(&mut noise)?;
    let seconds = now.0.unsigned_abs();
    let time = (0..TIME_LETTERS).rev().map(|at| (seconds >> (5 * at)) & 31);
    let tail = noise.iter().map(|byte| u64::from(byte & 31));
    Ok(time.chain(tail).map(|digit| TRACE_LETTERS[usize::try_from(digit).unwrap_or(0)] as char).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::QueueId;

    #[test]
    fn ids_sort_by_time_and_differ_within_a_second() {
        let random = ring::rand::SystemRandom::new();
        let early = new_trace_id(UnixTime(1_795_452_194), &random).unwrap();
        let late = new_trace_id(UnixTime(1_795_452_195), &random).unwrap();
        let other = new_trace_id(UnixTime(1_795_452_195), &random).unwrap();
        assert_eq!(early.len(), 13);
        assert!(early < late, "{early} {late}");
        assert_ne!(late, other);
        assert_eq!(QueueId::parse(&late).unwrap().to_string(), late);
    }
}

//! Work that several want at the same time is done once: who comes first leads, the others wait for what he finds.
//!
//! A leader that is dropped, as a cancelled task is, wakes those who wait; one of them leads next.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use smol::channel::Receiver;
use smol::channel::Sender;

/// What is under way, by what is wanted.
pub(super) struct Flights<K, T>(RefCell<HashMap<K, Rc<Flight<T>>>>);

/// Work that somebody does.
pub(super) struct Flight<T> {
    result: OnceCell<T>,
    /// Closes when the work is over, or was dropped by who led it.
    landed: Receiver<()>,
}

/// Who does the work.
pub(super) struct Leader<'a, K: Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
    flight: Rc<Flight<T>>,
    _closes: Sender<()>,
}

/// What to do about something wanted.
pub(super) enum Turn<'a, K: Eq + Hash, T> {
    Lead(Leader<'a, K, T>),
    Wait(Rc<Flight<T>>),
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights(RefCell::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    pub fn board(&self, key: &K) -> Turn<'_, K, T> {
        if let Some(flight) = self.0.borrow().get(key) {
            return Turn::Wait(Rc::clone(flight));
        }
        let (closes, landed) = smol::channel::bounded(1);
        let flight = Rc::new(Flight { result: OnceCell::new(), landed });
        self.0.borrow_mut().insert(key.clone(), Rc::clone(&flight));
        Turn::Lead(Leader { flights: self, key: key.clone(), flight, _closes: closes })
    }
}

impl<T: Clone> Flight<T> {
    /// What the leader found; `None` if he went away before.
    pub async fn wait(&self) -> Option<T> {
        // Nothing is ever sent: this ends when the channel closes.
        let _ = self.landed.recv().await;
        self.result.get().cloned()
    }
}

impl<K: Eq + Hash, T> Leader<'_, K, T> {
    /// Gives the result to all who wait.
    pub fn land(self, result: T) {
        let _ = self.flight.result.set(result);
    }
}

impl<K: Eq + Hash, T> Drop for Leader<'_, K, T> {
    fn drop(&mut self) {
        self.flights.0.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_goes_away_makes_room_for_another() {
        let flights: Flights<u8, u8> = Flights::default();
        let Turn::Lead(first) = flights.board(&1) else { panic!("nobody else is there") };
        let Turn::Wait(waiting) = flights.board(&1) else { panic!("somebody leads") };
        assert!(matches!(flights.board(&2), Turn::Lead(_)));
        drop(first);
        assert_eq!(async_io::block_on(waiting.wait()), None);
        let Turn::Lead(second) = flights.board(&1) else { panic!("the place is free") };
        let Turn::Wait(waiting) = flights.board(&1) else { panic!("somebody leads") };
        second.land(7);
        assert_eq!(async_io::block_on(waiting.wait()), Some(7));
        assert!(matches!(flights.board(&1), Turn::Lead(_)));
    }
}

//! Bells that ring after a commit: the store is the bus between the services.
//!
//! A watch coalesces: any number of commits between two looks are one ring. What changed is read from the store.

use std::sync::Mutex;
use std::sync::PoisonError;

use smol::channel::Receiver;
use smol::channel::Sender;
use smol::channel::bounded;

/// What a commit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Messages,
    Accounts,
    Certificates,
    Queue,
    Config,
}

/// Tells when something of a topic was committed after the watch was made.
pub struct Watch {
    rings: Receiver<()>,
}

impl Watch {
    /// Waits for the next commit, or returns at once if there was one since the last call. Waits forever once the store
    /// is gone.
    pub async fn changed(&mut self) {
        if self.rings.recv().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Who watches what.
#[derive(Default)]
pub(super) struct Bells {
    watchers: Mutex<Vec<(Topic, Sender<()>)>>,
}

impl Bells {
    pub fn watch(&self, topic: Topic) -> Watch {
        let (ring, rings) = bounded(1);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|(_, ring)| !ring.is_closed());
        watchers.push((topic, ring));
        Watch { rings }
    }

    pub fn ring(&self, topics: &[Topic]) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, ring) in watchers.iter().filter(|(topic, _)| topics.contains(topic)) {
            // Full: it rings already. Closed: the watch is gone.
            let _ = ring.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use smol::block_on;
    use smol::future::poll_once;

    use super::*;

    #[test]
    fn rings_coalesce_and_reach_only_their_topic() {
        let bells = Bells::default();
        let mut messages = bells.watch(Topic::Messages);
        let mut queue = bells.watch(Topic::Queue);
        bells.ring(&[Topic::Messages]);
        bells.ring(&[Topic::Messages, Topic::Config]);
        block_on(messages.changed());
        assert_eq!(block_on(poll_once(messages.changed())), None);
        assert_eq!(block_on(poll_once(queue.changed())), None);
        drop(messages);
        let _third = bells.watch(Topic::Config);
        assert_eq!(bells.watchers.lock().unwrap().len(), 2);
    }
}

//! What [`Engine::run`] does in its loop, piece by piece, for a simulation that
//! decides which happens next.

use crate::id::Lane;
use crate::model::Head;
use crate::store::Notice;
use crate::time::Timestamp;

use super::{Engine, Input};

/// What the engine has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InFlight {
    pub(crate) lane: Lane,
    pub(crate) event: crate::id::EventId,
    pub(crate) number: u32,
    pub(crate) place: Timestamp,
    pub(crate) due: Timestamp,
    pub(crate) began_at: Timestamp,
}

impl Engine {
    pub(crate) fn begin(&mut self) {
        self.take_up_lanes();
    }

    pub(crate) fn take_notice(&mut self, notice: Notice) {
        self.hear(notice);
        self.tell_failures();
    }

    pub(crate) fn tick(&mut self) {
        self.step(Input::Tick, None);
        self.tell_failures();
    }

    /// Takes in one thing that was done beside the loop, if there is one.
    pub(crate) fn take_done(&mut self) -> bool {
        let Some(done) = self.work.try_join_next_with_id() else { return false };
        if let Err(error) = &done {
            assert!(!error.is_panic(), "work of the engine panicked");
        }
        self.worked(done);
        self.tell_failures();
        true
    }

    /// Ends as [`Engine::run`] does when it is told to stop.
    pub(crate) async fn stop(mut self, notices: &mut tokio::sync::mpsc::Receiver<Notice>) {
        self.drain(notices).await;
    }

    /// When a lane is to be looked at again.
    pub(crate) fn next_lane_wake(&self) -> Option<Timestamp> {
        self.scheduler.next_wake()
    }

    /// When failures are to be told of, or that they were is to be forgotten.
    pub(crate) fn next_news_due(&self) -> Option<Timestamp> {
        self.news.next_due()
    }

    /// Failed deliveries that are not told of yet.
    pub(crate) fn untold(&self) -> u64 {
        self.news.untold()
    }

    /// Attempts under way, in order.
    pub(crate) fn attempts(&self) -> Vec<InFlight> {
        let of = |(lane, head, began_at): &(Lane, Head, Timestamp)| InFlight {
            lane: *lane,
            event: head.event,
            number: head.attempts + 1,
            place: head.place,
            due: head.due,
            began_at: *began_at,
        };
        let mut attempts: Vec<InFlight> = self.in_flight.values().map(of).collect();
        attempts.sort_unstable();
        attempts
    }

    /// Everything under way beside the loop: attempts, reads, requests to the store.
    pub(crate) fn work_len(&self) -> usize {
        self.work.len()
    }
}

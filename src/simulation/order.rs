//! What must hold of a lane that keeps its order (`fifo`): one attempt at a time, and
//! none of a delivery while one that came in before it is pending. Written from the
//! contract: the order is that in which the writer told of commits, **whatever the
//! rows' keys, the clock or the scheduler say**.

use std::collections::BTreeMap;

use crate::id::{DeliveryId, Lane};
use crate::model::{DeliveryState, Ordering, Subscription};

use super::book::Book;

/// Whether a subscription is to keep the order.
pub(super) fn is_fifo(subscription: &Subscription) -> bool {
    subscription.settings.delivery.ordering == Some(Ordering::Fifo)
}

/// See the file's beginning.
#[derive(Default)]
pub(super) struct Order {
    /// Deliveries that were accepted or opened again so far.
    came: u64,
    /// Lanes that keep their order, with how many had come before they were to.
    since: BTreeMap<Lane, u64>,
}

impl Order {
    /// A delivery came in. Answers as which.
    pub(super) fn comes(&mut self) -> u64 {
        self.came += 1;
        self.came
    }

    /// A subscription is as it is. `in_doubt`: it may have been otherwise in between.
    pub(super) fn was_set(&mut self, subscription: &Subscription, in_doubt: bool) {
        let lane = subscription.number;
        if !is_fifo(subscription) || in_doubt {
            self.since.remove(&lane);
        }
        if is_fifo(subscription) {
            self.since.entry(lane).or_insert(self.came);
        }
    }

    /// An attempt at `id` begins on a lane that keeps its order.
    pub(super) fn check(&self, id: DeliveryId, book: &Book) {
        let lane = id.lane();
        let settling = book.settling.keys().find(|other| other.lane() == lane);
        assert_eq!(settling, None, "{id} is attempted before the outcome of the one before it is committed");
        let Some(since) = self.since.get(&lane) else { panic!("nobody told that lane {lane} keeps its order") };
        let Some(came) = book.known(id).and_then(|known| known.came).filter(|came| came > since) else { return };
        for (event, stored) in &book.events {
            let Some(earlier) = stored.deliveries.get(&lane) else { continue };
            let is_earlier = earlier.came.is_some_and(|before| *since < before && before < came);
            let is_passed = is_earlier && earlier.state == DeliveryState::Pending;
            assert!(!is_passed, "{id} came as {came} and is attempted before {}: {earlier:?}", event.delivery(lane));
        }
    }
}

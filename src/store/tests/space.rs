//! How full it is, and who is told.

use super::*;

impl World {
    /// Makes the quota such that what is there is so much of it.
    async fn fill_to(&mut self, percent: u64) {
        let live_bytes = self.store.totals().live_bytes;
        self.options.bytes_max = live_bytes * 100 / percent;
        self.store.reconfigure(self.options.clone());
        self.pass(Duration::from_secs(1));
        self.settled_down().await;
    }

    fn told(&self) -> usize {
        let query = EventQuery {
            organizations: None,
            event_type: Some(Pattern::parse("posthaste.storage.low").unwrap()),
            since: Timestamp::ZERO,
            until: Timestamp::MAX,
            before: None,
            limit: 100,
        };
        self.store.events(&query).unwrap().rows.len()
    }
}

/// A quota that was used around nine tenths told so again and again.
#[tokio::test]
async fn low_storage_is_told_once_an_hour_and_not_for_every_ripple() {
    let mut world = World::new();
    world.publish(event(&format!("\"{}\"", "x".repeat(100_000)))).await;
    world.fill_to(91).await;
    assert_eq!(world.told(), 1);
    world.fill_to(50).await;
    world.fill_to(91).await;
    assert_eq!(world.told(), 1, "within the hour");
    world.pass(HOUR);
    world.fill_to(88).await;
    world.fill_to(91).await;
    assert_eq!(world.told(), 1, "it was low all the time");
    world.fill_to(50).await;
    world.fill_to(91).await;
    assert_eq!(world.told(), 2);
}

/// Only so many events were looked at, and where none of them was pending nothing
/// seemed to be.
#[tokio::test]
async fn the_oldest_pending_delivery_is_found_behind_many_events() {
    let mut world = World::new();
    world.publish_many(crate::limits::PAGE_SCAN_MAX + 1).await;
    let early = world.publish(event("1")).await;
    let lane = world.subscribe(settings()).await.number;
    world.pass(HOUR);
    let accepted = world.publish(event("1")).await;
    assert_eq!(world.store.totals().oldest_pending_at, Some(accepted.id.accepted_at()));
    world.pass(HOUR);
    let window = Window { since: early.id.accepted_at(), until: Timestamp::MAX, events: Vec::new() };
    let replay = Replay { lane, window, failed: false, delivered: false, missed: true };
    world.store.replay("test", replay).await.unwrap();
    let (heads, _) = world.store.pending(lane, None, 1).unwrap();
    world.settle(lane, heads[0], Settlement::Delivered).await;
    assert_eq!(world.store.totals().oldest_pending_at, Some(world.clock.now()), "opened again, of an older event");
}

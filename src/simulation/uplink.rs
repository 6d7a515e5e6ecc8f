//! The whole uplink is down for two days: nobody is to blame, nothing is hammered,
//! and once it is back all that was accepted is delivered within its horizon.

use crate::id::{DeliveryId, Lane};
use crate::limits::{PROBE_DELAY_MAX, TRIP_AFTER_FAILURES};
use crate::model::{DeliveryState, StatusReason};

use super::world::{DAY, HOUR, MINUTE, World};

/// What it came to.
pub(super) struct Outage {
    pub(super) deliveries: usize,
    pub(super) attempts_while_down: u64,
    pub(super) attempts_after: u64,
}

/// Plays it with the subscriptions of `seed`; none: its deliveries are given up
/// before two days are over.
pub(super) fn play(seed: u64) -> Option<Outage> {
    let mut world = World::new(seed);
    if u64::try_from(world.book.rules.give_up_after.as_millis()).unwrap() < 3 * DAY {
        return None;
    }
    world.heal();
    world.publish(20);
    world.run_for(10 * MINUTE);
    let mut lasting: Vec<Lane> = world
        .book
        .subscriptions
        .iter()
        .filter(|(_, it)| it.settings.expires_at.is_none())
        .map(|(lane, _)| *lane)
        .collect();
    let before = world.lanes.attempts;
    world.set_uplink(false);
    for _ in 0..48 {
        // What people publish goes on.
        world.publish(3);
        world.run_for(HOUR);
    }
    let attempts_while_down = world.lanes.attempts - before;
    // One probe at a time, five minutes apart; what was in flight when the lane tripped beside it.
    let probes = 2 * DAY / PROBE_DELAY_MAX.as_millis() as u64 + 12;
    let lanes = world.book.subscriptions.len() as u64;
    let most = lanes * (probes + u64::from(TRIP_AFTER_FAILURES) + 6);
    assert!(attempts_while_down <= most, "{attempts_while_down} attempts by {lanes} lanes, none with a chance");
    for lane in &lasting {
        let why = world.book.subscriptions[lane].status_reason.as_ref().map(|(reason, ..)| *reason);
        // An organization over its share is relieved of tripped lanes, whatever tripped them.
        assert!(world.is_enabled(*lane) || why == Some(StatusReason::Backlog), "lane {lane} was blamed: {why:?}");
    }
    lasting.retain(|lane| world.is_enabled(*lane));
    let owed: Vec<DeliveryId> = world.pending().into_iter().filter(|id| lasting.contains(&id.lane())).collect();
    let before = world.lanes.attempts;
    world.set_uplink(true);
    // No more at a time than ever: `lanes.rs` counts them.
    let waits = |world: &World| world.pending().into_iter().filter(|id| lasting.contains(&id.lane())).count();
    assert!(world.run_until(12 * HOUR, |world| waits(world) == 0), "still pending: {}", waits(&world));
    world.compare_all();
    for id in &owed {
        // None: it was, and its time is over.
        let state = world.state(*id).unwrap_or(DeliveryState::Delivered);
        assert_eq!(state, DeliveryState::Delivered, "{id} was within its horizon");
    }
    let attempts_after = world.lanes.attempts - before;
    // Each once, now that it has a chance; a probe of each lane may have been under way
    // without one, and what is told of the lane is an event too.
    let most = owed.len() as u64 + 2 * lanes;
    assert!(attempts_after <= most, "{attempts_after} attempts at {} deliveries", owed.len());
    Some(Outage { deliveries: owed.len(), attempts_while_down, attempts_after })
}

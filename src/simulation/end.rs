//! How a simulation must end once everything is well again: all is delivered that
//! can be, nobody waits for a dead neighbour, nothing is done when nothing is to do,
//! and nothing is kept for longer than it should.

use rand::RngExt;

use crate::id::{DeliveryId, Lane};
use crate::model::{DeliveryState, Format};
use crate::store::command::Replay;

use super::network::Mood;
use super::work;
use super::world::{DAY, HOUR, MINUTE, SECOND, Tally, World};

/// Plays a seed from its beginning to its end.
pub(super) fn play(seed: u64, actions: usize) -> Tally {
    let mut world = World::new(seed);
    world.storm(actions);
    world.heal();
    world.is_leaping = true;
    converges(&mut world);
    replays(&mut world);
    nobody_waits_for_the_dead(&mut world);
    is_idle(&mut world);
    forgets(&mut world);
    assert_spread(&world);
    world.tally.virtual_ms = world.true_ms;
    world.tally.attempts = world.lanes.attempts;
    world.tally
}

fn is_lasting(world: &World, lane: Lane) -> bool {
    world.book.subscriptions.get(&lane).is_some_and(|it| it.is_enabled() && it.settings.expires_at.is_none())
}

/// Waits until nothing is pending, and checks that what `owed` names was delivered.
fn are_delivered(world: &mut World, owed: Vec<DeliveryId>, why: &str) {
    for id in owed {
        if is_lasting(world, id.lane()) {
            // None: it was, and its time is over.
            let state = world.state(id).unwrap_or(DeliveryState::Delivered);
            assert_eq!(state, DeliveryState::Delivered, "{id} of a healthy endpoint: {why}");
        }
    }
}

fn converges(world: &mut World) {
    let is_owed = |id: &DeliveryId| is_lasting(world, id.lane()) && !world.may_be_given_up(*id);
    let owed: Vec<DeliveryId> = world.pending().into_iter().filter(is_owed).collect();
    let longest = world.book.rules.give_up_after.as_millis() as u64 + 12 * HOUR;
    let is_over = world.run_until(longest, |world| world.pending().is_empty());
    world.compare_all();
    assert!(is_over, "still pending: {:?}", world.pending());
    are_delivered(world, owed, "after all healed");
    assert!(world.are_all_answered(), "somebody still waits for an answer");
}

/// A replay opens everything that it names, once.
fn replays(world: &mut World) {
    let lanes: Vec<Lane> = world.book.subscriptions.keys().copied().filter(|lane| world.is_enabled(*lane)).collect();
    for lane in lanes.into_iter().take(2) {
        let failed = |world: &World| {
            let of_lane = world.book.events.iter().filter_map(|(event, stored)| {
                let known = stored.deliveries.get(&lane)?;
                (known.state == DeliveryState::Failed).then(|| event.delivery(lane))
            });
            of_lane.collect::<Vec<DeliveryId>>()
        };
        world.run_for(2 * MINUTE);
        world.compare_all();
        if !world.is_enabled(lane) {
            continue;
        }
        let (owed, missed) = (failed(world), world.missed(lane));
        let window = work::everything();
        let replayed = world.replay(Replay { lane, window, failed: true, delivered: false, missed: true });
        // A storage that is full has no room for more.
        let Ok(replayed) = replayed else { continue };
        assert_eq!(replayed, owed.len() as u64 + missed, "failed and missed of lane {lane}");
        assert!(world.run_until(12 * HOUR, |world| world.pending().is_empty()), "what was replayed is still pending");
        are_delivered(world, owed, "after its replay");
        let window = work::everything();
        let again = world.replay(Replay { lane, window, failed: false, delivered: false, missed: true });
        assert!(again.is_ok_and(|again| again <= 2) || again.is_err(), "there is nothing more to be had: {again:?}");
    }
    world.run_until(12 * HOUR, |world| world.pending().is_empty());
}

/// One endpoint takes nothing for hours; the others get theirs at once.
fn nobody_waits_for_the_dead(world: &mut World) {
    let lanes: Vec<Lane> = world.book.subscriptions.keys().copied().filter(|lane| is_lasting(world, *lane)).collect();
    let Some(dead) = lanes.first().copied() else { return };
    // The longest pause that a receiver asked for in the storm is over.
    world.run_for(5 * HOUR);
    world.set_mood(dead, Mood::Hangs);
    // Until it is known to be dead, it may hold every slot for one timeout.
    world.publish(20);
    world.run_for(HOUR);
    if !world.lanes.has_failed(dead) {
        return;
    }
    let before: Vec<DeliveryId> = world.pending();
    // What is accepted by a clock that was set back does not wait for it.
    let back = world.chance.random_range(0..2 * HOUR as i64);
    world.set_clock(-back);
    world.publish(10);
    world.run_for(10 * SECOND);
    let is_late = |world: &World, id: &DeliveryId| {
        let Some(subscription) = world.book.subscriptions.get(&id.lane()) else { return false };
        let settings = &subscription.settings;
        let is_limited = settings.format == Format::Blynk || settings.delivery.rate_per_second.is_some();
        id.lane() != dead && subscription.is_enabled() && !is_limited && !before.contains(id)
    };
    let late: Vec<DeliveryId> = world.pending().into_iter().filter(|id| is_late(world, id)).collect();
    assert!(late.is_empty(), "delayed by a dead neighbour: {late:?}");
    world.set_mood(dead, Mood::Well);
    let longest = world.book.rules.give_up_after.as_millis() as u64 + 12 * HOUR;
    assert!(world.run_until(longest, |world| world.pending().is_empty()), "still pending: {:?}", world.pending());
    world.compare_all();
}

/// Nothing is to do, so nothing is done, and no wake is asked for.
fn is_idle(world: &mut World) {
    world.run_for(3 * DAY);
    let is_planned = world.book.subscriptions.values().any(|it| it.is_enabled() && it.settings.expires_at.is_some());
    let wake = world.next_lane_wake();
    assert!(is_planned || wake.is_none(), "wakes at {wake:?} for nothing");
    // What was told of is remembered for a minute, and what a full storage has no room to
    // tell of is tried again each minute.
    let is_quiet = world.run_until(3 * MINUTE, |world| world.next_news_due().is_none() || world.is_too_full_to_tell());
    let (now, due) = (world.wall(), world.next_news_due());
    assert!(is_quiet, "tells at {due:?} of nothing");
    assert!(due.is_none_or(|due| due.since(now).as_millis() as u64 <= MINUTE), "tells only at {due:?}, it is {now}");
    assert!(world.run_until(2 * SECOND, |world| world.work_len() == 0), "something is under way");
}

/// Retention takes everything in its time.
fn forgets(world: &mut World) {
    world.restart();
    let longest = (world.book.rules.failed + world.book.rules.delivered).as_millis() as u64 + 40 * DAY;
    let is_empty = world.run_until(longest, |world| world.retained_rows() == 0);
    world.compare_all();
    assert!(is_empty, "{} rows are kept for ever", world.retained_rows());
    // The owners of ended lanes are remembered for longer.
    world.run_for(longest);
    world.is_leaping = false;
    let writes = world.disk_writes();
    world.run_for(3 * HOUR);
    assert_eq!(world.disk_writes(), writes, "writes though there is nothing");
    world.compare_all();
}

/// Retries are spread: not all of those that failed together come back together.
fn assert_spread(world: &World) {
    let spread = &world.book.spread;
    if spread.len() >= 20 {
        let (least, most) = spread.iter().fold((2.0f64, 0.0f64), |(least, most), it| (least.min(*it), most.max(*it)));
        assert!(most - least > 0.1, "{} retries without jitter: {least} to {most}", spread.len());
    }
}

//! Lanes that keep their order: one at a time, the first row until it ends.

use super::*;

fn fifo(host: &str) -> LaneSettings {
    LaneSettings { is_fifo: true, ..settings(host) }
}

/// The events that were attempted, in their order, each attempt one.
fn attempted(world: &World) -> Vec<EventId> {
    world.log.iter().map(|(_, _, head)| head.event).collect()
}

fn minutes(count: u64) -> Duration {
    seconds(60 * count)
}

fn after_start(span: Duration) -> Timestamp {
    Timestamp::from_millis(START) + span
}

#[test]
fn what_fails_holds_up_the_rest_until_it_ends() {
    let heals_at = after_start(minutes(7));
    let network: Network = Box::new(move |now, lane, _| {
        let is_well = lane == Lane(2) || now >= heals_at;
        (Duration::from_millis(5), answers(if is_well { 200 } else { 404 }), None)
    });
    let mut world = World::new(64, network);
    world.lane(1, fifo("a"));
    world.lane(2, fifo("b"));
    let events = world.publish(1, 100);
    world.publish(2, 100);
    world.run_until(heals_at);
    assert_eq!(world.delivered.len(), 100, "another lane is not held up");
    let of_first = |world: &World| world.log.iter().filter(|(_, lane, _)| *lane == Lane(1)).count();
    // 10, 30, 70, 150, 310 s after the first, with jitter: and no wake in between.
    assert_eq!(of_first(&world), 6);
    let next = world.scheduler.next_wake().expect("the head's next attempt");
    let head = *world.rows.values().next().expect("it is pending");
    assert_eq!((head.event, head.due, head.place), (events[0], next, events[0].accepted_at()));

    world.run_for(minutes(10));
    let attempts: Vec<EventId> =
        world.log.iter().filter(|(_, lane, _)| *lane == Lane(1)).map(|(_, _, head)| head.event).collect();
    assert_eq!(attempts[..7], [events[0]; 7]);
    assert_eq!(attempts[7..], events[1..]);
    assert_eq!((world.in_flight_most, world.rows.len()), (2, 0));
}

#[test]
fn a_tripped_lane_probes_its_first_and_what_is_past_its_horizon_ends_in_bulk() {
    let mut world = World::new(64, always(500));
    world.lane(1, fifo("a"));
    let events = world.publish(1, 50);
    world.run_for(seconds(71 * 3600));
    assert_eq!(world.failing, [Lane(1)]);
    assert!(attempted(&world).iter().all(|event| *event == events[0]));
    let later = world.publish(1, 1)[0];
    world.run_for(seconds(3 * 3600));
    assert_eq!(world.failed.len(), 50, "one failed probe ends all that are past theirs");
    assert_eq!(world.rows.len(), 1);
    assert_eq!(attempted(&world).last(), Some(&later), "then it is the turn of the next");
}

/// A fifo lane that is none any more: what stayed is tried when it is due, the rest at once.
#[test]
fn turned_off_it_delivers_what_is_due_and_turned_on_it_takes_rows_as_they_stand() {
    let heals_at = after_start(minutes(5));
    let network: Network = Box::new(move |now, _, head| {
        let is_well = head.attempts == 0 && now > Timestamp::from_millis(START) || now >= heals_at;
        (Duration::from_millis(5), answers(if is_well { 200 } else { 404 }), None)
    });
    let mut world = World::new(64, network);
    world.lane(1, fifo("a"));
    let events = world.publish(1, 4);
    world.run_for(seconds(1));
    assert_eq!(attempted(&world), [events[0]]);
    let due = world.rows[&(Lane(1), Head::fresh(events[0]).key())].due;
    world.lane(1, settings("a"));
    world.run_for(seconds(1));
    assert_eq!(world.delivered.len(), 3, "they wait for nothing more");
    world.run_until(due);
    assert_eq!(world.attempts_of(1).last(), Some(&due), "not before it is due");
    world.run_for(seconds(1));

    // It has moved to where it is due: what is accepted before stands before it.
    world.lane(1, fifo("a"));
    let later = world.publish(1, 2);
    world.run_for(seconds(1));
    assert_eq!(attempted(&world)[5..], later);
    world.run_for(minutes(10));
    assert_eq!((attempted(&world).last(), world.rows.len()), (Some(&events[0]), 0));
}

#[test]
fn several_in_flight_when_it_is_turned_on_end_before_the_next_begins() {
    let network: Network =
        Box::new(|_, _, head| (seconds(5), answers(if head.attempts == 0 { 404 } else { 200 }), None));
    let mut world = World::new(64, network);
    world.lane(1, settings("a"));
    let events = world.publish(1, 20);
    world.run_for(seconds(1));
    assert_eq!(world.log.len(), 16);
    world.lane(1, fifo("a"));
    world.in_flight_most = 0;
    world.run_for(minutes(60));
    assert_eq!((world.in_flight_most, world.rows.len()), (1, 0));
    let delivered: Vec<EventId> = world.delivered.iter().map(|(_, event)| *event).collect();
    assert_eq!(delivered, events);
}

/// A read brings a row as it was before its last attempt, and so much comes in meanwhile
/// that the row as it is now is left to the store: the old one had its turn at once.
#[test]
fn a_row_that_stayed_while_it_was_read_is_not_taken_as_it_was() {
    let mut world = World::new(64, always(404));
    world.lane(1, fifo("a"));
    world.publish(1, 1);
    // Told late, so that it falls into the time of the read.
    world.store_ms_max = 1_000;
    world.run_for(Duration::from_millis(10));
    let (_, head) = world.rows.pop_first().expect("the one");
    let stale = Head { due: head.place, attempts: 0, failures: 0, ..head };
    world.rows.insert((Lane(1), head.key()), head);
    let read = world.scheduler.step(world.now, &mut || 0.5, Input::Reset(Lane(1)));
    let generation = read.iter().find_map(|action| match action {
        Action::Load { generation, .. } => Some(*generation),
        _ => None,
    });
    world.publish(1, LANE_HEADS_MAX + 1);
    let fresh: Vec<Head> = world.rows.values().copied().filter(|it| it.event != head.event).collect();
    world.step(Input::Opened(Lane(1), fresh));
    world.step(Input::Settled { lane: Lane(1), event: head.event, next: Some(head) });
    let generation = generation.expect("a read");
    world.step(Input::Loaded { lane: Lane(1), generation, heads: vec![stale], exhausted: true });
    world.run_for(seconds(5));
    assert_eq!(world.log.len(), 1, "its second attempt is not due yet");
    world.run_for(minutes(1));
    assert!(world.log[1..].iter().all(|(_, _, it)| it.event == head.event && it.attempts > 0));
}

/// Random timing: a store that answers late, rows cancelled, the lane read anew, held,
/// disabled, the clock set back and forth. What is attempted is always the first row there is.
#[test]
fn the_order_is_kept_whatever_the_timing() {
    for seed in 0..12 {
        let mut plan = StdRng::seed_from_u64(seed);
        let mut dice = StdRng::seed_from_u64(seed + 1000);
        let heals_at = after_start(minutes(200));
        let network: Network = Box::new(move |now, _, _| {
            let outcome = match dice.random_range(0..6) {
                _ if now >= heals_at => answers(200),
                0 => fails(FailureCode::Timeout),
                1 => answers(404),
                2 => fails(FailureCode::Interrupted),
                _ => answers(200),
            };
            (Duration::from_millis(dice.random_range(0..900)), outcome, None)
        });
        let mut world = World::new(4, network);
        world.random = StdRng::seed_from_u64(seed);
        world.store_ms_max = plan.random_range(0..1_000);
        let store = Duration::from_millis(world.store_ms_max);
        for lane in 1..=2 {
            world.lane(lane, fifo(&format!("host{lane}")));
        }
        world.keeps_order = true;
        let mut published = 0;
        let mut cancelled = 0;
        for _ in 0..150 {
            let lane = plan.random_range(1..=2);
            match plan.random_range(0..14) {
                0 => world.lane(lane, LaneSettings { enabled: false, ..fifo("a") }),
                1..3 => world.lane(lane, fifo("a")),
                3 => world.later(store, Input::Reset(Lane(lane))),
                4 => {
                    let first = world.rows.range((Lane(lane), (Timestamp::ZERO, EventId::first_at(Timestamp::ZERO)))..);
                    let first = first.map(|(key, _)| *key).next().filter(|(of, _)| *of == Lane(lane));
                    if let Some(key) = first {
                        world.rows.remove(&key);
                        world.later(store, Input::Removed(key.0, key.1));
                        cancelled += 1;
                    }
                }
                5 => {
                    world.step(Input::Hold(true));
                    world.run_for(store + Duration::from_millis(1));
                    world.step(Input::Hold(false));
                }
                6 => {
                    world.furthest = world.furthest.max(world.now);
                    world.now = after_start(seconds(plan.random_range(0..7_200)));
                }
                _ => {
                    let count = plan.random_range(0..40);
                    published += count;
                    for _ in 0..count {
                        let head = Head::fresh(world.minter.mint(world.now, 0));
                        world.rows.insert((Lane(lane), head.key()), head);
                        world.later(store, Input::Opened(Lane(lane), vec![head]));
                    }
                }
            }
            world.run_for(Duration::from_millis(plan.random_range(0..4_000)));
        }
        world.lane(1, fifo("a"));
        world.lane(2, fifo("a"));
        world.run_for(seconds(60 * 3600));
        assert_eq!(world.rows.len(), 0, "seed {seed}: stuck");
        assert_eq!(world.delivered.len() + cancelled, published, "seed {seed}");
    }
}

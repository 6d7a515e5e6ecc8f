//! Where rows stand: what a lane that keeps its order goes by.

use super::*;

/// The events of a lane's rows, in their order.
fn order(world: &World, lane: Lane) -> Vec<EventId> {
    world.store.pending(lane, None, 99).unwrap().0.iter().map(|head| head.event).collect()
}

#[tokio::test]
async fn a_row_that_stays_is_due_later_at_its_old_place_and_keeps_that_over_a_restart() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let (first, second) = (world.publish(event("1")).await, world.publish(event("2")).await);
    let id = first.id.delivery(lane);
    let due = world.clock.now() + HOUR;
    let next = world.settle(lane, head(&first), Settlement::Stay(due)).await.unwrap();
    assert_eq!(next, Head { due, attempts: 1, failures: 1, ..head(&first) });
    assert_eq!(order(&world, lane), [first.id, second.id]);
    check(&world.store);

    world.restart();
    let (heads, _) = world.store.pending(lane, None, 9).unwrap();
    assert_eq!(heads, [next, head(&second)]);
    let (delivery, ..) = world.store.delivery(id).unwrap().unwrap();
    assert_eq!((delivery.next_attempt_at, delivery.attempts), (Some(due), 1));

    let cut_off = world.settle(lane, next, Settlement::Interrupted).await.unwrap();
    assert_eq!(cut_off, Head { attempts: 2, ..next }, "due as before");
    check(&world.store);
    let moved = world.settle(lane, cut_off, Settlement::Retry(due + HOUR)).await.unwrap();
    assert_eq!((moved.place, moved.due), (due + HOUR, due + HOUR));
    assert_eq!(order(&world, lane), [second.id, first.id]);
    check(&world.store);
    world.store.cancel("test", id).await.unwrap();
    assert_eq!(order(&world, lane), [second.id]);
    check(&world.store);
}

/// Reopened at the clock's own time, a delivery would stand before what waits, where
/// the clock was set back; and before what was accepted in the same millisecond.
#[tokio::test]
async fn what_is_opened_again_stands_behind_all_that_waits_and_before_all_that_comes() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let accepted = world.publish(event("1")).await;
        world.settle(lane, head(&accepted), Settlement::Failed).await;
        ended.push(accepted.id);
    }
    let mut expected = vec![world.publish(event("2")).await.id];
    let reopen = async |world: &World, event: EventId| {
        world.store.reopen("test", event.delivery(lane)).await.unwrap();
        event
    };
    expected.push(reopen(&world, ended[2]).await);
    expected.push(reopen(&world, ended[0]).await);
    expected.push(world.publish(event("3")).await.id);
    world.clock.set(world.clock.now() - DAY);
    expected.push(world.publish(event("4")).await.id);
    expected.push(reopen(&world, ended[1]).await);
    // Nothing but the place of what was opened last tells where it ends.
    world.restart();
    expected.push(world.publish(event("5")).await.id);
    assert_eq!(order(&world, lane), expected);
    check(&world.store);
    let (delivery, ..) = world.store.delivery(ended[1].delivery(lane)).unwrap().unwrap();
    let now = world.clock.now();
    assert_eq!((delivery.next_attempt_at, delivery.opened_at), (Some(now), now), "due now by the clock");
}

#[tokio::test]
async fn a_replay_stands_behind_all_that_waits_in_the_order_of_its_events() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let accepted = world.store.accept((0..BULK_ROWS_MAX + 3).map(|_| event("1")).collect()).await.unwrap();
    let mut failed = Vec::new();
    for accepted in accepted {
        let accepted = accepted.unwrap();
        failed.push(accepted.id);
        world.settle(lane, head(&accepted), Settlement::Failed).await;
    }
    let waiting = world.publish(event("2")).await.id;
    let window = everything();
    let replay = Replay { lane, window, failed: true, delivered: false, missed: false };
    world.store.replay("test", replay).await.unwrap();
    let (heads, _) = world.store.pending(lane, None, 9_999).unwrap();
    let order: Vec<EventId> = heads.iter().map(|head| head.event).collect();
    assert_eq!(order, [vec![waiting], failed].concat());
    check(&world.store);
}

fn everything() -> Window {
    Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() }
}

//! A clock that is set back or forth: ids only ever grow, so that events minted
//! after a step back lie in the future of `now`.

use super::*;

impl World {
    fn step_back(&self, span: Duration) {
        self.clock.set(self.clock.now() - span);
    }
}

/// After a step back the retry horizon counted from the event's id, which lay in
/// the future by as much: deliveries were tried for that much longer.
#[tokio::test]
async fn what_is_opened_after_a_step_back_is_opened_now() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let before = world.publish(event("1")).await;
    world.settle(lane, head(&before), Settlement::Failed).await;
    world.step_back(DAY * 10);
    let now = world.clock.now();
    let accepted = world.publish(event("2")).await;
    world.store.reopen("test", before.id.delivery(lane)).await.unwrap();
    world.restart();
    let (heads, _) = world.store.pending(lane, None, 10).unwrap();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert_eq!(head.opened_at, now, "{:?} {:?}", head.event == accepted.id, head);
    }
    check(&world.store);
}

/// Keys were kept under the day of the clock: after it was set back they were
/// looked for under days before theirs, and publishing again made another event.
#[tokio::test]
async fn keys_are_found_after_a_step_back() {
    let world = World::new();
    let keyed = || NewEvent { idempotency_key: Some("k".to_owned()), ..event("1") };
    let first = world.publish(keyed()).await;
    world.step_back(DAY * 10);
    let again = world.publish(keyed()).await;
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let behind = || NewEvent { idempotency_key: Some("l".to_owned()), ..event("1") };
    let second = world.publish(behind()).await;
    world.pass(DAY * 10 + HOUR * 71);
    let again = world.publish(behind()).await;
    assert_eq!((again.id, again.duplicate), (second.id, true), "72 h of the newest id's time");
}

/// `Idempotency-Key: x` and an event whose `event_id` is `x` are two things.
#[tokio::test]
async fn a_key_and_an_event_id_do_not_collide() {
    let world = World::new();
    let keyed = NewEvent { idempotency_key: Some("x".to_owned()), ..event("1") };
    let named = NewEvent { event_id: Some("x".to_owned()), ..event("2") };
    let first = world.publish(keyed).await;
    let second = world.publish(named.clone()).await;
    assert!(!second.duplicate && second.id != first.id);
    assert!(world.publish(named).await.duplicate);
}

//! How full it is, and who is told.

use super::*;
use crate::store::work::{Kind, Work};

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

/// Of the first event with a pending delivery it was told when that was opened, be
/// it a moment ago, while others had been waiting for days.
#[tokio::test]
async fn the_oldest_pending_delivery_is_the_one_that_waits_for_longest() {
    let mut world = World::new();
    let lane = world.subscribe(settings()).await.number;
    let first = world.publish(event("1")).await;
    world.settle(lane, head(&first), Settlement::Delivered).await;
    world.pass(HOUR);
    let waiting = world.publish(event("2")).await;
    world.pass(DAY);
    world.store.reopen("test", first.id.delivery(lane)).await.unwrap();
    let oldest = world.store.oldest_pending().unwrap();
    assert_eq!(oldest, OldestPending { at: Some(waiting.id.accepted_at()), is_exact: true });
}

/// Looking for it went through every event, and through every delivery of each.
#[tokio::test]
async fn a_deep_lane_does_not_hide_the_oldest_delivery_of_another() {
    let mut world = World::new();
    assert_eq!(world.store.oldest_pending().unwrap(), OldestPending { at: None, is_exact: true });
    let of = |name: &str| Settings { events: vec![Pattern::parse(name).unwrap()], ..settings() };
    world.subscribe(of("door.opened")).await;
    world.subscribe(of("window.opened")).await;
    let oldest = world.publish(NewEvent { event_type: Name::from("window.opened"), ..event("1") }).await;
    world.pass(HOUR);
    world.publish_many(crate::limits::PAGE_SCAN_MAX).await;
    let expected = OldestPending { at: Some(oldest.id.accepted_at()), is_exact: false };
    assert_eq!(world.store.oldest_pending().unwrap(), expected);
}

fn of_acme(data: &str) -> NewEvent {
    NewEvent { organization: Name::from("acme"), ..event(data) }
}

impl World {
    /// Makes an organization of that share with a subscription, below another.
    async fn tenant(&self, id: &str, parent: Option<&str>, bytes_max: Option<u64>) -> Arc<Subscription> {
        let (name, parent) = (String::new(), parent.map(Name::from));
        let (id, stood, may_inherit) = (Name::from(id), None, false);
        let put = Change::PutOrganization { id: id.clone(), name, parent, bytes_max, stood, may_inherit };
        self.store.change("test", put).await.unwrap();
        self.subscribe(Settings { organization: id, ..settings() }).await
    }

    async fn set_status(&self, id: SubscriptionId, status: Status) {
        let (reason, detail) = (StatusReason::Manual, String::new());
        self.store.change("test", Change::SetStatus { id, status, reason, detail, version: None }).await.unwrap();
    }

    async fn is_refused(&self, event: NewEvent) -> bool {
        match self.store.accept(vec![event]).await.unwrap().remove(0) {
            Ok(_) => false,
            Err(refusal) => refusal == AcceptError::QuotaExceeded,
        }
    }
}

/// An organization's share is its own affair: what it uses up, others do not lack.
#[tokio::test]
async fn an_organization_over_its_share_is_refused_alone() {
    let mut world = World::new();
    let lane = world.tenant("acme", None, Some(4_000)).await.number;
    let large = format!("\"{}\"", "x".repeat(1000));
    let named = NewEvent { event_id: Some("first".to_owned()), ..of_acme(&large) };
    // One batch may not run over it either, by more than the event that reaches it.
    let batch = vec![named.clone(), of_acme(&large), of_acme(&large), of_acme(&large), of_acme(&large), event("1")];
    let results = world.store.accept(batch).await.unwrap();
    assert!(results[..4].iter().all(Result::is_ok));
    assert_eq!(results[4], Err(AcceptError::QuotaExceeded));
    assert!(results[5].is_ok());
    world.crash();
    assert!(world.is_refused(of_acme("1")).await);
    assert!(matches!(world.notices.recv().await, Some(Notice::OverShare(organization)) if &*organization == "acme"));
    assert!(world.publish(named).await.duplicate, "a duplicate takes no room");
    assert!(world.notices.try_recv().is_err(), "told once a minute");
    check(&world.store);
    world.settle(lane, head(results[0].as_ref().unwrap()), Settlement::Delivered).await;
    world.publish(of_acme(&large)).await;
    assert!(world.is_refused(of_acme("1")).await);
    world.store.change("test", put_organization("acme", None, true)).await.unwrap();
    world.publish(of_acme(&large)).await;
    check(&world.store);
}

/// A share counted every retained event, so that neither delivering nor disabling
/// the lane that held them made room: only retention did.
#[tokio::test]
async fn a_share_counts_what_waits_in_enabled_lanes() {
    let mut world = World::new();
    let subscription = world.tenant("acme", None, Some(1_000)).await;
    let accepted = world.publish(of_acme(&format!("\"{}\"", "x".repeat(1000)))).await;
    assert!(world.is_refused(of_acme("1")).await);
    world.set_status(subscription.id, Status::Disabled).await;
    assert!(!world.is_refused(of_acme("1")).await);
    world.set_status(subscription.id, Status::Enabled).await;
    assert!(world.is_refused(of_acme("1")).await, "what was held counts again");
    let id = accepted.id.delivery(subscription.number);
    world.settle(subscription.number, head(&accepted), Settlement::Delivered).await;
    assert!(!world.is_refused(of_acme("1")).await);
    world.store.reopen("test", id).await.unwrap();
    assert!(world.is_refused(of_acme("1")).await);
    world.store.cancel("test", id).await.unwrap();
    assert!(!world.is_refused(of_acme("1")).await);
    check(&world.store);
}

/// Whoever had used up a share could go on below it: in an organization made there,
/// with subscriptions of its own.
#[tokio::test]
async fn a_share_holds_for_what_is_below() {
    let mut world = World::new();
    world.tenant("acme", None, Some(1_000)).await;
    world.tenant("unit", Some("acme"), None).await;
    world.tenant("other", None, None).await;
    let of = |id: &str, data: &str| NewEvent { organization: Name::from(id), ..event(data) };
    let large = format!("\"{}\"", "x".repeat(1000));
    let batch = vec![of("unit", &large), of("unit", "1"), of("acme", "1"), of("other", "1")];
    let results = world.store.accept(batch).await.unwrap();
    let refused: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, true, false]);
    let over = loop {
        if let Notice::OverShare(organization) = world.notices.recv().await.unwrap() {
            break organization;
        }
    };
    assert_eq!(&*over, "acme", "whose share it is");
    check(&world.store);
}

/// Whoever made an organization anew under the id of one that had ended could read
/// the events that are retained of it.
#[tokio::test]
async fn an_organization_is_not_made_over_another_ones_events() {
    let mut world = World::new();
    let put = |is_there: bool, may_inherit| Change::PutOrganization {
        id: Name::from("acme"),
        name: String::new(),
        parent: None,
        bytes_max: None,
        stood: is_there.then_some(None),
        may_inherit,
    };
    let end = || Change::DeleteOrganization { id: Name::from("acme") };
    world.store.change("test", put(false, false)).await.unwrap();
    world.publish(of_acme("1")).await;
    world.store.change("test", end()).await.unwrap();
    assert_eq!(world.store.change("test", put(false, false)).await.err(), Some(ChangeError::EventsRetained));
    assert!(matches!(world.store.change("test", put(false, true)).await, Ok(Changed::Created)));
    assert!(matches!(world.store.change("test", put(true, false)).await, Ok(Changed::Updated)), "it is there");
    world.store.change("test", end()).await.unwrap();
    world.pass(DAY * 4);
    world.settled_down().await;
    assert!(matches!(world.store.change("test", put(false, false)).await, Ok(Changed::Created)));
}

/// Whoever asked how the daemon fares waited until the compaction was over.
#[tokio::test]
async fn how_it_fares_is_told_while_the_file_is_compacted() {
    let mut world = World::new();
    world.subscribe(settings()).await;
    world.publish_many(3).await;
    world.settled_down().await;
    let told = |store: &Store| {
        let (totals, oldest) = (store.totals(), store.oldest_pending().unwrap());
        (totals.events, totals.pending, oldest)
    };
    let before = told(&world.store);
    assert_eq!((before.0, before.1, before.2.is_exact), (3, 3, true));
    let now = world.clock.now();
    let seen = loop {
        // The writer looks at the database too, now and then.
        let look = |_: &mut Database| (told(&world.store), world.store.under_way());
        if let Some(seen) = world.store.shared.alone_with_database(look).unwrap() {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(seen.0, before);
    let compaction = Work { kind: Kind::Compaction, since: now, percent: Some(0), done: Some(0), total: None };
    assert_eq!(seen.1, [compaction]);
    assert_eq!((told(&world.store), world.store.under_way()), (before, Vec::new()));
}

/// Whoever reads, a backup too, is not disturbed: the file is made smaller another time.
#[tokio::test]
async fn a_file_is_not_made_smaller_while_somebody_reads_it() {
    let mut world = World::new();
    let large = format!("\"{}\"", "x".repeat(200_000));
    for _ in 0..20 {
        world.publish(event(&large)).await;
    }
    world.pass(100 * DAY);
    while world.store.totals().events > 0 {
        world.settled_down().await;
    }
    let before = world.store.totals().file_bytes;
    let reader = world.store.shared.shown().unwrap();
    assert!(!world.store.shared.shrink().unwrap());
    assert_eq!(world.store.totals().file_bytes, before);
    drop(reader);
    // The writer looks at the database too, now and then.
    while !world.store.shared.shrink().unwrap() {
        tokio::task::yield_now().await;
    }
    assert!(world.store.totals().file_bytes < before / 4, "{} of {before}", world.store.totals().file_bytes);
    world.publish(event("1")).await;
    check(&world.store);
}

//! Changes of what is configured: those that change nothing, and those that come
//! after the end of what they name.

use super::*;

impl World {
    async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.store.change("test", change).await
    }

    fn audited(&self) -> usize {
        self.store.audit(None, 500).unwrap().rows.len()
    }
}

/// Disabling what had been disabled for its errors changed nothing, so that it
/// still seemed to be waiting for somebody to mend it.
#[tokio::test]
async fn disabling_by_hand_outweighs_errors_and_not_the_other_way_round() {
    let world = World::new();
    let id = world.subscribe(settings()).await.id;
    let set = |status, reason| Change::SetStatus { id, status, reason, detail: String::new(), version: None };
    let now = |world: &World| {
        let registry = world.store.registry();
        let it = registry.subscription(id).unwrap();
        (it.status, it.status_reason.as_ref().map(|(reason, _, _)| *reason))
    };
    world.change(set(Status::DisabledDueToErrors, StatusReason::Failures)).await.unwrap();
    world.change(set(Status::Disabled, StatusReason::Manual)).await.unwrap();
    assert_eq!(now(&world), (Status::Disabled, Some(StatusReason::Manual)));
    world.change(set(Status::DisabledDueToErrors, StatusReason::Failures)).await.unwrap();
    assert_eq!(now(&world), (Status::Disabled, Some(StatusReason::Manual)));
}

/// Each PUT of what was there already wrote an entry into the audit log.
#[tokio::test]
async fn what_changes_nothing_is_not_audited() {
    let world = World::new();
    let event_type = |example: &str| Change::PutEventType {
        name: Name::from("door.opened"),
        description: String::new(),
        category: String::new(),
        example: Json::parse(Bytes::from(example.to_owned())).unwrap(),
        fields: None,
    };
    let source = |owner: Option<&str>| Change::PutSource {
        id: Name::from("s"),
        name: String::new(),
        organization: Name::from(DEFAULT_ORGANIZATION),
        owner: owner.map(Name::from),
    };
    assert!(matches!(world.change(event_type("1")).await, Ok(Changed::Created)));
    assert!(matches!(world.change(source(None)).await, Ok(Changed::Created)));
    assert_eq!(world.audited(), 2);
    assert!(matches!(world.change(event_type("1")).await, Ok(Changed::Updated)));
    assert!(matches!(world.change(source(Some(DEFAULT_ORGANIZATION))).await, Ok(Changed::Updated)));
    assert_eq!(world.audited(), 2);
    world.change(event_type("2")).await.unwrap();
    assert_eq!(world.audited(), 3, "another example is a change");
    let registry = world.store.registry();
    assert_eq!(registry.event_type("door.opened").unwrap().example.as_bytes(), b"2");
}

/// A repeated creation whose subscription had been deleted was told that there is
/// no such object.
#[tokio::test]
async fn a_creation_repeated_after_the_end_says_so() {
    let world = World::new();
    let create = || Change::CreateSubscription {
        id: SubscriptionId::unique(),
        settings: Box::new(settings()),
        secret: None,
        status: Status::Enabled,
        idempotency: Some(("k".to_owned(), [1; 32])),
    };
    let Ok(Changed::Subscription { subscription, .. }) = world.change(create()).await else { panic!("created") };
    world.change(Change::DeleteSubscription { id: subscription.id }).await.unwrap();
    assert_eq!(world.change(create()).await.err(), Some(ChangeError::Ended));
    world.pass(HOUR * 73);
    assert!(world.change(create()).await.is_ok());
}

/// Where settings and status were changed together, and the status by hand from
/// disabled for errors to disabled, the audit log said nothing of the status.
#[tokio::test]
async fn a_status_changed_with_settings_is_audited() {
    let world = World::new();
    let id = world.subscribe(settings()).await.id;
    let (status, reason) = (Status::DisabledDueToErrors, StatusReason::Failures);
    world.change(Change::SetStatus { id, status, reason, detail: String::new(), version: None }).await.unwrap();
    let change = Change::UpdateSubscription {
        id,
        settings: Box::new(Settings { description: "other".to_owned(), ..settings() }),
        version: 1,
        status: Some((Status::Disabled, String::new())),
        secret: SecretChange::Kept,
    };
    world.change(change).await.unwrap();
    let changes = world.store.audit(None, 1).unwrap().rows.remove(0).changes;
    assert_eq!(changes["status"], serde_json::json!(["disabled_due_to_errors", "disabled"]));
}

/// A key used anew after its first use was forgotten stands in two rows for a day:
/// the older one, which counts no more, hid the other.
#[tokio::test]
async fn a_key_used_anew_is_known() {
    let world = World::new();
    let create = || Change::CreateSubscription {
        id: SubscriptionId::unique(),
        settings: Box::new(settings()),
        secret: None,
        status: Status::Enabled,
        idempotency: Some(("k".to_owned(), [1; 32])),
    };
    world.change(create()).await.unwrap();
    world.pass(HOUR * 73);
    let Ok(Changed::Subscription { subscription, .. }) = world.change(create()).await else { panic!("created") };
    let known = world.store.created_by(DEFAULT_ORGANIZATION, "k").unwrap();
    assert_eq!(known, Some((subscription.id, [1; 32])));
}

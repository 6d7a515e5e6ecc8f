//! What people ask of the daemon in a simulation, and what they are answered.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::dialect;
use crate::id::{DeliveryId, Lane};
use crate::json::Json;
use crate::model::{
    Condition, Format, Name, NewEvent, Operator, Ordering, RetryOverrides, Scope, Settings, Status, StatusReason,
    Subscription,
};
use crate::pattern::Pattern;
use crate::secret::Secret;
use crate::store::Store;
use crate::store::command::*;
use crate::time::Timestamp;

use super::network::any_of;

/// An event as somebody publishes it, perhaps more than once.
#[derive(Clone)]
pub(super) struct Publication {
    pub(super) serial: u64,
    pub(super) event: NewEvent,
}

/// What the store answered.
pub(super) enum Answer {
    Published(Result<Vec<Result<Accepted, AcceptError>>, WriteError>),
    Changed,
    Touched(Result<(), DeliveryError>),
    Cancelled(Result<u64, DeliveryError>),
    Replayed(Result<Replayed, DeliveryError>),
}

/// What was asked.
pub(super) enum Asked {
    Publish(Vec<Publication>),
    Change,
    Touch(DeliveryId),
    CancelMany(Lane),
    Replay(Lane),
}

/// Somebody who waits for an answer.
pub(super) struct Call {
    pub(super) asked: Asked,
    pub(super) answer: Pin<Box<dyn Future<Output = Answer>>>,
}

const TYPES: [&str; 5] = ["door.opened", "door.closed", "door.request.allowed", "user.created", "lamp"];
const ORDERINGS: [Option<Ordering>; 3] = [None, Some(Ordering::None), Some(Ordering::Fifo)];
pub(super) const ORGANIZATIONS: [(&str, Option<&str>); 4] =
    [("default", None), ("acme", None), ("acme-eu", Some("acme")), ("acme-eu-1", Some("acme-eu"))];
pub(super) const SOURCES: [(&str, &str); 2] = [("panel-1", "acme"), ("panel-2", "acme-eu")];

pub(super) fn publication(chance: &mut StdRng, serial: u64) -> Publication {
    let (organization, _) = any_of(chance, &ORGANIZATIONS);
    let source = chance.random_bool(0.3).then(|| Name::from(any_of(chance, &["panel-1", "panel-2", "elsewhere"])));
    let level = chance.random_range(0..6);
    let filling = "x".repeat(chance.random_range(0..600));
    let data =
        format!(r#"{{"serial":{serial},"level":{level}, "n":1.0e0,"name":"Ann \"\u00dc\"","filling":"{filling}"}}"#);
    let key = || Some(format!("key-{serial}"));
    let event = NewEvent {
        event_type: Name::from(any_of(chance, &TYPES)),
        organization: Name::from(organization),
        source,
        subject: None,
        occurred_at: None,
        event_id: chance.random_bool(0.2).then(key).flatten(),
        idempotency_key: chance.random_bool(0.4).then(key).flatten(),
        data: Json::parse(Bytes::from(data)).unwrap(),
    };
    Publication { serial, event }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

/// Settings as somebody might choose them. `number`: makes the host a new one.
pub(super) fn settings(chance: &mut StdRng, number: usize, now: Timestamp) -> Settings {
    let format = any_of(chance, Format::ALL);
    let organization = Name::from(any_of(chance, &["default", "acme", "acme", "acme-eu"]));
    let mut settings = Settings::new(organization.clone(), format!("https://e{number}.example/hook"), format);
    settings.events = match chance.random_range(0..8) {
        0..4 => patterns(&["*"]),
        4 => patterns(&["door.*"]),
        5 => patterns(&["door.opened", "lamp"]),
        6 => patterns(&["door.request.*", "user.created"]),
        _ => patterns(&["*", "posthaste.*"]),
    };
    // Its own events would not say which event of ours they are.
    if format != Format::Standard {
        settings.events.retain(|pattern| !pattern.to_string().starts_with("posthaste."));
    }
    settings.scope = match chance.random_range(0..5) {
        0 if *organization == *"acme" => Scope::Sources(vec![Name::from("panel-1")]),
        1..3 => Scope::Recursive,
        _ => Scope::Own,
    };
    if chance.random_bool(0.2) {
        let value = serde_json::json!(chance.random_range(0..6));
        settings.filter = vec![Condition { path: "/data/level".to_owned(), op: Operator::Ge, value }];
    }
    if format == Format::Blynk {
        settings.body = Some(r#"{"serial":{serial},"who":{name},"at":{timestamp_unix}}"#.to_owned());
    }
    settings.failure_limit = chance.random_bool(0.2).then(|| chance.random_range(1..12));
    settings.expires_at = chance.random_bool(0.1).then(|| now + Duration::from_secs(chance.random_range(60..200_000)));
    settings.delivery.concurrency = Some(chance.random_range(1..6));
    settings.delivery.rate_per_second = chance.random_bool(0.25).then(|| any_of(chance, &[0.2, 1.0, 7.5, 100.0]));
    settings.delivery.ordering = any_of(chance, &ORDERINGS);
    let transient_only = chance.random_bool(0.2).then_some(true);
    settings.delivery.retry = RetryOverrides { transient_only, ..RetryOverrides::default() };
    settings
}

pub(super) fn secret(chance: &mut StdRng, format: Format) -> Option<Secret> {
    dialect::find(format).generate_secret(&chance.random())
}

pub(super) fn publish(store: &Store, publications: Vec<Publication>) -> Call {
    let store = store.clone();
    let events = publications.iter().map(|it| it.event.clone()).collect();
    let answer = Box::pin(async move { Answer::Published(store.accept(events).await) });
    Call { asked: Asked::Publish(publications), answer }
}

pub(super) fn change(store: &Store, change: Change) -> Call {
    let store = store.clone();
    let answer = Box::pin(async move {
        let _ = store.change("simulation", change).await;
        Answer::Changed
    });
    Call { asked: Asked::Change, answer }
}

pub(super) fn touch(store: &Store, id: DeliveryId, cancels: bool) -> Call {
    let store = store.clone();
    let answer = Box::pin(async move {
        Answer::Touched(match cancels {
            true => store.cancel("simulation", id).await,
            false => store.reopen("simulation", id).await,
        })
    });
    Call { asked: Asked::Touch(id), answer }
}

pub(super) fn everything() -> Window {
    Window { since: Timestamp::ZERO, until: Timestamp::MAX, events: Vec::new() }
}

pub(super) fn cancel_many(store: &Store, lane: Lane, window: Window) -> Call {
    let store = store.clone();
    let answer = Box::pin(async move { Answer::Cancelled(store.cancel_matching("simulation", lane, window).await) });
    Call { asked: Asked::CancelMany(lane), answer }
}

pub(super) fn replay(store: &Store, replay: Replay) -> Call {
    let (store, lane) = (store.clone(), replay.lane);
    let answer = Box::pin(async move { Answer::Replayed(store.replay("simulation", replay).await) });
    Call { asked: Asked::Replay(lane), answer }
}

/// Something that its owner may want of a subscription.
pub(super) fn any_change(chance: &mut StdRng, subscription: &Subscription) -> Change {
    let id = subscription.id;
    let (settings, detail) = (subscription.settings.clone(), String::new());
    match chance.random_range(0..10) {
        0 => Change::DeleteSubscription { id },
        1..3 => {
            let mut settings = settings;
            settings.delivery.concurrency = Some(chance.random_range(1..6));
            if chance.random_bool(0.3) {
                settings.delivery.ordering = any_of(chance, &ORDERINGS);
            }
            settings.events = patterns(any_of(chance, &[&["*"][..], &["door.*"], &["lamp", "user.*"]]));
            let (settings, version) = (Box::new(settings), subscription.version);
            Change::UpdateSubscription { id, settings, version, status: None, secret: SecretChange::Kept }
        }
        3..5 => match secret(chance, subscription.settings.format) {
            Some(secret) => {
                let overlap = Duration::from_secs(any_of(chance, &[0, 60, 86_400]));
                Change::RotateSecret { id, secret, overlap }
            }
            None => Change::DeleteSubscription { id },
        },
        5..7 if subscription.is_enabled() => {
            let (status, reason) = (Status::Disabled, StatusReason::Manual);
            Change::SetStatus { id, status, reason, detail, version: None }
        }
        _ => {
            let (status, reason) = (Status::Enabled, StatusReason::Manual);
            Change::SetStatus { id, status, reason, detail, version: None }
        }
    }
}

//! Changes of what is configured. **Planned purely, applied at the edge**: a plan
//! says which rows to write, what the audit log gets, and what to tell; nothing is
//! written unless the whole plan stands.

mod things;

use std::sync::Arc;

use redb::WriteTransaction;
use serde_json::{Map, Value, json};

use crate::dialect::{self, ChangeKind};
use crate::id::{Lane, SubscriptionId};
use crate::json::Json;
use crate::limits::SECRETS_VALID_MAX;
use crate::model::{
    EventType, FixedTarget, ManagedBy, Name, NewEvent, Organization, Scope, Settings, SigningSecret, Source, Status,
    StatusReason, Subscription,
};
use crate::registry::Registry;
use crate::secret::{MASK, Secret};
use crate::time::Timestamp;

use super::StoreError;
use super::command::{Change, ChangeError, Changed, SecretChange};
use super::query::AuditEntry;
use super::sealed::Sealer;
use super::settings::{self, Creation, Ended};
use super::tables::*;

use things::by_api;
pub(super) use things::{
    delete_event_type, delete_organization, delete_source, put_event_type, put_organization, put_source,
};

/// One row to be written, and then to be taken over by the registry.
#[derive(Clone)]
pub(super) enum Row {
    Organization(Organization),
    NoOrganization(Name),
    Source(Source),
    NoSource(Name),
    EventType(EventType),
    NoEventType(Name),
    Subscription(Arc<Subscription>),
    NoSubscription(Arc<Subscription>),
}

/// Everything that a change leads to.
pub(super) struct Plan {
    pub(super) row: Row,
    pub(super) changed: Changed,
    pub(super) action: &'static str,
    pub(super) object: String,
    pub(super) organization: Option<Name>,
    pub(super) changes: Value,
    /// Events to publish with it: operational ones, and what the format's vendor
    /// tells of changes.
    pub(super) events: Vec<NewEvent>,
    /// The row of an `Idempotency-Key`.
    pub(super) creation: Option<(Vec<u8>, Creation)>,
}

/// What a plan depends on beside the registry.
pub(super) struct Circumstances<'a> {
    pub(super) now: Timestamp,
    /// The time that idempotency keys are counted by.
    pub(super) keyed_at: Timestamp,
    pub(super) actor: &'a str,
    /// The number and id that a new subscription gets.
    pub(super) new_lane: Lane,
    /// What the same `Idempotency-Key` made before.
    pub(super) creation: Option<Creation>,
    /// Bytes of retained events of the organization that is put.
    pub(super) retained_bytes: u64,
}

/// The same for settings: what differs is found in plain, and shown masked.
pub(super) fn settings_differences(before: Option<&Settings>, after: Option<&Settings>) -> Value {
    let (before_plain, before_masked) = before.map(settings::audited).unwrap_or_default();
    let (after_plain, after_masked) = after.map(settings::audited).unwrap_or_default();
    let mut changes = Map::new();
    let keys: Vec<&String> = if after_plain.is_empty() { before_plain.keys() } else { after_plain.keys() }.collect();
    for key in keys {
        if before_plain.get(key) != after_plain.get(key) {
            let show = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
            changes.insert(key.clone(), json!([show(&before_masked), show(&after_masked)]));
        }
    }
    Value::Object(changes)
}

/// What to write for a change, or why it is refused.
pub(super) fn plan(registry: &Registry, change: Change, when: Circumstances<'_>) -> Result<Plan, ChangeError> {
    let now = when.now;
    match change {
        Change::PutOrganization { id, name, parent, bytes_max, stood, may_inherit } => {
            if registry.organization(&id).map(|existing| existing.parent.clone()) != stood {
                return Err(ChangeError::Stale);
            }
            let existing = registry.organization(&id);
            if existing.is_none() && when.retained_bytes > 0 && !may_inherit {
                return Err(ChangeError::EventsRetained);
            }
            let managed_by = existing.map_or(ManagedBy::Api, |existing| existing.managed_by);
            let at = Timestamp::ZERO;
            let organization = Organization { id, name, parent, bytes_max, managed_by, created_at: at, updated_at: at };
            by_api(managed_by, put_organization(registry, organization, now)?)
        }
        Change::MakeOrganization { id } => {
            let (existing, name) = (registry.organization(&id).cloned(), String::new());
            let changed = if existing.is_some() { Changed::Kept } else { Changed::Created };
            let (object, owner) = (id.to_string(), Some(id.clone()));
            let organization = existing.unwrap_or(Organization {
                id,
                name,
                parent: None,
                bytes_max: None,
                managed_by: ManagedBy::Api,
                created_at: now,
                updated_at: now,
            });
            let row = Row::Organization(organization);
            Ok(Plan::new(row, changed, "organization.put", object, owner, json!({})))
        }
        Change::DeleteOrganization { id } => {
            let existing = registry.organization(&id).ok_or(ChangeError::NotFound)?;
            by_api(existing.managed_by, delete_organization(registry, id)?)
        }
        Change::PutSource { id, name, organization, owner } => {
            if registry.source(&id).map(|existing| &existing.organization) != owner.as_ref() {
                return Err(ChangeError::Stale);
            }
            let existing = registry.source(&id);
            if existing.is_some_and(|it| it.organization != organization) && is_in_a_scope(registry, &id) {
                return Err(ChangeError::InUse("scopes of subscriptions"));
            }
            let managed_by = existing.map_or(ManagedBy::Api, |existing| existing.managed_by);
            let at = Timestamp::ZERO;
            let source = Source { id, name, organization, managed_by, created_at: at, updated_at: at };
            by_api(managed_by, put_source(registry, source, now)?)
        }
        Change::DeleteSource { id } => {
            let existing = registry.source(&id).ok_or(ChangeError::NotFound)?;
            by_api(existing.managed_by, delete_source(registry, existing)?)
        }
        Change::PutEventType { name, description, category, example, fields } => {
            let existing = registry.event_type(&name);
            let managed_by = existing.map_or(ManagedBy::Api, |existing| existing.managed_by);
            let (format, built_in, at) = (None, false, Timestamp::ZERO);
            let event_type = EventType {
                name,
                description,
                category,
                example,
                fields,
                format,
                built_in,
                managed_by,
                created_at: at,
                updated_at: at,
            };
            by_api(managed_by, put_event_type(registry, event_type, now)?)
        }
        Change::DeleteEventType { name } => {
            let existing = registry.event_type(&name).ok_or(ChangeError::NotFound)?;
            if existing.built_in {
                return Err(ChangeError::BuiltIn);
            }
            by_api(existing.managed_by, delete_event_type(name))
        }
        Change::CreateSubscription { id, settings, secret, status, idempotency } => {
            create(registry, id, *settings, secret, status, idempotency, when)
        }
        Change::UpdateSubscription { id, settings, version, status, secret } => {
            let before = owned_by_api(registry, id)?;
            if before.version != version {
                return Err(ChangeError::Stale);
            }
            check_owner(registry, &settings)?;
            let mut changes = settings_differences(Some(&before.settings), Some(&settings));
            let unchanged = changes.as_object().is_none_or(Map::is_empty);
            let mut after = Subscription::clone(before);
            if !unchanged {
                after.settings = *settings;
                after.version += 1;
                after.updated_at = now;
            }
            if let Some(change) = change_secret(&mut after, secret, now) {
                changes["secret"] = change;
            }
            let told = match status {
                Some((status, detail)) => set_status(&mut after, status, StatusReason::Manual, detail, now)?,
                None => None,
            };
            if before.status != after.status {
                changes["status"] = json!([before.status.as_str(), after.status.as_str()]);
            }
            let vendors = (!unchanged).then(|| of_vendor(ChangeKind::Updated, &after)).flatten();
            let mut plan = Plan::subscription(after, "subscription.update", changes);
            plan.events = vendors.into_iter().chain(told).collect();
            Ok(plan)
        }
        Change::SetStatus { id, status, reason, detail, version } => {
            let before = registry.subscription(id).ok_or(ChangeError::NotFound)?;
            if version.is_some_and(|version| version != before.version) {
                return Err(ChangeError::Stale);
            }
            if before.is_undeclared() && status == Status::Enabled {
                return Err(ChangeError::ManagedByFile);
            }
            change_status(registry, id, status, reason, detail, now)
        }
        Change::DisableSilently { id, reason, detail } => {
            let plan = change_status(registry, id, Status::DisabledDueToErrors, reason, detail, now)?;
            Ok(Plan { events: Vec::new(), ..plan })
        }
        Change::RotateSecret { id, secret, overlap } => {
            let before = registry.subscription(id).ok_or(ChangeError::NotFound)?;
            if before.declared.as_ref().is_some_and(|declared| declared.owns_secret) {
                return Err(ChangeError::ManagedByFile);
            }
            let mut after = Subscription::clone(before);
            after.secrets.retain(|old| old.valid_until.is_none_or(|until| now < until));
            for old in &mut after.secrets {
                old.valid_until = Some(old.valid_until.map_or(now + overlap, |until| until.min(now + overlap)));
            }
            after.secrets.retain(|old| old.valid_until.is_none_or(|until| now < until));
            if after.secrets.len() >= SECRETS_VALID_MAX {
                return Err(ChangeError::TooManySecrets);
            }
            after.secrets.push(SigningSecret { secret, created_at: now, valid_until: None });
            after.updated_at = now;
            Ok(Plan::subscription(after, "subscription.rotate_secret", json!({"secret": [MASK, MASK]})))
        }
        Change::DeleteSubscription { id } => Ok(delete_subscription(owned_by_api(registry, id)?)),
    }
}

pub(super) fn delete_subscription(before: &Arc<Subscription>) -> Plan {
    let changes = settings_differences(Some(&before.settings), None);
    let mut plan = Plan::subscription(Subscription::clone(before), "subscription.delete", changes);
    plan.events.extend(of_vendor(ChangeKind::Deleted, before));
    plan.row = Row::NoSubscription(before.clone());
    plan.changed = Changed::Deleted;
    plan
}

impl Plan {
    fn new(
        row: Row,
        changed: Changed,
        action: &'static str,
        object: String,
        organization: Option<Name>,
        changes: Value,
    ) -> Plan {
        Plan { row, changed, action, object, organization, changes, events: Vec::new(), creation: None }
    }

    pub(super) fn subscription(subscription: Subscription, action: &'static str, changes: Value) -> Plan {
        let subscription = Arc::new(subscription);
        let (object, owner) = (subscription.id.to_string(), Some(subscription.settings.organization.clone()));
        let changed = Changed::Subscription { subscription: subscription.clone(), replayed: false };
        Plan::new(Row::Subscription(subscription), changed, action, object, owner, changes)
    }

    /// Whether there is anything to write.
    pub(super) fn is_needed(&self) -> bool {
        match &self.changed {
            Changed::Subscription { replayed: true, .. } | Changed::Kept => false,
            Changed::Subscription { .. } | Changed::Updated => self.changes != json!({}),
            Changed::Created | Changed::Deleted => true,
        }
    }

    pub(super) fn audit(&self, sequence: u64, when: Timestamp, actor: &str) -> AuditEntry {
        AuditEntry {
            sequence,
            at: when,
            actor: actor.to_owned(),
            action: self.action.to_owned(),
            object: self.object.clone(),
            organization: self.organization.clone(),
            changes: self.changes.clone(),
        }
    }
}

fn owned_by_api(registry: &Registry, id: SubscriptionId) -> Result<&Arc<Subscription>, ChangeError> {
    let subscription = registry.subscription(id).ok_or(ChangeError::NotFound)?;
    match subscription.managed_by() {
        ManagedBy::Api => Ok(subscription),
        ManagedBy::File => Err(ChangeError::ManagedByFile),
    }
}

fn is_in_a_scope(registry: &Registry, source: &Name) -> bool {
    registry.subscriptions().any(|subscription| match &subscription.settings.scope {
        Scope::Sources(sources) => sources.contains(source),
        Scope::Own | Scope::Recursive => false,
    })
}

/// The organization must exist, and every source of the scope be its own.
pub(super) fn check_owner(registry: &Registry, settings: &Settings) -> Result<(), ChangeError> {
    if registry.organization(&settings.organization).is_none() {
        return Err(ChangeError::UnknownOrganization("organization"));
    }
    if let Scope::Sources(sources) = &settings.scope {
        for id in sources {
            if registry.source(id).is_none_or(|source| source.organization != settings.organization) {
                return Err(ChangeError::ForeignSource(id.clone()));
            }
        }
    }
    Ok(())
}

fn create(
    registry: &Registry,
    id: SubscriptionId,
    settings: Settings,
    secret: Option<Secret>,
    status: Status,
    idempotency: Option<(String, [u8; 32])>,
    when: Circumstances<'_>,
) -> Result<Plan, ChangeError> {
    let now = when.now;
    if let (Some((_, content)), Some(first)) = (&idempotency, &when.creation)
        && first.is_known(when.keyed_at)
    {
        if first.content != *content {
            return Err(ChangeError::IdempotencyConflict);
        }
        let subscription = registry.subscription(first.id).ok_or(ChangeError::Ended)?;
        let mut plan = Plan::subscription(Subscription::clone(subscription), "subscription.create", json!({}));
        plan.changed = Changed::Subscription { subscription: subscription.clone(), replayed: true };
        return Ok(plan);
    }
    check_owner(registry, &settings)?;
    let changes = settings_differences(None, Some(&settings));
    let organization = settings.organization.clone();
    let secrets = secret.map(|secret| SigningSecret { secret, created_at: now, valid_until: None });
    let status_reason = (status != Status::Enabled).then(|| (StatusReason::Manual, now, String::new()));
    let subscription = Subscription {
        id,
        number: when.new_lane,
        settings,
        secrets: secrets.into_iter().collect(),
        status,
        status_reason,
        version: 1,
        created_at: now,
        updated_at: now,
        created_by: when.actor.to_owned(),
        declared: None,
        fixed_target: FixedTarget::default(),
    };
    let vendors = of_vendor(ChangeKind::Created, &subscription);
    let mut plan = Plan::subscription(subscription, "subscription.create", changes);
    plan.events.extend(vendors);
    plan.creation = idempotency.map(|(key, content)| {
        let row = idempotency_key(day_of(when.keyed_at), &organization, KeyKind::Given, &key);
        (row, Creation { id, content, created_at: when.keyed_at })
    });
    Ok(plan)
}

/// Answers what the audit log is told of it; none: there is no change.
pub(super) fn change_secret(subscription: &mut Subscription, change: SecretChange, now: Timestamp) -> Option<Value> {
    let shown = |secrets: &[SigningSecret]| (!secrets.is_empty()).then_some(MASK);
    let before = shown(&subscription.secrets);
    subscription.secrets = match change {
        SecretChange::Kept => return None,
        SecretChange::Removed if subscription.secrets.is_empty() => return None,
        SecretChange::Removed => Vec::new(),
        SecretChange::Replaced(secret) => vec![SigningSecret { secret, created_at: now, valid_until: None }],
    };
    subscription.updated_at = now;
    Some(json!([before, shown(&subscription.secrets)]))
}

/// Enables or disables the subscription of that id.
fn change_status(
    registry: &Registry,
    id: SubscriptionId,
    status: Status,
    reason: StatusReason,
    detail: String,
    now: Timestamp,
) -> Result<Plan, ChangeError> {
    let before = registry.subscription(id).ok_or(ChangeError::NotFound)?;
    let mut after = Subscription::clone(before);
    let told = set_status(&mut after, status, reason, detail, now)?;
    let mut changes = json!({});
    if before.status != after.status {
        changes["status"] = json!([before.status.as_str(), after.status.as_str()]);
    }
    let mut plan = Plan::subscription(after, "subscription.status", changes);
    plan.events.extend(told);
    Ok(plan)
}

/// Enables or disables `subscription`. Answers the operational event that tells of
/// it; none where it is so already.
pub(super) fn set_status(
    subscription: &mut Subscription,
    status: Status,
    reason: StatusReason,
    detail: String,
    now: Timestamp,
) -> Result<Option<NewEvent>, ChangeError> {
    let enables = status == Status::Enabled;
    if enables && subscription.settings.expires_at.is_some_and(|at| at <= now) {
        return Err(ChangeError::Expired);
    }
    // What errors disabled can also be disabled by hand, and then stays so.
    let is_by_hand = status == Status::Disabled && reason == StatusReason::Manual && subscription.status != status;
    let is_turn = enables != subscription.is_enabled();
    if !is_turn && !is_by_hand {
        return Ok(None);
    }
    subscription.status = status;
    subscription.status_reason = (!enables).then(|| (reason, now, detail.clone()));
    subscription.updated_at = now;
    let event_type = if enables { "posthaste.subscription.enabled" } else { "posthaste.subscription.disabled" };
    let mut data = subscription_facts(subscription);
    if !enables {
        data["reason"] = json!({"code": reason.as_str(), "detail": detail});
    }
    Ok(is_turn.then(|| operational(event_type, subscription, Json::from(&data))))
}

/// What operational events say of a subscription.
pub(super) fn subscription_facts(subscription: &Subscription) -> Value {
    json!({
        "subscription": {
            "id": subscription.id.to_string(),
            "number": subscription.number.0,
            "name": subscription.settings.name,
            "external_id": subscription.settings.external_id,
            "status": subscription.status.as_str(),
        },
        "notify": subscription.settings.notify,
    })
}

/// The event by which the vendor of a subscription's format tells of a change.
pub(super) fn of_vendor(kind: ChangeKind, subscription: &Subscription) -> Option<NewEvent> {
    let (event_type, data) = dialect::find(subscription.settings.format).change_event(kind, subscription)?;
    Some(operational(event_type, subscription, data))
}

/// An event about a subscription, of its organization.
pub(super) fn operational(event_type: &str, subscription: &Subscription, data: Json) -> NewEvent {
    NewEvent {
        event_type: Name::from(event_type),
        organization: subscription.settings.organization.clone(),
        source: None,
        subject: Some(subscription.id.to_string()),
        occurred_at: None,
        event_id: None,
        idempotency_key: None,
        data,
    }
}

/// Writes a plan's rows. The registry takes them over after the commit.
pub(super) fn write(
    transaction: &WriteTransaction,
    plan: &Plan,
    sealer: &mut Sealer<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    match &plan.row {
        Row::Organization(it) => {
            let record = settings::write_organization(it)?;
            transaction.open_table(ORGANIZATION)?.insert(it.id.as_ref(), record.as_slice())?;
        }
        Row::NoOrganization(id) => {
            transaction.open_table(ORGANIZATION)?.remove(id.as_ref())?;
        }
        Row::Source(it) => {
            let record = settings::write_source(it)?;
            transaction.open_table(SOURCE)?.insert(it.id.as_ref(), record.as_slice())?;
        }
        Row::NoSource(id) => {
            transaction.open_table(SOURCE)?.remove(id.as_ref())?;
        }
        Row::EventType(it) => {
            let record = settings::write_event_type(it)?;
            transaction.open_table(EVENT_TYPE)?.insert(it.name.as_ref(), record.as_slice())?;
        }
        Row::NoEventType(name) => {
            transaction.open_table(EVENT_TYPE)?.remove(name.as_ref())?;
        }
        Row::Subscription(it) => {
            let record = settings::write_subscription(it, sealer)?;
            transaction.open_table(SUBSCRIPTION)?.insert(it.number.0, record.as_slice())?;
        }
        Row::NoSubscription(it) => {
            let ended = Ended { id: it.id.0, organization: it.settings.organization.to_string() };
            transaction.open_table(SUBSCRIPTION)?.remove(it.number.0)?;
            transaction.open_table(STATS)?.remove(it.number.0)?;
            transaction
                .open_table(ENDED)?
                .insert(&ended_key(now, it.number), settings::write_ended(&ended)?.as_slice())?;
        }
    }
    if let Some((key, creation)) = &plan.creation {
        let record = settings::write_creation(key, creation, sealer)?;
        transaction.open_table(CREATION)?.insert(key.as_slice(), record.as_slice())?;
    }
    Ok(())
}

/// The registry takes a committed row over.
pub(super) fn apply(registry: &mut Registry, row: Row) {
    match row {
        Row::Organization(it) => registry.put_organization(it),
        Row::NoOrganization(id) => registry.remove_organization(&id),
        Row::Source(it) => registry.put_source(it),
        Row::NoSource(id) => registry.remove_source(&id),
        Row::EventType(it) => registry.put_event_type(it),
        Row::NoEventType(name) => registry.remove_event_type(&name),
        Row::Subscription(it) => registry.put_subscription(it),
        Row::NoSubscription(it) => {
            registry.remove_subscription(it.number);
            registry.put_ended(it.number, it.id, it.settings.organization.clone());
        }
    }
}

//! What files declare, put in force: a pure plan from what is configured to what is
//! declared, made of the plans of single changes. **All of it is one change**: the
//! writer commits the whole plan, or nothing.
//!
//! Organizations, sources and event types are known by their ids: one that the API
//! made is taken over. Subscriptions are known by the key they are declared under, so
//! that none the API made is ever touched. What files own and declare no longer ends
//! as soon as nothing needs it; until then it stays, subscriptions disabled.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::dialect::{self, ChangeKind};
use crate::id::Lane;
use crate::limits::ORGANIZATION_DEPTH_MAX;
use crate::model::validate::{self, Surroundings};
use crate::model::{
    DEFAULT_ORGANIZATION, Declaration, Fault, FixedTarget, ManagedBy, Name, Organization, Scope, SigningSecret, Status,
    StatusReason, Subscription,
};
use crate::registry::Registry;
use crate::secret::{MASK, Secret};
use crate::time::Timestamp;

use super::change::{self, Plan, Row};
use super::command::{
    ChangeError, Changed, Declared, DeclaredSecret, DeclaredStep, DeclaredSubscription, SecretChange,
};

/// Who the audit log says it was.
pub(super) const ACTOR: &str = "files";
/// Of a status that files decided, for people.
const BY_FILES: &str = "by files";

/// What is declared, by its ids and keys alone.
#[derive(Default)]
pub(super) struct Names {
    organizations: HashSet<Name>,
    sources: HashSet<Name>,
    event_types: HashSet<Name>,
    subscriptions: HashSet<Name>,
}

impl Names {
    pub(super) fn of(declared: &Declared) -> Names {
        Names {
            organizations: declared.organizations.iter().map(|it| it.id.clone()).collect(),
            sources: declared.sources.iter().map(|it| it.id.clone()).collect(),
            event_types: declared.event_types.iter().map(|it| it.name.clone()).collect(),
            subscriptions: declared.subscriptions.iter().map(|it| it.key.clone()).collect(),
        }
    }
}

/// How many of `declared` are subscriptions that are not there yet.
pub(super) fn new_subscriptions(registry: &Registry, declared: &Declared) -> usize {
    let known = by_key(registry);
    declared.subscriptions.iter().filter(|it| !known.contains_key(&it.key)).count()
}

/// Everything to do, in order; empty where nothing differs. New subscriptions take
/// their numbers from `numbers`.
pub(super) fn plan(
    registry: &Registry,
    declared: &Declared,
    now: Timestamp,
    has_pending: &dyn Fn(Lane) -> bool,
    numbers: impl Iterator<Item = Lane>,
) -> Result<Vec<Plan>, Vec<Fault>> {
    let mut planner = Planner { after: registry.clone(), now, plans: Vec::new(), faults: Vec::new() };
    planner.put_organizations(&declared.organizations);
    for source in &declared.sources {
        let planned = change::put_source(&planner.after, source.clone(), now);
        planner.take(planned, || format!("sources.{}", source.id));
    }
    for event_type in &declared.event_types {
        let planned = change::put_event_type(&planner.after, event_type.clone(), now);
        planner.take(planned, || format!("event_types.{}", event_type.name));
    }
    planner.put_subscriptions(declared, numbers);
    planner.check_scopes();
    if !planner.faults.is_empty() {
        return Err(planner.faults);
    }
    planner.end_undeclared(&Names::of(declared), has_pending);
    Ok(planner.plans)
}

/// The part of it that is left for later where something was pending.
pub(super) fn plan_ends(
    registry: &Registry,
    declared: &Names,
    now: Timestamp,
    has_pending: &dyn Fn(Lane) -> bool,
) -> Vec<Plan> {
    if !has_undeclared(registry, declared) {
        return Vec::new();
    }
    let mut planner = Planner { after: registry.clone(), now, plans: Vec::new(), faults: Vec::new() };
    planner.end_undeclared(declared, has_pending);
    planner.plans
}

fn has_undeclared(registry: &Registry, declared: &Names) -> bool {
    let is_files = |managed_by: ManagedBy| managed_by == ManagedBy::File;
    let key = |it: &Arc<Subscription>| it.declared.as_ref().map(|declared| declared.key.clone());
    registry.subscriptions().filter_map(key).any(|key| !declared.subscriptions.contains(&key))
        || registry.organizations().any(|it| is_files(it.managed_by) && !declared.organizations.contains(&it.id))
        || registry.sources().any(|it| is_files(it.managed_by) && !declared.sources.contains(&it.id))
        || registry.event_types().any(|it| is_files(it.managed_by) && !declared.event_types.contains(&it.name))
}

/// What a plan of this room does, for people.
pub(super) fn step(plan: &Plan) -> DeclaredStep {
    let of = |subscription: &Subscription| {
        let key = subscription.declared.as_ref().map_or("", |declared| &declared.key);
        format!("subscriptions.{key}")
    };
    let object = match &plan.row {
        Row::Organization(it) => format!("organizations.{}", it.id),
        Row::NoOrganization(id) => format!("organizations.{id}"),
        Row::Source(it) => format!("sources.{}", it.id),
        Row::NoSource(id) => format!("sources.{id}"),
        Row::EventType(it) => format!("event_types.{}", it.name),
        Row::NoEventType(name) => format!("event_types.{name}"),
        Row::Subscription(it) | Row::NoSubscription(it) => of(it),
    };
    let action = match plan.changed {
        Changed::Created => "create",
        Changed::Deleted => "delete",
        _ => plan.action.strip_prefix("subscription.").unwrap_or("update"),
    };
    let changes = if action == "delete" { json!({}) } else { plan.changes.clone() };
    DeclaredStep { action, object, changes }
}

fn by_key(registry: &Registry) -> HashMap<Name, Arc<Subscription>> {
    let declared = |it: &Arc<Subscription>| it.declared.as_ref().map(|declared| (declared.key.clone(), it.clone()));
    registry.subscriptions().filter_map(declared).collect()
}

struct Planner {
    /// As it will be after the plans so far.
    after: Registry,
    now: Timestamp,
    plans: Vec<Plan>,
    faults: Vec<Fault>,
}

impl Planner {
    fn take(&mut self, planned: Result<Plan, ChangeError>, path: impl Fn() -> String) {
        match planned {
            Ok(plan) if plan.is_needed() => {
                change::apply(&mut self.after, plan.row.clone());
                self.plans.push(plan);
            }
            Ok(_) => {}
            Err(error) => {
                let (field, message) = refusal(error);
                let path = if field.is_empty() { path() } else { format!("{}.{field}", path()) };
                self.faults.push(Fault::new(path, message));
            }
        }
    }

    /// Parents before what is below them.
    fn put_organizations(&mut self, declared: &[Organization]) {
        let mut waiting: Vec<&Organization> = declared.iter().collect();
        for _ in 0..ORGANIZATION_DEPTH_MAX {
            let ids: HashSet<&Name> = waiting.iter().map(|it| &it.id).collect();
            let (later, ready) = waiting.iter().partition(|it| it.parent.as_ref().is_some_and(|it| ids.contains(it)));
            waiting = later;
            let ready: Vec<&Organization> = ready;
            for organization in ready {
                let planned = change::put_organization(&self.after, organization.clone(), self.now);
                self.take(planned, || format!("organizations.{}", organization.id));
            }
        }
        for organization in waiting {
            let message = format!("leads in a circle, or through more than {ORGANIZATION_DEPTH_MAX} levels");
            self.faults.push(Fault::new(format!("organizations.{}.parent", organization.id), message));
        }
    }

    fn put_subscriptions(&mut self, declared: &Declared, mut numbers: impl Iterator<Item = Lane>) {
        let known = by_key(&self.after);
        for wanted in &declared.subscriptions {
            let surroundings = Surroundings {
                now: self.now,
                allow_http: declared.allow_http,
                known_fields: self.after.known_fields(&wanted.settings.events),
            };
            let is_unsigned = matches!(wanted.secret, DeclaredSecret::Unsigned | DeclaredSecret::Generated(None));
            let faults = validate::check(&wanted.settings, is_unsigned, &surroundings);
            let before = self.faults.len();
            let path = || format!("subscriptions.{}", wanted.key);
            // What it expires at may have passed since it was written: then it is disabled.
            let faults = faults.into_iter().filter(|fault| fault.field != "expires_at");
            self.faults.extend(faults.map(|fault| Fault::new(format!("{}.{}", path(), fault.field), fault.message)));
            if let Err(error) = change::check_owner(&self.after, &wanted.settings) {
                self.take(Err(error), path);
            }
            if self.faults.len() > before {
                continue;
            }
            let planned = match known.get(&wanted.key) {
                Some(existing) => self.update(existing, wanted),
                None => numbers.next().map_or(Err(ChangeError::Stale), |number| Ok(self.create(number, wanted))),
            };
            self.take(planned, path);
        }
    }

    fn create(&self, number: Lane, wanted: &DeclaredSubscription) -> Plan {
        let now = self.now;
        let (secret, owns_secret) = match &wanted.secret {
            DeclaredSecret::Generated(secret) => (secret.clone(), false),
            DeclaredSecret::Unsigned => (None, true),
            DeclaredSecret::Chosen(secret) => (Some(secret.clone()), true),
        };
        let (status, reason) = match wanted.status.unwrap_or(Status::Enabled) {
            Status::Enabled if has_expired(wanted, now) => (Status::Disabled, Some(StatusReason::Expired)),
            Status::Enabled => (Status::Enabled, None),
            status => (status, Some(StatusReason::Manual)),
        };
        let secrets = secret.map(|secret| SigningSecret { secret, created_at: now, valid_until: None });
        let subscription = Subscription {
            id: wanted.id,
            number,
            settings: wanted.settings.clone(),
            secrets: secrets.into_iter().collect(),
            status,
            status_reason: reason.map(|reason| (reason, now, BY_FILES.to_owned())),
            version: 1,
            created_at: now,
            updated_at: now,
            created_by: ACTOR.to_owned(),
            declared: Some(Declaration { key: wanted.key.clone(), owns_secret }),
            fixed_target: FixedTarget::default(),
        };
        let changes = change::settings_differences(None, Some(&wanted.settings));
        let vendors = change::of_vendor(ChangeKind::Created, &subscription);
        let mut plan = Plan::subscription(subscription, "subscription.create", changes);
        plan.events.extend(vendors);
        plan
    }

    fn update(&self, before: &Subscription, wanted: &DeclaredSubscription) -> Result<Plan, ChangeError> {
        let now = self.now;
        if before.settings.organization != wanted.settings.organization {
            return Err(ChangeError::ForeignOrganization);
        }
        let mut changes = change::settings_differences(Some(&before.settings), Some(&wanted.settings));
        let is_set = changes != json!({});
        let mut after = before.clone();
        if is_set {
            after.settings = wanted.settings.clone();
            after.version += 1;
            after.updated_at = now;
        }
        if let Some(change) = change::change_secret(&mut after, secret_change(before, wanted), now) {
            changes["secret"] = change;
        }
        let owns_secret = !matches!(wanted.secret, DeclaredSecret::Generated(_));
        after.declared = Some(Declaration { key: wanted.key.clone(), owns_secret });
        if before.declared != after.declared && changes.get("secret").is_none() {
            changes["secret"] = json!([MASK, MASK]);
        }
        let mut told = None;
        if let Some(status) = status_change(before, wanted, now) {
            told = change::set_status(&mut after, status, StatusReason::Manual, BY_FILES.to_owned(), now)?;
            if after.is_undeclared() {
                after.status_reason = Some((StatusReason::Manual, now, BY_FILES.to_owned()));
            }
            let (was, is) = (shown_status(before), shown_status(&after));
            if was != is {
                changes["status"] = json!([was, is]);
            }
        }
        let vendors = is_set.then(|| change::of_vendor(ChangeKind::Updated, &after)).flatten();
        let mut plan = Plan::subscription(after, "subscription.update", changes);
        plan.events = vendors.into_iter().chain(told).collect();
        Ok(plan)
    }

    /// A source that moved must not be in the scope of a subscription that did not.
    fn check_scopes(&mut self) {
        let mut strays = HashSet::new();
        for subscription in self.after.subscriptions() {
            let Scope::Sources(sources) = &subscription.settings.scope else { continue };
            let owner = &subscription.settings.organization;
            let is_stray = |id: &&Name| self.after.source(id).is_some_and(|source| source.organization != *owner);
            strays.extend(sources.iter().filter(is_stray).cloned());
        }
        let moved = |plan: &Plan| match &plan.row {
            Row::Source(source) if strays.contains(&source.id) => Some(source.id.clone()),
            _ => None,
        };
        for id in self.plans.iter().filter_map(moved) {
            let message = "cannot change: the scope of a subscription of its organization names it";
            self.faults.push(Fault::new(format!("sources.{id}.organization"), message));
        }
    }

    /// Ends what files own and declare no longer, where nothing needs it.
    fn end_undeclared(&mut self, declared: &Names, has_pending: &dyn Fn(Lane) -> bool) {
        let known = by_key(&self.after);
        let mut undeclared: Vec<_> =
            known.into_iter().filter(|(key, _)| !declared.subscriptions.contains(key)).collect();
        undeclared.sort_by_key(|(_, subscription)| subscription.number);
        for (_, subscription) in undeclared {
            if !has_pending(subscription.number) {
                self.take(Ok(change::delete_subscription(&subscription)), String::new);
            } else if !subscription.is_undeclared() {
                self.take(self.disable(&subscription), String::new);
            }
        }
        let is_files = |managed_by: ManagedBy| managed_by == ManagedBy::File;
        let sources: Vec<_> = self.after.sources().filter(|it| is_files(it.managed_by)).cloned().collect();
        for source in sources.iter().filter(|it| !declared.sources.contains(&it.id)) {
            if let Ok(plan) = change::delete_source(&self.after, source) {
                self.take(Ok(plan), String::new);
            }
        }
        let event_types: Vec<_> = self.after.event_types().filter(|it| is_files(it.managed_by)).cloned().collect();
        for event_type in event_types.into_iter().filter(|it| !declared.event_types.contains(&it.name)) {
            self.take(Ok(change::delete_event_type(event_type.name)), String::new);
        }
        // The lowest first, so that those above have no children left.
        let organizations = self.after.organizations().filter(|it| is_files(it.managed_by));
        let mut organizations: Vec<_> =
            organizations.filter(|it| !declared.organizations.contains(&it.id)).cloned().collect();
        organizations.sort_by_key(|it| std::cmp::Reverse(self.after.lineage(&it.id).count()));
        for organization in organizations {
            let planned = if *organization.id == *DEFAULT_ORGANIZATION {
                let managed_by = ManagedBy::Api;
                change::put_organization(&self.after, Organization { managed_by, ..organization }, self.now)
            } else {
                change::delete_organization(&self.after, organization.id)
            };
            if let Ok(plan) = planned {
                self.take(Ok(plan), String::new);
            }
        }
    }

    fn disable(&self, before: &Subscription) -> Result<Plan, ChangeError> {
        let mut after = before.clone();
        let detail = "files declare it no longer".to_owned();
        let told =
            change::set_status(&mut after, Status::Disabled, StatusReason::Undeclared, detail.clone(), self.now)?;
        after.status = Status::Disabled;
        after.status_reason = Some((StatusReason::Undeclared, self.now, detail));
        after.updated_at = self.now;
        let changes = json!({"status": [shown_status(before), shown_status(&after)]});
        let mut plan = Plan::subscription(after, "subscription.undeclare", changes);
        plan.events.extend(told);
        Ok(plan)
    }
}

fn has_expired(wanted: &DeclaredSubscription, now: Timestamp) -> bool {
    wanted.settings.expires_at.is_some_and(|at| at <= now)
}

/// A status, and why where it is not by hand.
fn shown_status(subscription: &Subscription) -> String {
    match &subscription.status_reason {
        Some((reason, ..)) if *reason != StatusReason::Manual => format!("{} ({reason})", subscription.status),
        _ => subscription.status.to_string(),
    }
}

/// The status that it is to get; none: it stays. Declared again it is as if new, and a
/// new `expires_at` ends an expiry.
fn status_change(before: &Subscription, wanted: &DeclaredSubscription, now: Timestamp) -> Option<Status> {
    let reason = before.status_reason.as_ref().map(|(reason, ..)| *reason);
    let is_back = match reason {
        Some(StatusReason::Undeclared) => true,
        Some(StatusReason::Expired) => before.settings.expires_at != wanted.settings.expires_at,
        _ => false,
    };
    let status = wanted.status.or(is_back.then_some(Status::Enabled))?;
    match status {
        Status::Enabled if has_expired(wanted, now) => is_back.then_some(Status::Disabled),
        status => Some(status),
    }
}

/// What becomes of the secrets: one of an earlier format, which this one does not
/// take, is replaced.
fn secret_change(before: &Subscription, wanted: &DeclaredSubscription) -> SecretChange {
    let current = before.secrets.last().map(|held| &held.secret);
    let dialect = dialect::find(wanted.settings.format);
    let fits = |secret: &Secret| dialect.check_secret(secret).is_ok();
    match &wanted.secret {
        DeclaredSecret::Unsigned => SecretChange::Removed,
        DeclaredSecret::Chosen(secret) if current == Some(secret) => SecretChange::Kept,
        DeclaredSecret::Chosen(secret) => SecretChange::Replaced(secret.clone()),
        DeclaredSecret::Generated(_) if current.is_some_and(fits) => SecretChange::Kept,
        DeclaredSecret::Generated(Some(secret)) => SecretChange::Replaced(secret.clone()),
        DeclaredSecret::Generated(None) => SecretChange::Removed,
    }
}

/// Which field is at fault, and how.
fn refusal(error: ChangeError) -> (String, String) {
    let fault = |field: &str, message: &str| (field.to_owned(), message.to_owned());
    match error {
        ChangeError::UnknownOrganization(field) => {
            fault(field, "names an organization that neither exists nor is declared")
        }
        ChangeError::Cycle => fault("parent", "may not be the organization itself or one below it"),
        ChangeError::TooDeep => {
            ("parent".to_owned(), format!("would make the tree deeper than {ORGANIZATION_DEPTH_MAX} levels"))
        }
        ChangeError::ForeignSource(source) => {
            ("scope".to_owned(), format!("names the source {source}, which is not of the subscription's organization"))
        }
        ChangeError::ForeignOrganization => {
            fault("organization", "cannot be changed: declare another subscription, under another key")
        }
        ChangeError::BuiltIn => fault("", "is built in"),
        other => (String::new(), other.to_string()),
    }
}

/// For the log: which fields differ.
pub(super) fn fields_of(changes: &Value) -> String {
    let names: Vec<&str> = changes.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

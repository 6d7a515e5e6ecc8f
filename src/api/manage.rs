//! How subscriptions are made and changed, whatever API asks for it: checked,
//! verified where their format wants that, then committed as one change. **Nothing
//! changes unless all of it holds.**

use std::sync::Arc;
use std::time::Duration;

use crate::dialect;
use crate::http::{Code, Problem};
use crate::id::SubscriptionId;
use crate::limits::UPDATE_TRIES_MAX;
use crate::model::validate::{self, Surroundings};
use crate::model::{
    DEFAULT_ORGANIZATION, Fault, ManagedBy, Name, Scope, Settings, SigningSecret, Status, StatusReason, Subscription,
};
use crate::secret::Secret;
use crate::store::command::{Change, ChangeError, Changed, SecretChange};

use super::call::{Call, not_found, overtaken, random};
use super::subscription_json::{Draft, Refusal, WantedSecret, check_new_secret, role_needed};
use super::{organizations, trial};

/// What a repetition is known by: the key, and a digest of the request.
pub(super) type Idempotency = (String, [u8; 32]);

/// A subscription that was made, now or by the same request before.
pub(super) struct Made {
    pub(super) subscription: Arc<Subscription>,
    pub(super) replayed: bool,
}

/// Makes the subscription of `draft`, unless it or `refusal` has a fault.
pub(super) async fn create(
    call: &Call,
    draft: Draft,
    mut refusal: Refusal,
    idempotency: Option<Idempotency>,
) -> Result<Made, Problem> {
    let settings = draft.settings;
    let dialect = dialect::find(settings.format);
    refusal.add(check_new_secret(&draft.secret, dialect).into_iter().collect());
    let is_unsigned = matches!(draft.secret, WantedSecret::Unsigned);
    refusal.add(check_settings(call, &settings, is_unsigned));
    refusal.add(check_organization(call, &settings));
    refusal.add(check_scope(call, &settings));
    refusal.into_result()?;
    check_secrecy(call, &settings, None)?;
    let secret = match draft.secret {
        WantedSecret::Unsaid => dialect.generate_secret(&random()?),
        WantedSecret::Unsigned => None,
        WantedSecret::Chosen(secret) => Some(secret),
    };
    let status = draft.status.unwrap_or(Status::Enabled);
    let id = SubscriptionId::new(call.now(), random()?);
    if status == Status::Enabled && trial::is_wanted(call, dialect) {
        trial::verify(call, id, &settings, signing(call, secret.as_ref())).await?;
    }
    organizations::make_first_named(call, &settings.organization).await?;
    let change = Change::CreateSubscription { id, settings: Box::new(settings), secret, status, idempotency };
    match call.change(change).await? {
        Changed::Subscription { subscription, replayed } => Ok(Made { subscription, replayed }),
        _ => Err(Problem::new(Code::Internal)),
    }
}

/// What the same request made before. A caller that does not reach the organization
/// is not told of it.
pub(super) async fn made_before(
    call: &Call,
    organization: &Name,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Arc<Subscription>>, Problem> {
    let Some((key, content)) = idempotency.filter(|_| call.reaches(organization)) else { return Ok(None) };
    let (organization, key) = (organization.clone(), key.clone());
    let Some((id, first)) = call.read(move |store| store.created_by(&organization, &key)).await? else {
        return Ok(None);
    };
    if first != *content {
        return Err(Problem::from(ChangeError::IdempotencyConflict));
    }
    let made = call.registry().subscription(id).cloned();
    made.map(Some).ok_or_else(|| Problem::from(ChangeError::Ended))
}

/// Writes what `draft` makes of the subscription that `current` finds. `is_retried`:
/// it is made anew, should somebody else have been faster. Answers how it stands.
pub(super) async fn update(
    call: &Call,
    current: impl Fn() -> Result<Arc<Subscription>, Problem>,
    draft: impl Fn(&Subscription) -> (Draft, Refusal),
    is_retried: bool,
) -> Result<Arc<Subscription>, Problem> {
    for _ in 0..UPDATE_TRIES_MAX {
        let current = current()?;
        let (draft, refusal) = draft(&current);
        check_update(call, &draft, refusal, &current)?;
        let becomes = draft.status.unwrap_or(current.status);
        let is_changed = draft.settings != current.settings || draft.secret.differs_from(&current);
        if is_changed && current.managed_by() == ManagedBy::File {
            return Err(Problem::from(ChangeError::ManagedByFile));
        }
        let secrets = match &draft.secret {
            WantedSecret::Unsaid => current.secrets.clone(),
            WantedSecret::Unsigned => Vec::new(),
            WantedSecret::Chosen(secret) => signing(call, Some(secret)),
        };
        verify_update(call, &draft.settings, &current, becomes, secrets).await?;
        let change = if is_changed {
            let status = (becomes != current.status).then(|| (becomes, by(call)));
            let (id, version) = (current.id, current.version);
            let secret = match draft.secret {
                WantedSecret::Unsaid => SecretChange::Kept,
                WantedSecret::Unsigned => SecretChange::Removed,
                WantedSecret::Chosen(secret) => SecretChange::Replaced(secret),
            };
            Change::UpdateSubscription { id, settings: Box::new(draft.settings), version, status, secret }
        } else if becomes != current.status {
            status_change(call, &current, becomes)
        } else {
            return Ok(current);
        };
        match call.state.store.change(&call.caller.name, change).await {
            Err(ChangeError::Stale) if is_retried => continue,
            changed => changed?,
        };
        return stands(call, &current);
    }
    Err(overtaken())
}

/// Enables or disables the subscription that `current` finds. Answers how it stands.
pub(super) async fn set_status(
    call: &Call,
    current: impl Fn() -> Result<Arc<Subscription>, Problem>,
    status: Status,
) -> Result<Arc<Subscription>, Problem> {
    for _ in 0..UPDATE_TRIES_MAX {
        let current = current()?;
        if current.status == status {
            return Ok(current);
        }
        if status == Status::Enabled {
            if current.settings.expires_at.is_some_and(|at| at <= call.now()) {
                return Err(Problem::from(ChangeError::Expired));
            }
            verify_update(call, &current.settings, &current, status, current.secrets.clone()).await?;
        }
        match call.state.store.change(&call.caller.name, status_change(call, &current, status)).await {
            Err(ChangeError::Stale) => continue,
            changed => changed?,
        };
        return stands(call, &current);
    }
    Err(overtaken())
}

/// Rotates a secret in: the one given, which must be of the format, or a new one.
/// The older ones stay valid for `overlap`. Answers how the subscription stands.
pub(super) async fn rotate(
    call: &Call,
    subscription: &Subscription,
    secret: Option<Secret>,
    overlap: Duration,
) -> Result<Arc<Subscription>, Problem> {
    let format = subscription.settings.format;
    let dialect = dialect::find(format);
    let secret = match secret {
        None => dialect
            .generate_secret(&random()?)
            .ok_or_else(|| Problem::new(Code::WrongState).detail(format!("the format {format} signs nothing")))?,
        Some(secret) => {
            dialect.check_secret(&secret).map_err(|message| Problem::faults(vec![Fault::new("secret", message)]))?;
            secret
        }
    };
    call.change(Change::RotateSecret { id: subscription.id, secret, overlap }).await?;
    stands(call, subscription)
}

/// The subscription as it stands now.
pub(super) fn stands(call: &Call, subscription: &Subscription) -> Result<Arc<Subscription>, Problem> {
    call.registry().subscription(subscription.id).cloned().ok_or_else(|| not_found("subscription"))
}

/// Checks the new settings of `current`, and whether the caller may.
fn check_update(call: &Call, draft: &Draft, mut refusal: Refusal, current: &Subscription) -> Result<(), Problem> {
    let expiry = draft.settings.expires_at;
    refusal.add(check_new_secret(&draft.secret, dialect::find(draft.settings.format)).into_iter().collect());
    let mut faults = check_settings(call, &draft.settings, draft.secret.is_none_after(current));
    // What it was set to was in the future then; that it has passed is no fault of this change.
    faults.retain(|fault| fault.field != "expires_at" || expiry != current.settings.expires_at);
    refusal.add(faults);
    refusal.add(check_scope(call, &draft.settings));
    refusal.into_result()?;
    let is_enabling = draft.status == Some(Status::Enabled) && !current.is_enabled();
    if is_enabling && expiry.is_some_and(|at| at <= call.now()) {
        return Err(Problem::from(ChangeError::Expired));
    }
    check_secrecy(call, &draft.settings, Some(&current.settings))
}

/// Whether the caller may have so much sent.
fn check_secrecy(call: &Call, settings: &Settings, previous: Option<&Settings>) -> Result<(), Problem> {
    let Some(role) = role_needed(settings, previous) else { return Ok(()) };
    let detail = format!("this needs a key with the role {role}, or a higher secrecy_level");
    call.require(role).map_err(|problem| problem.detail(detail))
}

/// Verifies where an update enables, or changes the URL of what is enabled.
async fn verify_update(
    call: &Call,
    settings: &Settings,
    current: &Subscription,
    becomes: Status,
    secrets: Vec<SigningSecret>,
) -> Result<(), Problem> {
    let is_new_target = !current.is_enabled() || settings.url != current.settings.url;
    let is_wanted = trial::is_wanted(call, dialect::find(settings.format));
    if becomes == Status::Enabled && is_new_target && is_wanted {
        trial::verify(call, current.id, settings, secrets).await?;
    }
    Ok(())
}

/// What is enabled is what was looked at; disabled is whatever is there.
fn status_change(call: &Call, subscription: &Subscription, status: Status) -> Change {
    let version = (status == Status::Enabled).then_some(subscription.version);
    Change::SetStatus { id: subscription.id, status, reason: StatusReason::Manual, detail: by(call), version }
}

/// Who changed a status, for people.
fn by(call: &Call) -> String {
    format!("by {}", call.caller.name)
}

fn check_settings(call: &Call, settings: &Settings, unsigned: bool) -> Vec<Fault> {
    let surroundings = Surroundings {
        now: call.now(),
        allow_http: call.state.config.current().delivery.allow_http,
        known_fields: call.registry().known_fields(&settings.events),
    };
    validate::check(settings, unsigned, &surroundings)
}

/// A new subscription's organization must be there and reached: callers that do
/// not reach it are told the same as if it were not there. `default` is made
/// when it is first needed.
fn check_organization(call: &Call, settings: &Settings) -> Vec<Fault> {
    let registry = call.registry();
    let organization = &settings.organization;
    let is_there = registry.organization(organization).is_some();
    let will_be = **organization == *DEFAULT_ORGANIZATION && call.caller.reaches_all();
    if is_there && call.caller.reaches(&registry, organization) || will_be {
        return Vec::new();
    }
    vec![Fault::new("organization", "names an organization that does not exist")]
}

/// Every source of the scope must be of the subscription's own organization. The
/// store asks again when it is committed.
fn check_scope(call: &Call, settings: &Settings) -> Vec<Fault> {
    let Scope::Sources(sources) = &settings.scope else { return Vec::new() };
    let registry = call.registry();
    let is_own = |id: &Name| registry.source(id).is_some_and(|source| source.organization == settings.organization);
    let foreign = sources.iter().enumerate().filter(|(_, id)| !is_own(id));
    let message = "names a source that is not of the subscription's organization";
    foreign.map(|(index, _)| Fault::new(format!("scope[{index}]"), message)).collect()
}

fn signing(call: &Call, secret: Option<&Secret>) -> Vec<SigningSecret> {
    let created_at = call.now();
    secret.cloned().map(|secret| SigningSecret { secret, created_at, valid_until: None }).into_iter().collect()
}

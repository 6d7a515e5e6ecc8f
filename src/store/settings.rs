//! The stored forms of what is configured, as JSON: such rows are few and live
//! long, so that fields with defaults may be added to them without a new version.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::id::{Lane, SubscriptionId};
use crate::json::Json;
use crate::limits::IDEMPOTENCY_WINDOW;
use crate::model::{
    Authentication, Condition, ContentType, Declaration, DeliveryOverrides, EventType, FixedTarget, Format, ManagedBy,
    Method, Name, Operator, Ordering, Organization, RetryOverrides, Scope, Settings, SigningSecret, Source, Status,
    StatusReason, Subscription, TlsSettings,
};
use crate::pattern::Pattern;
use crate::seal::Keyring;
use crate::secret::{MASK, Secret};
use crate::time::Timestamp;

use super::StoreError;
use super::sealed::{self, Sealer};

fn write(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|_| StoreError::Record("cannot be written"))
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| StoreError::Record("cannot be read"))
}

/// Reads one of a set of names.
fn named<T>(name: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    from_name(name).ok_or(StoreError::Record("has a name that this program does not know"))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn managed_by(is_declared: bool) -> ManagedBy {
    if is_declared { ManagedBy::File } else { ManagedBy::Api }
}

#[derive(Serialize, Deserialize)]
struct OrganizationRecord {
    name: String,
    parent: Option<String>,
    bytes_max: Option<u64>,
    #[serde(default)]
    declared: bool,
    created_at_ms: u64,
    updated_at_ms: u64,
}

pub(super) fn write_organization(it: &Organization) -> Result<Vec<u8>, StoreError> {
    write(&OrganizationRecord {
        name: it.name.clone(),
        parent: it.parent.as_deref().map(str::to_owned),
        bytes_max: it.bytes_max,
        declared: it.managed_by == ManagedBy::File,
        created_at_ms: it.created_at.as_millis(),
        updated_at_ms: it.updated_at.as_millis(),
    })
}

pub(super) fn read_organization(id: &str, bytes: &[u8]) -> Result<Organization, StoreError> {
    let record: OrganizationRecord = read(bytes)?;
    Ok(Organization {
        id: Name::from(id),
        name: record.name,
        parent: record.parent.map(Name::from),
        bytes_max: record.bytes_max,
        managed_by: managed_by(record.declared),
        created_at: at(record.created_at_ms),
        updated_at: at(record.updated_at_ms),
    })
}

#[derive(Serialize, Deserialize)]
struct SourceRecord {
    name: String,
    organization: String,
    #[serde(default)]
    declared: bool,
    created_at_ms: u64,
    updated_at_ms: u64,
}

pub(super) fn write_source(it: &Source) -> Result<Vec<u8>, StoreError> {
    write(&SourceRecord {
        name: it.name.clone(),
        organization: it.organization.to_string(),
        declared: it.managed_by == ManagedBy::File,
        created_at_ms: it.created_at.as_millis(),
        updated_at_ms: it.updated_at.as_millis(),
    })
}

pub(super) fn read_source(id: &str, bytes: &[u8]) -> Result<Source, StoreError> {
    let record: SourceRecord = read(bytes)?;
    Ok(Source {
        id: Name::from(id),
        name: record.name,
        organization: Name::from(record.organization),
        managed_by: managed_by(record.declared),
        created_at: at(record.created_at_ms),
        updated_at: at(record.updated_at_ms),
    })
}

#[derive(Serialize, Deserialize)]
struct EventTypeRecord {
    description: String,
    category: String,
    example: String,
    fields: Option<Vec<String>>,
    #[serde(default)]
    declared: bool,
    created_at_ms: u64,
    updated_at_ms: u64,
}

pub(super) fn write_event_type(it: &EventType) -> Result<Vec<u8>, StoreError> {
    write(&EventTypeRecord {
        description: it.description.clone(),
        category: it.category.clone(),
        example: String::from_utf8_lossy(it.example.as_bytes()).into_owned(),
        fields: it.fields.clone(),
        declared: it.managed_by == ManagedBy::File,
        created_at_ms: it.created_at.as_millis(),
        updated_at_ms: it.updated_at.as_millis(),
    })
}

pub(super) fn read_event_type(name: &str, bytes: &[u8]) -> Result<EventType, StoreError> {
    let record: EventTypeRecord = read(bytes)?;
    Ok(EventType {
        name: Name::from(name),
        description: record.description,
        category: record.category,
        example: Json::parse(record.example.into()).map_err(|_| StoreError::Record("cannot be read"))?,
        fields: record.fields,
        format: None,
        built_in: false,
        managed_by: managed_by(record.declared),
        created_at: at(record.created_at_ms),
        updated_at: at(record.updated_at_ms),
    })
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRecord {
    id: Uuid,
    #[serde(flatten)]
    settings: SettingsRecord,
    secrets: Vec<SecretRecord>,
    status: String,
    status_reason: Option<(String, u64, String)>,
    version: u64,
    created_at_ms: u64,
    updated_at_ms: u64,
    created_by: String,
    managed_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<DeclarationRecord>,
}

#[derive(Serialize, Deserialize)]
struct DeclarationRecord {
    key: String,
    owns_secret: bool,
}

#[derive(Serialize, Deserialize)]
struct SecretRecord {
    secret: String,
    created_at_ms: u64,
    valid_until_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct SettingsRecord {
    organization: String,
    name: String,
    description: String,
    external_id: Option<String>,
    metadata: Map<String, Value>,
    url: String,
    method: String,
    content_type: String,
    body: Option<String>,
    form: Option<Vec<(String, String)>>,
    query: Option<Vec<(String, String)>>,
    headers: Vec<(String, String)>,
    authentication: AuthenticationRecord,
    format: String,
    events: Vec<String>,
    scope: ScopeRecord,
    filter: Vec<ConditionRecord>,
    secrecy_level: u8,
    failure_limit: Option<u32>,
    notify: Vec<String>,
    expires_at_ms: Option<u64>,
    tls: TlsRecord,
    delivery: DeliveryRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum AuthenticationRecord {
    None,
    Basic {
        user: String,
        password: String,
    },
    Bearer {
        token: String,
    },
    OAuth2 {
        token_url: String,
        client_id: String,
        client_secret: String,
        scope: Option<String>,
        audience: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScopeRecord {
    Own,
    Recursive,
    Sources(Vec<String>),
}

#[derive(Serialize, Deserialize)]
struct ConditionRecord {
    path: String,
    op: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
struct TlsRecord {
    verify: bool,
    ca_pem: Option<String>,
    client_cert_pem: Option<String>,
    client_key_pem: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct DeliveryRecord {
    timeout_ms: Option<u64>,
    concurrency: Option<u32>,
    rate_per_second: Option<f64>,
    retry_first_ms: Option<u64>,
    retry_factor: Option<f64>,
    retry_max_delay_ms: Option<u64>,
    retry_jitter: Option<f64>,
    retry_give_up_after_ms: Option<u64>,
    retry_transient_only: Option<bool>,
    #[serde(default)]
    ordering: Option<String>,
}

fn millis(span: Option<Duration>) -> Option<u64> {
    span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn settings_record(it: &Settings) -> SettingsRecord {
    SettingsRecord {
        organization: it.organization.to_string(),
        name: it.name.clone(),
        description: it.description.clone(),
        external_id: it.external_id.clone(),
        metadata: it.metadata.clone(),
        url: it.url.clone(),
        method: it.method.as_str().to_owned(),
        content_type: it.content_type.as_str().to_owned(),
        body: it.body.clone(),
        form: it.form.clone(),
        query: it.query.clone(),
        headers: it.headers.clone(),
        authentication: authentication_record(&it.authentication),
        format: it.format.as_str().to_owned(),
        events: it.events.iter().map(Pattern::to_string).collect(),
        scope: match &it.scope {
            Scope::Own => ScopeRecord::Own,
            Scope::Recursive => ScopeRecord::Recursive,
            Scope::Sources(sources) => ScopeRecord::Sources(sources.iter().map(|id| id.to_string()).collect()),
        },
        filter: it.filter.iter().map(condition_record).collect(),
        secrecy_level: it.secrecy_level,
        failure_limit: it.failure_limit,
        notify: it.notify.clone(),
        expires_at_ms: it.expires_at.map(Timestamp::as_millis),
        tls: TlsRecord {
            verify: it.tls.verify,
            ca_pem: it.tls.ca_pem.clone(),
            client_cert_pem: it.tls.client_cert_pem.clone(),
            client_key_pem: it.tls.client_key_pem.as_ref().map(|key| key.expose().to_owned()),
        },
        delivery: DeliveryRecord {
            timeout_ms: millis(it.delivery.timeout),
            concurrency: it.delivery.concurrency,
            rate_per_second: it.delivery.rate_per_second,
            retry_first_ms: millis(it.delivery.retry.first),
            retry_factor: it.delivery.retry.factor,
            retry_max_delay_ms: millis(it.delivery.retry.max_delay),
            retry_jitter: it.delivery.retry.jitter,
            retry_give_up_after_ms: millis(it.delivery.retry.give_up_after),
            retry_transient_only: it.delivery.retry.transient_only,
            ordering: it.delivery.ordering.map(|ordering| ordering.as_str().to_owned()),
        },
    }
}

fn condition_record(condition: &Condition) -> ConditionRecord {
    ConditionRecord {
        path: condition.path.clone(),
        op: condition.op.as_str().to_owned(),
        value: condition.value.clone(),
    }
}

fn authentication_record(it: &Authentication) -> AuthenticationRecord {
    match it {
        Authentication::None => AuthenticationRecord::None,
        Authentication::Basic { user, password } => {
            AuthenticationRecord::Basic { user: user.clone(), password: password.expose().to_owned() }
        }
        Authentication::Bearer { token } => AuthenticationRecord::Bearer { token: token.expose().to_owned() },
        Authentication::OAuth2 { token_url, client_id, client_secret, scope, audience } => {
            AuthenticationRecord::OAuth2 {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                client_secret: client_secret.expose().to_owned(),
                scope: scope.clone(),
                audience: audience.clone(),
            }
        }
    }
}

impl SettingsRecord {
    fn into_settings(self) -> Result<Settings, StoreError> {
        let pattern = |text: &String| Pattern::parse(text).map_err(|_| StoreError::Record("has a bad pattern"));
        let condition = |record: ConditionRecord| -> Result<Condition, StoreError> {
            let op = named(&record.op, Operator::from_name)?;
            Ok(Condition { path: record.path, op, value: record.value })
        };
        Ok(Settings {
            organization: Name::from(self.organization),
            name: self.name,
            description: self.description,
            external_id: self.external_id,
            metadata: self.metadata,
            url: self.url,
            method: named(&self.method, Method::from_name)?,
            content_type: named(&self.content_type, ContentType::from_name)?,
            body: self.body,
            form: self.form,
            query: self.query,
            headers: self.headers,
            authentication: match self.authentication {
                AuthenticationRecord::None => Authentication::None,
                AuthenticationRecord::Basic { user, password } => {
                    Authentication::Basic { user, password: Secret::new(password) }
                }
                AuthenticationRecord::Bearer { token } => Authentication::Bearer { token: Secret::new(token) },
                AuthenticationRecord::OAuth2 { token_url, client_id, client_secret, scope, audience } => {
                    let client_secret = Secret::new(client_secret);
                    Authentication::OAuth2 { token_url, client_id, client_secret, scope, audience }
                }
            },
            format: named(&self.format, Format::from_name)?,
            events: self.events.iter().map(pattern).collect::<Result<_, _>>()?,
            scope: match self.scope {
                ScopeRecord::Own => Scope::Own,
                ScopeRecord::Recursive => Scope::Recursive,
                ScopeRecord::Sources(sources) => Scope::Sources(sources.into_iter().map(Name::from).collect()),
            },
            filter: self.filter.into_iter().map(condition).collect::<Result<_, _>>()?,
            secrecy_level: self.secrecy_level,
            failure_limit: self.failure_limit,
            notify: self.notify,
            expires_at: self.expires_at_ms.map(at),
            tls: TlsSettings {
                verify: self.tls.verify,
                ca_pem: self.tls.ca_pem,
                client_cert_pem: self.tls.client_cert_pem,
                client_key_pem: self.tls.client_key_pem.map(Secret::new),
            },
            delivery: DeliveryOverrides {
                timeout: self.delivery.timeout_ms.map(Duration::from_millis),
                concurrency: self.delivery.concurrency,
                rate_per_second: self.delivery.rate_per_second,
                retry: RetryOverrides {
                    first: self.delivery.retry_first_ms.map(Duration::from_millis),
                    factor: self.delivery.retry_factor,
                    max_delay: self.delivery.retry_max_delay_ms.map(Duration::from_millis),
                    jitter: self.delivery.retry_jitter,
                    give_up_after: self.delivery.retry_give_up_after_ms.map(Duration::from_millis),
                    transient_only: self.delivery.retry_transient_only,
                },
                ordering: self.delivery.ordering.map(|name| named(&name, Ordering::from_name)).transpose()?,
            },
        })
    }
}

pub(super) fn write_subscription(it: &Subscription, sealer: &mut Sealer<'_>) -> Result<Vec<u8>, StoreError> {
    let reason = it.status_reason.as_ref();
    let record = Zeroizing::new(write(&SubscriptionRecord {
        id: it.id.0,
        settings: settings_record(&it.settings),
        secrets: it
            .secrets
            .iter()
            .map(|secret| SecretRecord {
                secret: secret.secret.expose().to_owned(),
                created_at_ms: secret.created_at.as_millis(),
                valid_until_ms: secret.valid_until.map(Timestamp::as_millis),
            })
            .collect(),
        status: it.status.as_str().to_owned(),
        status_reason: reason.map(|(code, at, detail)| (code.as_str().to_owned(), at.as_millis(), detail.clone())),
        version: it.version,
        created_at_ms: it.created_at.as_millis(),
        updated_at_ms: it.updated_at.as_millis(),
        created_by: it.created_by.clone(),
        managed_by: it.managed_by().as_str().to_owned(),
        declared: it
            .declared
            .as_ref()
            .map(|it| DeclarationRecord { key: it.key.to_string(), owns_secret: it.owns_secret }),
    })?);
    sealer.subscription(it.number, &record)
}

pub(super) fn read_subscription(number: Lane, row: &[u8], keyring: &Keyring) -> Result<Subscription, StoreError> {
    let record: SubscriptionRecord = read(&sealed::open_subscription(keyring, number, row)?)?;
    let status_reason = match record.status_reason {
        Some((code, at_ms, detail)) => Some((named(&code, StatusReason::from_name)?, at(at_ms), detail)),
        None => None,
    };
    Ok(Subscription {
        id: SubscriptionId(record.id),
        number,
        settings: record.settings.into_settings()?,
        secrets: record
            .secrets
            .into_iter()
            .map(|secret| SigningSecret {
                secret: Secret::new(secret.secret),
                created_at: at(secret.created_at_ms),
                valid_until: secret.valid_until_ms.map(at),
            })
            .collect(),
        status: named(&record.status, Status::from_name)?,
        status_reason,
        version: record.version,
        created_at: at(record.created_at_ms),
        updated_at: at(record.updated_at_ms),
        created_by: record.created_by,
        declared: record
            .declared
            .map(|record| Declaration { key: Name::from(record.key), owns_secret: record.owns_secret }),
        fixed_target: FixedTarget::default(),
    })
}

/// What is left of a subscription that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) id: Uuid,
    pub(super) organization: String,
}

pub(super) fn write_ended(it: &Ended) -> Result<Vec<u8>, StoreError> {
    write(it)
}

pub(super) fn read_ended(bytes: &[u8]) -> Result<Ended, StoreError> {
    read(bytes)
}

/// The settings as an object for the audit log, and the same with everything
/// masked that could be a credential.
pub(super) fn audited(settings: &Settings) -> (Map<String, Value>, Map<String, Value>) {
    let Ok(Value::Object(plain)) = serde_json::to_value(settings_record(settings)) else {
        return (Map::new(), Map::new());
    };
    let mut masked = plain.clone();
    for (object, names) in
        [("authentication", &["password", "token", "client_secret"][..]), ("tls", &["client_key_pem"][..])]
    {
        for name in names {
            if let Some(value) = masked.get_mut(object).and_then(|object| object.get_mut(*name))
                && !value.is_null()
            {
                *value = Value::from(MASK);
            }
        }
    }
    for header in masked.get_mut("headers").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(value) = header.get_mut(1) {
            *value = Value::from(MASK);
        }
    }
    (plain, masked)
}

#[derive(Serialize, Deserialize)]
struct CreationRecord {
    id: Uuid,
    content: String,
    created_at_ms: u64,
}

/// Which subscription an `Idempotency-Key` made, from what, and when.
pub(super) struct Creation {
    pub(super) id: SubscriptionId,
    pub(super) content: [u8; 32],
    pub(super) created_at: Timestamp,
}

impl Creation {
    /// Whether a repetition of its request is still known when keys are counted at `keyed_at`.
    pub(super) fn is_known(&self, keyed_at: Timestamp) -> bool {
        keyed_at < self.created_at + IDEMPOTENCY_WINDOW
    }
}

pub(super) fn write_creation(key: &[u8], it: &Creation, sealer: &mut Sealer<'_>) -> Result<Vec<u8>, StoreError> {
    let content = it.content.iter().map(|byte| format!("{byte:02x}")).collect();
    let record = write(&CreationRecord { id: it.id.0, content, created_at_ms: it.created_at.as_millis() })?;
    sealer.creation(key, &record)
}

pub(super) fn read_creation(key: &[u8], row: &[u8], keyring: &Keyring) -> Result<Creation, StoreError> {
    let record: CreationRecord = read(&sealed::open_creation(keyring, key, row)?)?;
    let mut content = [0; 32];
    for (at, byte) in content.iter_mut().enumerate() {
        let digits = record.content.get(2 * at..2 * at + 2).ok_or(StoreError::Record("cannot be read"))?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| StoreError::Record("cannot be read"))?;
    }
    Ok(Creation { id: SubscriptionId(record.id), content, created_at: at(record.created_at_ms) })
}

#[derive(Serialize, Deserialize)]
struct AuditRecord {
    at_ms: u64,
    actor: String,
    action: String,
    object: String,
    organization: Option<String>,
    changes: Value,
}

pub(super) fn write_audit(it: &super::query::AuditEntry) -> Result<Vec<u8>, StoreError> {
    write(&AuditRecord {
        at_ms: it.at.as_millis(),
        actor: it.actor.clone(),
        action: it.action.clone(),
        object: it.object.clone(),
        organization: it.organization.as_deref().map(str::to_owned),
        changes: it.changes.clone(),
    })
}

pub(super) fn read_audit(sequence: u64, bytes: &[u8]) -> Result<super::query::AuditEntry, StoreError> {
    let record: AuditRecord = read(bytes)?;
    Ok(super::query::AuditEntry {
        sequence,
        at: at(record.at_ms),
        actor: record.actor,
        action: record.action,
        object: record.object,
        organization: record.organization.map(Name::from),
        changes: record.changes,
    })
}

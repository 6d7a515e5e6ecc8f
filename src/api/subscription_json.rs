//! A subscription in the API's JSON: [`parse`] and [`show`]. **What was read can
//! be written back**: every field that is shown is either read or known to be
//! read-only, and `***` keeps the secret it stands for (see [`super::mask`]).

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::dialect::{self, Dialect};
use crate::http::{Code, Problem};
use crate::input::{Faults, Fields, kind};
use crate::limits::{CONCURRENCY_MAX, FAILURE_LIMIT_MAX, RATE_PER_SECOND_MAX};
use crate::model::validate;
use crate::model::{
    Authentication, Condition, ContentType, DEFAULT_ORGANIZATION, DeliveryOverrides, EventType, Fault, Format,
    LaneStats, Method, Name, Operator, Ordering, RetryOverrides, Scope, Settings, Status, Subscription, TlsSettings,
};
use crate::pattern::Pattern;
use crate::secret::{MASK, Secret, is_credential};
use crate::time::{Timestamp, format_duration};

use super::mask::is_same_endpoint;
use super::values::{id_field, required};

/// Fields that are shown and not read.
pub(super) const READ_ONLY: &[&str] = &[
    "id",
    "number",
    "status_reason",
    "stats",
    "created_at",
    "updated_at",
    "created_by",
    "managed_by",
    "declared_as",
    "certificate_expires_at",
];

/// What a body says of its subscription.
pub(super) struct Draft {
    pub(super) settings: Settings,
    pub(super) secret: WantedSecret,
    /// None: as it is, or enabled where it is new.
    pub(super) status: Option<Status>,
}

/// What a body says of the signing secret.
pub(super) enum WantedSecret {
    /// Nothing, or the mask: as it is, or generated where it is new.
    Unsaid,
    /// `null`: requests are not signed.
    Unsigned,
    /// This one, at once.
    Chosen(Secret),
}

impl WantedSecret {
    /// Whether it changes what `current` signs with.
    pub(super) fn differs_from(&self, current: &Subscription) -> bool {
        match self {
            WantedSecret::Unsaid => false,
            WantedSecret::Unsigned => !current.secrets.is_empty(),
            WantedSecret::Chosen(_) => true,
        }
    }

    /// Whether `current` has none once this is done.
    pub(super) fn is_none_after(&self, current: &Subscription) -> bool {
        match self {
            WantedSecret::Unsaid => current.secrets.is_empty(),
            WantedSecret::Unsigned => true,
            WantedSecret::Chosen(_) => false,
        }
    }
}

/// The faults of a body. Secrets that must be given anew are told apart, because
/// they have a code of their own.
#[derive(Default)]
pub(super) struct Refusal {
    faults: Vec<Fault>,
    secrets: Vec<Fault>,
}

impl Refusal {
    /// With the faults of a body, and with the secrets that must be given anew.
    pub(super) fn new(faults: Vec<Fault>, secrets: Vec<Fault>) -> Refusal {
        Refusal { faults, secrets }
    }

    /// Adds faults that were found later, but those of a field (or a part of it, or
    /// what it is a part of) that has one already: they only follow from it.
    pub(super) fn add(&mut self, later: Vec<Fault>) {
        for fault in later {
            let is_told = self.faults.iter().chain(&self.secrets).any(|told| overlap(&told.field, &fault.field));
            if !is_told {
                self.faults.push(fault);
            }
        }
    }

    /// The same for everything that a later look at the body refuses.
    pub(super) fn add_all(&mut self, later: Refusal) {
        self.add(later.faults);
        let is_told = |fault: &Fault| self.faults.iter().any(|told| overlap(&told.field, &fault.field));
        let secrets: Vec<Fault> = later.secrets.into_iter().filter(|fault| !is_told(fault)).collect();
        self.secrets.extend(secrets);
    }

    /// All of them, where there is one.
    pub(super) fn into_faults(self) -> Result<(), Vec<Fault>> {
        let faults = [self.faults, self.secrets].concat();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Refuses, where there is a fault.
    pub(super) fn into_result(self) -> Result<(), Problem> {
        if self.faults.is_empty() && self.secrets.is_empty() {
            return Ok(());
        }
        let code = if self.faults.is_empty() { Code::SecretRequired } else { Code::ValidationFailed };
        Err(Problem::new(code).errors([self.faults, self.secrets].concat()))
    }
}

/// Whether one field is the other, or a part of it.
fn overlap(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads a whole subscription. `previous` is what it is written over. What the
/// settings themselves must be is for [`crate::model::validate::check`] to say.
pub(super) fn parse(body: &Map<String, Value>, previous: Option<&Subscription>) -> (Draft, Refusal) {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    fields.ignore(READ_ONLY);
    let format = fields.one_of("format", &Format::names(), Format::from_name).unwrap_or(Format::Standard);
    let url = required(&fields, "url", fields.string("url")).unwrap_or_default().to_owned();
    let mut keeper = Keeper::new(previous.map(|previous| &previous.settings), &url);
    let headers = read_headers(&fields, &mut keeper);
    let authentication = read_authentication(&fields, &mut keeper);
    let tls = read_tls(&fields, &mut keeper);
    let refused = keeper.into_refused();
    let settings = Settings {
        organization: read_organization(&fields, previous),
        name: fields.string("name").unwrap_or_default().to_owned(),
        description: fields.string("description").unwrap_or_default().to_owned(),
        external_id: fields.string("external_id").map(str::to_owned),
        metadata: fields.map("metadata").cloned().unwrap_or_default(),
        method: fields.one_of("method", &Method::names(), Method::from_name).unwrap_or(Method::Post),
        content_type: fields
            .one_of("content_type", &ContentType::names(), ContentType::from_name)
            .unwrap_or(ContentType::Json),
        body: fields.string("body").map(str::to_owned),
        form: fields.string_map("form"),
        query: fields.string_map("query"),
        headers,
        authentication,
        format,
        events: read_events(&fields),
        scope: read_scope(&fields),
        filter: read_filter(&fields),
        secrecy_level: fields
            .integer("secrecy_level", 0..=2)
            .and_then(|level| u8::try_from(level).ok())
            .unwrap_or_else(|| default_secrecy_level(format)),
        failure_limit: whole(&fields, "failure_limit", FAILURE_LIMIT_MAX),
        notify: read_notify(&fields),
        expires_at: fields.timestamp("expires_at"),
        tls,
        delivery: read_delivery(&fields),
        url,
    };
    check_format(&fields, format, previous);
    let secret = read_secret(&fields, previous);
    let status = read_status(&fields, previous);
    fields.finish();
    (Draft { settings, secret, status }, Refusal { faults: faults.into_vec(), secrets: refused })
}

/// The secrecy level of who says none.
pub(super) fn default_secrecy_level(format: Format) -> u8 {
    match format {
        Format::Pdk => 1,
        Format::Standard | Format::Peridio | Format::Blynk | Format::Ferriskey | Format::Cloudevents => 0,
    }
}

/// The role that writing `settings` needs beside `manage`, where it needs one: a level
/// below the stored one, or a new one's default, shows more than before. So does a
/// subscription in whatever format that comes to be sent a vendor's events with the
/// credentials that the vendor's own format leaves out.
pub(super) fn role_needed(settings: &Settings, previous: Option<&Settings>) -> Option<Role> {
    let usual = previous.map_or_else(|| default_secrecy_level(settings.format), |previous| previous.secrecy_level);
    let is_lower = settings.secrecy_level < usual;
    let is_new = |named: &&EventType| {
        shows_credentials(settings, named) && !previous.is_some_and(|previous| shows_credentials(previous, named))
    };
    (is_lower || dialect::catalog().iter().any(|named| is_new(&named))).then_some(Role::Secrets)
}

/// Whether credentials in events of that type are sent, which their vendor's format leaves out.
fn shows_credentials(settings: &Settings, event_type: &EventType) -> bool {
    settings.secrecy_level < event_type.format.map_or(0, default_secrecy_level)
        && settings.events.iter().any(|pattern| pattern.matches(&event_type.name))
}

/// Puts stored secrets in the place of `***`, where they may stay.
pub(super) struct Keeper<'a> {
    previous: Option<&'a Settings>,
    url: &'a str,
    refused: Vec<Fault>,
}

impl<'a> Keeper<'a> {
    /// For what is written over `previous`, and is to be sent to `url`.
    pub(super) fn new(previous: Option<&'a Settings>, url: &'a str) -> Keeper<'a> {
        Keeper { previous, url, refused: Vec::new() }
    }

    /// Secrets that must be given anew.
    pub(super) fn into_refused(self) -> Vec<Fault> {
        self.refused
    }

    /// `text`, or what is `stored` where it is the mask and whom it is sent to stays.
    fn keep(&mut self, path: String, text: &str, stored: Option<&Secret>, stays: bool) -> Secret {
        if text != MASK {
            return Secret::new(text.to_owned());
        }
        match stored {
            Some(secret) if stays => secret.clone(),
            Some(_) => {
                let message = "must be given anew, because it would be sent to another scheme, host or port";
                self.refused.push(Fault::new(path, message));
                Secret::new(String::new())
            }
            None => {
                self.refused.push(Fault::new(path, "must be given, because none is stored for \"***\" to stand for"));
                Secret::new(String::new())
            }
        }
    }

    /// The same for what is sent to the subscription's URL.
    pub(super) fn keep_for_url(&mut self, path: String, text: &str, stored: Option<&Secret>) -> Secret {
        let stays = self.url_stays();
        self.keep(path, text, stored, stays)
    }

    fn url_stays(&self) -> bool {
        self.previous.is_some_and(|previous| is_same_endpoint(&previous.url, self.url))
    }
}

fn read_organization(fields: &Fields<'_>, previous: Option<&Subscription>) -> Name {
    let given = id_field(fields, "organization");
    match (previous, given) {
        (Some(previous), Some(given)) if *previous.settings.organization != *given => {
            fields.fault("organization", "cannot be changed: make another subscription");
            previous.settings.organization.clone()
        }
        (Some(previous), _) => previous.settings.organization.clone(),
        (None, given) => Name::from(given.as_deref().unwrap_or(DEFAULT_ORGANIZATION)),
    }
}

fn read_headers(fields: &Fields<'_>, keeper: &mut Keeper<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in fields.string_map("headers").unwrap_or_default() {
        let path = format!("headers.{name}");
        if headers.iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(&name)) {
            fields.fault(&path, "is given twice: upper and lower case are the same in names of headers");
            continue;
        }
        let stored = keeper.previous.and_then(|previous| {
            previous.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)).map(|(_, value)| value)
        });
        // The mask stands for what a read masks, by its name or by what is stored.
        let value = if is_credential(&name, stored.map_or("", String::as_str)) {
            let stored = stored.map(|value| Secret::new(value.clone()));
            keeper.keep_for_url(path, &value, stored.as_ref()).expose().to_owned()
        } else {
            value
        };
        headers.push((name, value));
    }
    headers
}

fn read_authentication(fields: &Fields<'_>, keeper: &mut Keeper<'_>) -> Authentication {
    let Some(inner) = fields.object("authentication") else { return Authentication::None };
    let text = |name| required(&inner, name, inner.string(name)).unwrap_or_default().to_owned();
    let stored = keeper.previous.map(|previous| &previous.authentication);
    let authentication = match required(&inner, "type", inner.string("type")) {
        None | Some("none") => Authentication::None,
        Some("basic") => {
            let stored = stored.and_then(|stored| match stored {
                Authentication::Basic { password, .. } => Some(password),
                _ => None,
            });
            let password = keeper.keep_for_url(inner.path("password"), &text("password"), stored);
            Authentication::Basic { user: text("user"), password }
        }
        Some("bearer") => {
            let stored = stored.and_then(|stored| match stored {
                Authentication::Bearer { token } => Some(token),
                _ => None,
            });
            Authentication::Bearer { token: keeper.keep_for_url(inner.path("token"), &text("token"), stored) }
        }
        Some("oauth2") => {
            let token_url = text("token_url");
            let stored = stored.and_then(|stored| match stored {
                Authentication::OAuth2 { token_url: stored_for, client_secret, .. } => {
                    Some((client_secret, is_same_endpoint(stored_for, &token_url)))
                }
                _ => None,
            });
            // It is sent to the one, and what it buys to the other.
            let stays = stored.is_some_and(|(_, stays)| stays) && keeper.url_stays();
            let stored = stored.map(|(secret, _)| secret);
            let client_secret = keeper.keep(inner.path("client_secret"), &text("client_secret"), stored, stays);
            Authentication::OAuth2 {
                client_id: text("client_id"),
                client_secret,
                scope: inner.string("scope").map(str::to_owned),
                audience: inner.string("audience").map(str::to_owned),
                token_url,
            }
        }
        Some(_) => {
            inner.fault("type", "must be one of none, basic, bearer, oauth2");
            inner.ignore(&[
                "user",
                "password",
                "token",
                "token_url",
                "client_id",
                "client_secret",
                "scope",
                "audience",
            ]);
            Authentication::None
        }
    };
    inner.finish();
    authentication
}

fn read_tls(fields: &Fields<'_>, keeper: &mut Keeper<'_>) -> TlsSettings {
    let Some(inner) = fields.object("tls") else { return TlsSettings::default() };
    let stored = keeper.previous.and_then(|previous| previous.tls.client_key_pem.as_ref());
    let key = inner.string("client_key_pem");
    let tls = TlsSettings {
        verify: inner.bool("verify").unwrap_or(true),
        ca_pem: inner.string("ca_pem").map(str::to_owned),
        client_cert_pem: inner.string("client_cert_pem").map(str::to_owned),
        client_key_pem: key.map(|text| keeper.keep_for_url(inner.path("client_key_pem"), text, stored)),
    };
    inner.finish();
    tls
}

// Where an item of a list is at fault, something that is no such item takes its
// place: what is told of the others later is told by their own index.

fn read_notify(fields: &Fields<'_>) -> Vec<String> {
    let users = fields.strings("notify").unwrap_or_default();
    users.into_iter().map(|user| user.unwrap_or_default().to_owned()).collect()
}

fn read_events(fields: &Fields<'_>) -> Vec<Pattern> {
    let texts = required(fields, "events", fields.strings("events")).unwrap_or_default();
    let mut patterns = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let pattern = text.and_then(|text| match Pattern::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                fields.fault(&format!("events[{index}]"), error.to_string());
                None
            }
        });
        patterns.push(pattern.unwrap_or_else(|| Pattern::Exact(Name::from(""))));
    }
    patterns
}

fn read_scope(fields: &Fields<'_>) -> Scope {
    const RULE: &str = "must be \"own\", \"recursive\" or a list of source ids";
    match fields.raw("scope") {
        None | Some(Value::Null) => Scope::Own,
        Some(Value::String(text)) if text == "own" => Scope::Own,
        Some(Value::String(text)) if text == "recursive" => Scope::Recursive,
        Some(Value::Array(items)) => {
            let mut sources = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                if !item.is_string() {
                    fields.fault(&format!("scope[{index}]"), format!("must be a string, not {}", kind(item)));
                }
                sources.push(Name::from(item.as_str().unwrap_or_default()));
            }
            Scope::Sources(sources)
        }
        Some(_) => {
            fields.fault("scope", RULE);
            Scope::Own
        }
    }
}

fn read_filter(fields: &Fields<'_>) -> Vec<Condition> {
    let conditions = fields.objects("filter").unwrap_or_default();
    conditions.into_iter().map(|inner| inner.map_or_else(no_condition, read_condition)).collect()
}

fn no_condition() -> Condition {
    Condition { path: String::new(), op: Operator::Exists, value: Value::Bool(true) }
}

fn read_condition(inner: Fields<'_>) -> Condition {
    let path = required(&inner, "path", inner.string("path"));
    let op = required(&inner, "op", inner.one_of("op", &Operator::names(), Operator::from_name));
    let value = inner.raw("value");
    if value.is_none() {
        inner.fault("value", "is required");
    }
    inner.finish();
    let mut condition = no_condition();
    if let Some(path) = path {
        condition.path = path.to_owned();
    }
    if let (Some(op), Some(value)) = (op, value) {
        (condition.op, condition.value) = (op, value.clone());
    }
    condition
}

fn read_delivery(fields: &Fields<'_>) -> DeliveryOverrides {
    let Some(inner) = fields.object("delivery") else { return DeliveryOverrides::default() };
    let delivery = DeliveryOverrides {
        timeout: inner.duration("timeout", validate::TIMEOUT),
        concurrency: whole(&inner, "concurrency", CONCURRENCY_MAX),
        rate_per_second: inner.number("rate_per_second", 0.0..=RATE_PER_SECOND_MAX),
        retry: inner.object("retry").map_or_else(RetryOverrides::default, |retry| {
            let overrides = RetryOverrides {
                first: retry.duration("first", validate::RETRY_FIRST),
                factor: retry.number("factor", validate::RETRY_FACTOR),
                max_delay: retry.duration("max_delay", Duration::ZERO..=validate::RETRY_DELAY_MAX),
                jitter: retry.number("jitter", validate::RETRY_JITTER),
                give_up_after: retry.duration("give_up_after", validate::RETRY_GIVE_UP_AFTER),
                transient_only: retry.one_of("on", "any, transient", |name| match name {
                    "any" => Some(false),
                    "transient" => Some(true),
                    _ => None,
                }),
            };
            retry.finish();
            overrides
        }),
        ordering: inner.one_of("ordering", &Ordering::names(), Ordering::from_name),
    };
    inner.finish();
    delivery
}

/// A whole number from 1 to `max`.
fn whole(fields: &Fields<'_>, name: &'static str, max: u32) -> Option<u32> {
    fields.integer(name, 1..=u64::from(max)).and_then(|number| u32::try_from(number).ok())
}

/// A format must take the secrets that are there.
fn check_format(fields: &Fields<'_>, format: Format, previous: Option<&Subscription>) {
    let dialect = dialect::find(format);
    let Some(previous) = previous.filter(|previous| previous.settings.format != format) else { return };
    if previous.secrets.is_empty() && !dialect.allows_unsigned() {
        fields.fault("format", format!("cannot become {format}, because there is no secret: rotate in one first"));
    }
    if previous.secrets.iter().any(|held| dialect.check_secret(&held.secret).is_err()) {
        fields.fault("format", format!("cannot become {format}, because its secret is none of that format"));
    }
}

fn read_secret(fields: &Fields<'_>, previous: Option<&Subscription>) -> WantedSecret {
    if fields.is_null("secret") {
        if previous.is_some_and(|previous| !previous.secrets.is_empty()) {
            fields.fault("secret", "cannot be taken away by an update");
        }
        return WantedSecret::Unsigned;
    }
    let Some(text) = fields.string("secret") else { return WantedSecret::Unsaid };
    let wanted = Secret::new(text.to_owned());
    let Some(previous) = previous else { return WantedSecret::Chosen(wanted) };
    let is_kept = previous.secrets.last().is_some_and(|current| wanted.is_mask() || current.secret == wanted);
    if !is_kept {
        fields.fault("secret", "cannot be changed by an update: use POST /v1/subscriptions/{id}/secret/rotate");
    }
    WantedSecret::Unsaid
}

/// What is wrong with a new subscription's secret under its format.
pub(super) fn check_new_secret(secret: &WantedSecret, dialect: &dyn Dialect) -> Option<Fault> {
    match secret {
        WantedSecret::Unsaid => None,
        WantedSecret::Unsigned if dialect.allows_unsigned() => None,
        WantedSecret::Unsigned => Some(Fault::new("secret", format!("may not be null with {}", dialect.format()))),
        WantedSecret::Chosen(secret) if secret.is_mask() => {
            Some(Fault::new("secret", "must be given, or left out to have one generated"))
        }
        WantedSecret::Chosen(secret) => dialect.check_secret(secret).err().map(|message| Fault::new("secret", message)),
    }
}

fn read_status(fields: &Fields<'_>, previous: Option<&Subscription>) -> Option<Status> {
    let status = fields.one_of("status", "enabled, disabled", Status::from_name)?;
    let is_unchanged = previous.is_some_and(|previous| previous.status == status);
    if status == Status::DisabledDueToErrors && !is_unchanged {
        fields.fault("status", "must be one of enabled, disabled");
        return None;
    }
    Some(status)
}

/// The subscription as reads show it, secrets masked; with until when its receiver's
/// certificate is valid, where one was seen.
pub(super) fn show(subscription: &Subscription, stats: &LaneStats, certificate_expires_at: Option<Timestamp>) -> Value {
    let settings = &subscription.settings;
    let span = |span: Option<Duration>| span.map(format_duration);
    let retry = &settings.delivery.retry;
    json!({
        "id": subscription.id.to_string(),
        "number": subscription.number.0,
        "organization": settings.organization.as_ref(),
        "name": settings.name,
        "description": settings.description,
        "external_id": settings.external_id,
        "metadata": settings.metadata,
        "url": settings.url,
        "method": settings.method.as_str(),
        "content_type": settings.content_type.as_str(),
        "body": settings.body,
        "form": settings.form.as_deref().map(show_map),
        "query": settings.query.as_deref().map(show_map),
        "headers": settings.headers.iter().map(show_header).collect::<Map<String, Value>>(),
        "authentication": show_authentication(&settings.authentication),
        "format": settings.format.as_str(),
        "events": settings.events.iter().map(Pattern::to_string).collect::<Vec<String>>(),
        "scope": show_scope(&settings.scope),
        "filter": settings.filter.iter().map(show_condition).collect::<Vec<Value>>(),
        "secrecy_level": settings.secrecy_level,
        "secret": (!subscription.secrets.is_empty()).then_some(MASK),
        "status": subscription.status.as_str(),
        "status_reason": subscription.status_reason.as_ref().map(|(code, at, detail)| {
            json!({"code": code.as_str(), "at": at.to_string(), "detail": detail})
        }),
        "failure_limit": settings.failure_limit,
        "notify": settings.notify,
        "expires_at": settings.expires_at.map(|at| at.to_string()),
        "tls": {
            "verify": settings.tls.verify,
            "ca_pem": settings.tls.ca_pem,
            "client_cert_pem": settings.tls.client_cert_pem,
            "client_key_pem": settings.tls.client_key_pem.as_ref().map(|_| MASK),
        },
        "delivery": {
            "timeout": span(settings.delivery.timeout),
            "concurrency": settings.delivery.concurrency,
            "rate_per_second": settings.delivery.rate_per_second,
            "retry": {
                "on": retry.transient_only.map(|transient| if transient { "transient" } else { "any" }),
                "first": span(retry.first),
                "factor": retry.factor,
                "max_delay": span(retry.max_delay),
                "jitter": retry.jitter,
                "give_up_after": span(retry.give_up_after),
            },
            "ordering": settings.delivery.ordering.map(Ordering::as_str),
        },
        "stats": show_stats(stats),
        "certificate_expires_at": certificate_expires_at.map(|at| at.to_string()),
        "created_at": subscription.created_at.to_string(),
        "updated_at": subscription.updated_at.to_string(),
        "created_by": subscription.created_by,
        "managed_by": subscription.managed_by().as_str(),
        "declared_as": subscription.declared.as_ref().map(|declared| declared.key.as_ref()),
    })
}

fn show_map(entries: &[(String, String)]) -> Map<String, Value> {
    entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

fn show_header((name, value): &(String, String)) -> (String, Value) {
    (name.clone(), json!(if is_credential(name, value) { MASK } else { value }))
}

fn show_authentication(authentication: &Authentication) -> Value {
    let name = authentication.type_name();
    match authentication {
        Authentication::None => json!({"type": name}),
        Authentication::Basic { user, .. } => json!({"type": name, "user": user, "password": MASK}),
        Authentication::Bearer { .. } => json!({"type": name, "token": MASK}),
        Authentication::OAuth2 { token_url, client_id, scope, audience, .. } => json!({
            "type": name,
            "token_url": token_url,
            "client_id": client_id,
            "client_secret": MASK,
            "scope": scope,
            "audience": audience,
        }),
    }
}

fn show_scope(scope: &Scope) -> Value {
    match scope {
        Scope::Own => json!("own"),
        Scope::Recursive => json!("recursive"),
        Scope::Sources(sources) => sources.iter().map(|source| Value::from(source.as_ref())).collect(),
    }
}

fn show_condition(condition: &Condition) -> Value {
    json!({"path": condition.path, "op": condition.op.as_str(), "value": condition.value})
}

fn show_stats(stats: &LaneStats) -> Value {
    json!({
        "odometer": stats.odometer,
        "attempts": stats.attempts,
        "consecutive_failures": stats.consecutive_failures,
        "last_triggered_at": stats.last_triggered_at.map(|at| at.to_string()),
        "last_success_at": stats.last_success_at.map(|at| at.to_string()),
        "last_failure": stats.last_failure.map(|(at, code)| json!({"at": at.to_string(), "code": code.as_str()})),
        "pending": stats.pending,
    })
}

#[cfg(test)]
#[path = "subscription_json_tests.rs"]
pub(super) mod tests;

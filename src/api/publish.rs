//! Publishing: one event, or a batch of independent ones. **2xx is answered after
//! the store has committed, never before.**

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::auth::Caller;
use crate::http::{self, Code, Problem, Response, StatusCode};
use crate::json::{self, JsonError};
use crate::limits::{BATCH_EVENTS_MAX, EVENT_BYTES_MAX};
use crate::model::{DEFAULT_ORGANIZATION, Fault, Name, NewEvent};
use crate::registry::Registry;
use crate::store::command::Accepted;

use super::call::{Call, not_found};
use super::event_json::{Given, parse};
use super::organizations;
use super::route::is_of_type;

/// The content type of one JSON value a line.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// `POST /v1/events`
pub(super) async fn one(call: Box<Call>) -> Result<Response, Problem> {
    let key = call.header_text("idempotency-key")?;
    let given = read_alone(&call.body)?;
    let mut event = own(&call, given)?;
    event.idempotency_key = key;
    organizations::make_first_named(&call, &event.organization).await?;
    let accepted = call.state.store.accept(vec![event]).await?.into_iter().next();
    let accepted = accepted.ok_or_else(|| Problem::new(Code::Internal))??;
    Ok(http::json(status(&accepted), &show(&accepted)))
}

/// `POST /v1/events/batch`: 200, with each event's own status, in order.
pub(super) async fn batch(call: Box<Call>) -> Result<Response, Problem> {
    if call.headers.contains_key("idempotency-key") {
        let message = "names one event; give each event of a batch an event_id instead";
        return Err(Problem::faults(vec![Fault::new("idempotency-key", message)]));
    }
    let is_lines = call.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| is_of_type(value, NDJSON));
    let items = if is_lines { split_lines(&call.body)? } else { split_array(&call.body)? };
    let mut events = Vec::with_capacity(items.len());
    let mut refused = Vec::with_capacity(items.len());
    for item in items {
        match item.and_then(read).and_then(|given| own(&call, given)) {
            Ok(event) => {
                events.push(event);
                refused.push(None);
            }
            Err(problem) => refused.push(Some(problem)),
        }
    }
    make_organizations(&call, &events).await?;
    let mut accepted = if events.is_empty() { Vec::new() } else { call.state.store.accept(events).await? }.into_iter();
    let mut data = Vec::with_capacity(refused.len());
    for refused in refused {
        let result = match refused {
            Some(problem) => Err(problem),
            None => match accepted.next() {
                Some(result) => result.map_err(Problem::from),
                None => return Err(Problem::new(Code::Internal)),
            },
        };
        data.push(show_result(result));
    }
    Ok(http::json(StatusCode::OK, &BatchAnswer { data }))
}

async fn make_organizations(call: &Call, events: &[NewEvent]) -> Result<(), Problem> {
    let mut names: Vec<&Name> = events.iter().map(|event| &event.organization).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        organizations::make_first_named(call, name).await?;
    }
    Ok(())
}

/// Each line that is not blank, where it is JSON. They are counted first: a body has room
/// for millions, and each that is none makes a problem.
fn split_lines(body: &[u8]) -> Result<Vec<Result<&RawValue, Problem>>, Problem> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.is_empty());
    check_count(lines.clone().count())?;
    Ok(lines.map(value).collect())
}

/// Each item of the array, which as a whole must be JSON. How deep it may nest is
/// each item's own question: nothing here recurses.
fn split_array(body: &[u8]) -> Result<Vec<Result<&RawValue, Problem>>, Problem> {
    let items: &RawValue = serde_json::from_slice(body).map_err(JsonError::from)?;
    match json::level(items) {
        json::Level::Array(items) => {
            check_count(items.len())?;
            Ok(items.into_iter().map(|item| check_size(item.get().len()).map(|()| item)).collect())
        }
        _ => Err(Problem::faults(vec![Fault::new("", format!("must be a list of events, or {NDJSON}"))])),
    }
}

fn check_count(events: usize) -> Result<(), Problem> {
    if events <= BATCH_EVENTS_MAX {
        return Ok(());
    }
    let message = format!("has {events} events; a batch may have at most {BATCH_EVENTS_MAX}");
    Err(Problem::faults(vec![Fault::new("", message)]))
}

fn check_size(bytes: usize) -> Result<(), Problem> {
    if bytes <= EVENT_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("an event may have at most {EVENT_BYTES_MAX} bytes");
    Err(Problem::new(Code::TooLarge).detail(detail))
}

/// The one JSON value that `text` is, of an event's size.
fn value(text: &[u8]) -> Result<&RawValue, Problem> {
    check_size(text.len())?;
    Ok(serde_json::from_slice(text).map_err(JsonError::from)?)
}

/// The event that is all of `body`.
fn read_alone(body: &[u8]) -> Result<Given, Problem> {
    check_size(body.len())?;
    parse(json::open(body)?).map_err(Problem::faults)
}

/// One event of a batch, whose text is known to be JSON.
fn read(value: &RawValue) -> Result<Given, Problem> {
    json::check_depth(value.get().as_bytes())?;
    parse(json::level(value)).map_err(Problem::faults)
}

/// Decides whose the event is, and whether the caller may publish there.
fn own(call: &Call, given: Given) -> Result<NewEvent, Problem> {
    let registry = call.registry();
    let organization =
        organization_of(&registry, &call.caller, &given).map_err(|fault| Problem::faults(vec![fault]))?;
    if !call.caller.reaches(&registry, &organization) {
        return Err(not_found("organization"));
    }
    Ok(NewEvent {
        event_type: Name::from(given.event_type),
        organization,
        source: given.source.map(Name::from),
        subject: given.subject,
        occurred_at: given.occurred_at,
        idempotency_key: None,
        event_id: given.event_id,
        data: given.data,
    })
}

/// The organization named, which must be the source's where that is registered;
/// else the source's; else `default`. A source that the caller does not reach is
/// as good as unregistered: a label.
fn organization_of(registry: &Registry, caller: &Caller, given: &Given) -> Result<Name, Fault> {
    let source = given.source.as_ref().and_then(|source| registry.source(source));
    let owner = source.map(|source| &source.organization).filter(|owner| caller.reaches(registry, owner));
    match (&given.organization, owner) {
        (Some(named), Some(own)) if **own != **named => {
            Err(Fault::new("source", "is registered under another organization"))
        }
        (Some(named), _) => Ok(Name::from(named.as_str())),
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => Ok(Name::from(DEFAULT_ORGANIZATION)),
    }
}

/// What the publisher of an accepted event is told.
#[derive(Serialize)]
struct Published {
    /// Of one in a batch: what it would have been answered alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    id: String,
    event_id: String,
    duplicate: bool,
    deliveries: u32,
}

fn status(accepted: &Accepted) -> StatusCode {
    if accepted.duplicate { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn show(accepted: &Accepted) -> Published {
    let id = accepted.id.to_string();
    Published {
        event_id: accepted.event_id.clone().unwrap_or_else(|| id.clone()),
        id,
        duplicate: accepted.duplicate,
        deliveries: accepted.deliveries,
        status: None,
    }
}

/// What the publisher of a batch is told: of each event, in order.
#[derive(Serialize)]
struct BatchAnswer {
    data: Vec<BatchItem>,
}

/// One event's part of it.
#[derive(Serialize)]
#[serde(untagged)]
enum BatchItem {
    Accepted(Published),
    Refused(Value),
}

fn show_result(result: Result<Accepted, Problem>) -> BatchItem {
    match result {
        Ok(accepted) => BatchItem::Accepted(Published { status: Some(status(&accepted).as_u16()), ..show(&accepted) }),
        Err(problem) => BatchItem::Refused(problem.to_value()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Auth, authenticate};
    use crate::id::Minter;
    use crate::model::Source;
    use crate::time::Timestamp;
    use serde_json::json;

    fn texts(items: Vec<Result<&RawValue, Problem>>) -> Vec<Result<&str, Code>> {
        items.into_iter().map(|item| item.map(RawValue::get).map_err(|problem| problem.code())).collect()
    }

    #[test]
    fn batches_are_lines_or_an_array() {
        let lines = b"{\"a\":1}\r\n\n  {\"b\": 2}  \nnonsense";
        assert_eq!(
            texts(split_lines(lines).expect("few")),
            [Ok("{\"a\":1}"), Ok("{\"b\": 2}"), Err(Code::InvalidJson)]
        );
        assert!(split_lines(b" \n\r\n").expect("few").is_empty());
        let array = b" [ {\"a\": 1} , [], 3 ] ";
        assert_eq!(texts(split_array(array).expect("an array")), [Ok("{\"a\": 1}"), Ok("[]"), Ok("3")]);
        for (body, code) in [
            (&b"{\"type\":\"a\",\"data\":1}"[..], Code::ValidationFailed),
            (b"[1,", Code::InvalidJson),
            (b"", Code::InvalidJson),
            (b"\xff", Code::InvalidJson),
        ] {
            let problem = split_array(body).expect_err("refused");
            assert_eq!(problem.code(), code, "{body:?}");
        }
    }

    /// Eight million lines of nonsense in one body became as many problems before they were
    /// counted: some gigabytes.
    #[test]
    fn too_many_are_refused_before_any_is_read() {
        let lines = "x\n".repeat(BATCH_EVENTS_MAX + 1);
        let array = format!("[{}1]", "1,".repeat(BATCH_EVENTS_MAX));
        for refused in [split_lines(lines.as_bytes()).err(), split_array(array.as_bytes()).err()] {
            assert_eq!(refused.map(|problem| problem.code()), Some(Code::ValidationFailed));
        }
        assert!(split_lines(&lines.as_bytes()[2..]).is_ok());
    }

    #[test]
    fn each_item_fails_alone() {
        let body = b"{\"type\":\"a\",\"data\":[1, 2]}\n{\"type\":\"a\"}\n{\"type\":\n[]";
        let results: Vec<Result<Given, Problem>> =
            split_lines(body).expect("few").into_iter().map(|item| item.and_then(read)).collect();
        let codes: Vec<Option<Code>> = results.iter().map(|result| result.as_ref().err().map(Problem::code)).collect();
        let invalid = Some(Code::ValidationFailed);
        assert_eq!(codes, [None, invalid, Some(Code::InvalidJson), invalid]);
        assert_eq!(results[0].as_ref().expect("valid").data.as_bytes(), b"[1, 2]");
        let large = format!("[\"{}\", 3]", "x".repeat(EVENT_BYTES_MAX - 1));
        assert_eq!(texts(split_array(large.as_bytes()).expect("an array")), [Err(Code::TooLarge), Ok("3")]);
        assert_eq!(texts(split_lines(large.as_bytes()).expect("few")), [Err(Code::TooLarge)]);
    }

    #[test]
    fn an_event_belongs_to_its_source_unless_it_says_so_itself() {
        let mut registry = Registry::default();
        registry.put_source(Source {
            id: Name::from("panel"),
            name: String::new(),
            organization: Name::from("acme"),
            managed_by: crate::model::ManagedBy::Api,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        });
        let anybody = authenticate(Auth::None, &[], None, &[], Timestamp::ZERO).expect("no key is needed");
        for (organization, source, owner) in [
            (None, None, Some("default")),
            (None, Some("panel"), Some("acme")),
            (None, Some("unregistered"), Some("default")),
            (Some("acme"), Some("panel"), Some("acme")),
            (Some("other"), Some("unregistered"), Some("other")),
            (Some("other"), Some("panel"), None),
        ] {
            let given = Given {
                event_type: "a".to_owned(),
                organization: organization.map(str::to_owned),
                source: source.map(str::to_owned),
                subject: None,
                occurred_at: None,
                event_id: None,
                data: crate::json::Json::NULL,
            };
            let found = organization_of(&registry, &anybody, &given);
            assert_eq!(found.as_deref().ok(), owner, "{organization:?} {source:?}");
        }
    }

    #[test]
    fn the_answer_names_the_publishers_id_else_ours() {
        let id = Minter::after(None).mint(Timestamp::from_millis(1), 1);
        let mut accepted = Accepted { id, event_id: None, duplicate: false, deliveries: 2 };
        let show = |accepted| serde_json::to_value(show_result(Ok(accepted))).expect("JSON");
        let shown = show(accepted.clone());
        assert_eq!(
            (&shown["status"], &shown["event_id"], &shown["id"]),
            (&json!(202), &shown["id"], &json!(id.to_string()))
        );
        accepted.event_id = Some("mine".to_owned());
        accepted.duplicate = true;
        let shown = show(accepted);
        assert_eq!((&shown["status"], &shown["event_id"]), (&json!(200), &json!("mine")));
    }
}

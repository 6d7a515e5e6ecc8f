//! A call that was let through, and what every handler does with one.

use std::sync::{Arc, RwLockReadGuard};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::auth::{Caller, Role};
use crate::http::{self, Code, HeaderMap, Problem, Response, StatusCode};
use crate::id::SubscriptionId;
use crate::json;
use crate::limits::{NAME_CHARS_MAX, UPDATE_TRIES_MAX};
use crate::model::{Fault, Name, Subscription};
use crate::registry::Registry;
use crate::store::Store;
use crate::store::command::{Change, ChangeError, Changed};
use crate::store::query::ReadError;
use crate::time::Timestamp;

use super::State;
use super::query::Query;

/// One call of one route. It goes around in a box: each future that it passes through on its
/// way to the handler would have room for it.
pub(super) struct Call {
    pub(super) state: Arc<State>,
    pub(super) caller: Caller,
    /// What stands in the places of the path's `{names}`, in order.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    /// Empty where the route reads none.
    pub(super) body: Bytes,
}

impl Call {
    /// What stands in the place of the path's first `{name}`; empty where there is none.
    pub(super) fn id(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// Everything configured. **Not to be held across an await.**
    pub(super) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.state.store.registry()
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// The body as a JSON object; a body that is missing is an empty one.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match self.json()? {
            Value::Object(map) => Ok(map),
            other => {
                let message = format!("must be an object, not {}", crate::input::kind(&other));
                Err(Problem::faults(vec![Fault::new("", message)]))
            }
        }
    }

    fn json(&self) -> Result<Value, Problem> {
        json::check_depth(&self.body)?;
        Ok(serde_json::from_slice(&self.body).map_err(json::JsonError::from)?)
    }

    /// The header's value as text of at most [`NAME_CHARS_MAX`] characters.
    pub(super) fn header_text(&self, name: &'static str) -> Result<Option<String>, Problem> {
        let Some(value) = self.headers.get(name) else { return Ok(None) };
        match value.to_str() {
            Ok(text) if (1..=NAME_CHARS_MAX).contains(&text.len()) => Ok(Some(text.to_owned())),
            _ => {
                let message = format!("must have from 1 to {NAME_CHARS_MAX} visible ASCII characters");
                Err(Problem::faults(vec![Fault::new(name, message)]))
            }
        }
    }

    /// Refuses callers without `role`, where the route itself needs less.
    pub(super) fn require(&self, role: Role) -> Result<(), Problem> {
        if self.caller.may(role) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden).detail(format!("this needs a key with the role {role}")))
    }

    /// Whether the caller reaches `organization`.
    pub(super) fn reaches(&self, organization: &str) -> bool {
        self.caller.reaches(&self.registry(), organization)
    }

    /// The subscription of the path, where the caller reaches it.
    pub(super) fn subscription(&self) -> Result<Arc<Subscription>, Problem> {
        let missing = || not_found("subscription");
        let id: SubscriptionId = self.id().parse().map_err(|_| missing())?;
        let registry = self.registry();
        let subscription = registry.subscription(id).ok_or_else(missing)?;
        if self.caller.reaches(&registry, &subscription.settings.organization) {
            Ok(subscription.clone())
        } else {
            Err(missing())
        }
    }

    /// The organizations a list may show: those the caller reaches, or the one it
    /// asks for; `None`: all. A list of none shows nothing.
    pub(super) fn listed_organizations(&self) -> Option<Vec<Name>> {
        let registry = self.registry();
        match self.query.get("organization") {
            Some(wanted) if self.caller.reaches(&registry, wanted) => Some(vec![Name::from(wanted)]),
            Some(_) => Some(Vec::new()),
            None => self.caller.reached(&registry),
        }
    }

    /// Reads from the store, off the threads that serve connections.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.state.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Problem::new(Code::Internal)),
        }
    }

    /// Changes what is configured, in the caller's name.
    pub(super) async fn change(&self, change: Change) -> Result<Changed, Problem> {
        Ok(self.state.store.change(&self.caller.name, change).await?)
    }

    /// The same for a change that was allowed by what the registry showed, and is
    /// refused as stale where something else is there by then: it is looked at again.
    pub(super) async fn change_as_seen(&self, look: impl Fn() -> Result<Change, Problem>) -> Result<Changed, Problem> {
        for _ in 0..UPDATE_TRIES_MAX {
            match self.state.store.change(&self.caller.name, look()?).await {
                Err(ChangeError::Stale) => {}
                changed => return Ok(changed?),
            }
        }
        Err(overtaken())
    }
}

/// There is no such thing, or the caller does not reach it: the same answer.
pub(super) fn not_found(what: &str) -> Problem {
    Problem::new(Code::NotFound).detail(format!("there is no such {what}"))
}

/// Others kept changing it at the same time.
pub(super) fn overtaken() -> Problem {
    Problem::new(Code::Busy).detail("others keep changing it at the same time").retry_after(1)
}

/// One page of a list.
#[derive(Serialize)]
struct Listed<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

/// The answer that is a page of a list.
pub(super) fn page<T: Serialize>(rows: Vec<T>, next: Option<String>) -> Response {
    http::json(StatusCode::OK, &Listed { data: rows, next_cursor: next })
}

/// The first `limit` of `items`, and the cursor behind them where there are more.
pub(super) fn take_page<T>(
    items: impl Iterator<Item = T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let mut rows: Vec<T> = items.take(limit + 1).collect();
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| is_more).map(cursor);
    (rows, next)
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            tracing::error!(%error, "the system gives no randomness");
            Err(Problem::new(Code::Internal))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_one_only_where_there_is_more() {
        let cursor = |item: &u8| item.to_string();
        assert_eq!(take_page([1, 2, 3].into_iter(), 2, cursor), (vec![1, 2], Some("2".to_owned())));
        assert_eq!(take_page([1, 2].into_iter(), 2, cursor), (vec![1, 2], None));
        assert_eq!(take_page([].into_iter(), 2, cursor), (vec![], None));
    }
}

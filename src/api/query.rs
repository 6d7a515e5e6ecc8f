//! Query parameters: read by the route's own list of them, all faults at once.

use std::str::FromStr;

use crate::http::Problem;
use crate::input::{Faults, nearest};
use crate::limits::{NAME_CHARS_MAX, PAGE_DEFAULT, PAGE_MAX, URL_CHARS_MAX};
use crate::model::Fault;
use crate::pattern::{NotAPattern, Pattern};
use crate::time::{NotATime, Timestamp};

use super::route::{Kind, Parameter};

/// The query parameters of a call; each is one its route knows, there once, and
/// what its kind asks for.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, the part of the URI after `?`.
    /// `ignores_others`: parameters that the route does not know are no faults, and are left out.
    pub(super) fn read(text: &str, parameters: &[Parameter], ignores_others: bool) -> Result<Query, Problem> {
        let known = || parameters.iter().filter(|parameter| !matches!(parameter.kind, Kind::Header));
        let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        if ignores_others {
            pairs.retain(|(name, _)| known().any(|parameter| parameter.name == name));
        }
        let faults = Faults::new();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                faults.add(name, "is given twice");
            }
            match known().find(|parameter| parameter.name == name) {
                Some(parameter) => {
                    if let Err(message) = check(parameter.kind, value) {
                        faults.add(name, message);
                    }
                }
                None => match nearest(name, known().map(|parameter| parameter.name)) {
                    Some(near) => faults.add(name, format!("is not a parameter here; did you mean \"{near}\"?")),
                    None => faults.add(name, "is not a parameter here"),
                },
            }
        }
        if !faults.is_empty() {
            return Err(Problem::faults(faults.into_vec()));
        }
        Ok(Query(pairs))
    }

    /// The parameter's text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A parameter of kind [`Kind::Time`].
    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        self.get(name)?.parse().ok()
    }

    /// A parameter of kind [`Kind::Pattern`].
    pub(super) fn pattern(&self, name: &str) -> Option<Pattern> {
        Pattern::parse(self.get(name)?).ok()
    }

    /// Rows wanted.
    pub(super) fn limit(&self) -> usize {
        self.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_DEFAULT)
    }

    /// Where the list goes on.
    pub(super) fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let Some(text) = self.get("cursor") else { return Ok(None) };
        match text.parse() {
            Ok(cursor) => Ok(Some(cursor)),
            Err(_) => Err(Problem::faults(vec![Fault::new("cursor", "must be a next_cursor of this list")])),
        }
    }
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    let wrong = match kind {
        Kind::Limit => {
            let fits = value.parse::<usize>().is_ok_and(|limit| (1..=PAGE_MAX).contains(&limit));
            (!fits).then(|| format!("must be a whole number from 1 to {PAGE_MAX}"))
        }
        Kind::Time => value.parse::<Timestamp>().is_err().then(|| NotATime.to_string()),
        Kind::Boolean => (!matches!(value, "true" | "false")).then(|| "must be true or false".to_owned()),
        Kind::Pattern => Pattern::parse(value).is_err().then(|| NotAPattern.to_string()),
        Kind::Choice(names) => {
            let names = names();
            (!names.split(", ").any(|name| name == value)).then(|| format!("must be one of {names}"))
        }
        Kind::Cursor => (value.len() > NAME_CHARS_MAX).then(|| "must be a next_cursor of this list".to_owned()),
        Kind::Text | Kind::Header => {
            (value.len() > URL_CHARS_MAX).then(|| format!("may have at most {URL_CHARS_MAX} bytes"))
        }
    };
    wrong.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeliveryState;

    const PARAMETERS: &[Parameter] = &[
        Parameter { name: "limit", kind: Kind::Limit, description: "" },
        Parameter { name: "cursor", kind: Kind::Cursor, description: "" },
        Parameter { name: "since", kind: Kind::Time, description: "" },
        Parameter { name: "state", kind: Kind::Choice(DeliveryState::names), description: "" },
        Parameter { name: "type", kind: Kind::Pattern, description: "" },
        Parameter { name: "verify", kind: Kind::Boolean, description: "" },
        Parameter { name: "if-match", kind: Kind::Header, description: "" },
    ];

    #[test]
    fn parameters_are_read_by_their_kind() {
        let text = "limit=7&since=2026-03-17T14%3A30%3A00Z&state=failed&type=door.*&verify=true&cursor=12";
        let query = Query::read(text, PARAMETERS, false).expect("valid");
        assert_eq!(query.limit(), 7);
        assert_eq!(query.time("since").expect("a time").to_string(), "2026-03-17T14:30:00.000Z");
        assert_eq!(query.get("state"), Some("failed"));
        assert!(query.is_true("verify"));
        assert_eq!(query.pattern("type"), Pattern::parse("door.*").ok());
        assert_eq!(query.cursor::<u64>().expect("a number"), Some(12));
        assert!(query.cursor::<crate::id::EventId>().is_err());
        let none = Query::read("", PARAMETERS, false).expect("valid");
        assert_eq!((none.limit(), none.time("since")), (PAGE_DEFAULT, None));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "limit=0&since=soon&state=lost&type=a..b&verify=1&sinse=1&if-match=1&limit=501";
        let problem = Query::read(text, PARAMETERS, false).expect_err("faults").to_value();
        let errors = problem["errors"].as_array().expect("a list");
        let told: Vec<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
        assert_eq!(told, ["limit", "since", "state", "type", "verify", "sinse", "if-match", "limit", "limit"]);
        assert_eq!(errors[5]["message"], "is not a parameter here; did you mean \"since\"?");
    }
}

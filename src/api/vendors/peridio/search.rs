//! The vendor's search language: `key op value`, up to five times, joined by `and`.
//! Strings and times stand in single quotes, a single quote in them behind a
//! backslash. Times are compared by whole seconds, as they are shown.

use crate::dialect::peridio::{organization_prn, read_organization_prn, webhook_prn};
use crate::limits::PERIDIO_CLAUSES_MAX;
use crate::model::Subscription;
use crate::time::{NotATime, Timestamp};

/// What a list is narrowed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Search(Vec<Clause>);

#[derive(Debug, PartialEq, Eq)]
enum Clause {
    Description(Operator, String),
    InsertedAt(Operator, u64),
    OrganizationPrn(String),
    Prn(String),
    UpdatedAt(Operator, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    PartInAnyCase,
    Part,
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
}

/// Longer ones before those that they begin with.
const OPERATORS: &[(&str, Operator)] = &[
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    (":", Operator::Equal),
    ("-", Operator::PartInAnyCase),
    ("~", Operator::Part),
];

const KEYS: &str = "description, inserted_at, organization_prn, prn, updated_at";

impl Search {
    /// Reads a search; nothing but white space is none. Says what is wrong as the
    /// rest of a sentence.
    pub(super) fn parse(text: &str) -> Result<Search, String> {
        let mut rest = text.trim();
        let mut clauses = Vec::new();
        while !rest.is_empty() {
            if !clauses.is_empty() {
                rest = and(rest).ok_or("must have \"and\" between its clauses")?;
            }
            if clauses.len() == PERIDIO_CLAUSES_MAX {
                return Err(format!("must have at most {PERIDIO_CLAUSES_MAX} clauses"));
            }
            let (clause, after) = clause(rest)?;
            clauses.push(clause);
            rest = after.trim_start();
        }
        Ok(Search(clauses))
    }

    /// The organization that it names.
    pub(super) fn organization(&self) -> Option<&str> {
        self.0.iter().find_map(|clause| match clause {
            Clause::OrganizationPrn(prn) => read_organization_prn(prn),
            _ => None,
        })
    }

    /// Whether a webhook is what every clause asks for.
    pub(super) fn finds(&self, webhook: &Subscription) -> bool {
        let settings = &webhook.settings;
        self.0.iter().all(|clause| match clause {
            Clause::Description(operator, text) => operator.compares_text(&settings.description, text),
            Clause::InsertedAt(operator, seconds) => operator.compares_seconds(webhook.created_at.as_secs(), *seconds),
            Clause::UpdatedAt(operator, seconds) => operator.compares_seconds(webhook.updated_at.as_secs(), *seconds),
            Clause::OrganizationPrn(prn) => organization_prn(&settings.organization) == *prn,
            Clause::Prn(prn) => webhook_prn(&settings.organization, webhook.id) == *prn,
        })
    }
}

impl Operator {
    fn compares_text(self, text: &str, wanted: &str) -> bool {
        match self {
            Operator::Part => text.contains(wanted),
            _ => text == wanted,
        }
    }

    fn compares_seconds(self, seconds: u64, wanted: u64) -> bool {
        match self {
            Operator::Less => seconds < wanted,
            Operator::LessOrEqual => seconds <= wanted,
            Operator::Greater => seconds > wanted,
            Operator::GreaterOrEqual => seconds >= wanted,
            _ => seconds == wanted,
        }
    }
}

/// What stands behind the `and` that `text` begins with.
fn and(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("and")?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// The clause that `text` begins with, and what stands behind it.
fn clause(text: &str) -> Result<(Clause, &str), String> {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Part};
    let end = text.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let allowed: &[Operator] = match key {
        "description" => &[Equal, Part],
        "inserted_at" | "updated_at" => &[Equal, Less, LessOrEqual, Greater, GreaterOrEqual],
        "organization_prn" | "prn" => &[Equal],
        _ => return Err(format!("must have one of the keys {KEYS} at the beginning of each clause, not \"{key}\"")),
    };
    let found = OPERATORS.iter().find_map(|(name, operator)| Some((*operator, rest.strip_prefix(name)?)));
    let Some((operator, rest)) = found.filter(|(operator, _)| allowed.contains(operator)) else {
        let names = OPERATORS.iter().filter(|(_, operator)| allowed.contains(operator)).map(|(name, _)| *name);
        return Err(format!("must have one of the operators {} behind \"{key}\"", names.collect::<Vec<_>>().join(" ")));
    };
    let (value, rest) =
        quoted(rest.trim_start()).ok_or_else(|| format!("must have the value of \"{key}\" in single quotes"))?;
    let seconds = || match value.parse::<Timestamp>() {
        Ok(time) => Ok(time.as_secs()),
        Err(NotATime) => Err(format!("must have a time such as '2023-01-01T00:00:00Z' for \"{key}\"")),
    };
    let clause = match key {
        "description" => Clause::Description(operator, value),
        "inserted_at" => Clause::InsertedAt(operator, seconds()?),
        "updated_at" => Clause::UpdatedAt(operator, seconds()?),
        "prn" => Clause::Prn(value),
        _ => Clause::OrganizationPrn(value),
    };
    Ok((clause, rest))
}

/// The text in the single quotes that `text` begins with, and what stands behind them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('\'')?;
    let mut value = String::new();
    let mut characters = inner.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' => return Some((value, &inner[at + 1..])),
            '\\' if characters.next_if(|(_, next)| *next == '\'').is_some() => value.push('\''),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::subscription_json::tests::example;

    #[test]
    fn clauses_are_read_as_the_vendor_describes_them() {
        for (text, clauses) in [
            ("", vec![]),
            ("  ", vec![]),
            ("description~'east blue'", vec![Clause::Description(Operator::Part, "east blue".to_owned())]),
            (r"description:'zoro\'s \n'", vec![Clause::Description(Operator::Equal, r"zoro's \n".to_owned())]),
            (
                "inserted_at>='1970-01-01T00:00:09Z' and updated_at < '1970-01-01T00:01:00Z'",
                vec![Clause::InsertedAt(Operator::GreaterOrEqual, 9), Clause::UpdatedAt(Operator::Less, 60)],
            ),
            (
                "organization_prn:'prn:1:o' and  prn : 'prn:1:o:webhook:1'",
                vec![Clause::OrganizationPrn("prn:1:o".to_owned()), Clause::Prn("prn:1:o:webhook:1".to_owned())],
            ),
            ("description:' and '", vec![Clause::Description(Operator::Equal, " and ".to_owned())]),
        ] {
            assert_eq!(Search::parse(text), Ok(Search(clauses)), "{text}");
        }
        assert!(Search::parse(&["prn:'a'"; 5].join(" and ")).is_ok());
    }

    #[test]
    fn what_is_no_search_is_told() {
        let six = ["prn:'a'"; 6].join(" and ");
        for (text, told) in [
            ("summary:'a'", "not \"summary\""),
            ("'a'", "not \"\""),
            ("description-'a'", "operators : ~ behind \"description\""),
            ("prn~'a'", "operators : behind \"prn\""),
            ("updated_at~'a'", "operators <= >= < > : behind"),
            ("description", "behind \"description\""),
            ("description:a", "single quotes"),
            ("description:'a", "single quotes"),
            (r"description:'a\'", "single quotes"),
            ("inserted_at:'soon'", "time such as"),
            ("prn:'a' or prn:'b'", "\"and\""),
            ("prn:'a'prn:'b'", "\"and\""),
            ("prn:'a' andprn:'b'", "\"and\""),
            ("prn:'a' and", "\"and\""),
            ("prn:'a' and ä", "not \"\""),
            (&six, "at most 5"),
        ] {
            let message = Search::parse(text).expect_err(text);
            assert!(message.contains(told), "{text}: {message}");
        }
    }

    #[test]
    fn a_webhook_is_found_where_every_clause_holds() {
        let mut webhook = example();
        webhook.settings.description = "In the East".to_owned();
        webhook.created_at = Timestamp::from_millis(9_900);
        let organization = organization_prn(&webhook.settings.organization);
        let prn = webhook_prn(&webhook.settings.organization, webhook.id);
        for (text, found) in [
            ("", true),
            ("description:'In the East'", true),
            ("description:'In the'", false),
            ("description~'the'", true),
            ("description~'east'", false),
            ("inserted_at:'1970-01-01T00:00:09Z'", true),
            ("inserted_at>'1970-01-01T00:00:09Z'", false),
            ("inserted_at>='1970-01-01T00:00:09Z'", true),
            ("inserted_at<'1970-01-01T00:00:09Z'", false),
            ("inserted_at<='1970-01-01T00:00:09Z'", true),
            ("inserted_at<'1970-01-01T00:00:10Z' and description:'b'", false),
            (&format!("prn:'{prn}' and organization_prn:'{organization}'"), true),
            (&format!("prn:'{prn}0'"), false),
            ("organization_prn:'prn:1:other'", false),
        ] {
            assert_eq!(Search::parse(text).expect(text).finds(&webhook), found, "{text}");
        }
        let search = Search::parse("prn:'a' and organization_prn:'prn:1:acme'").expect("a search");
        assert_eq!(search.organization(), Some("acme"));
    }
}

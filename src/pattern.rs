//! Patterns of event types: `door.request.allowed`, `door.*`, `*`.

use std::fmt;

use crate::limits::NAME_CHARS_MAX;
use crate::model::{Name, OPERATIONAL_PREFIX};

/// Which types of events a subscription wants.
///
/// `posthaste.…` types are matched only by patterns that begin `posthaste.`, so
/// that `*` does not feed a subscription with its own failures.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// `*`.
    All,
    /// `door.*`: anything below `door.`, at any depth, not `door` itself. Kept
    /// with its dot: `door.`.
    Below(Name),
    /// One type.
    Exact(Name),
}

/// The text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an event type such as \"door.opened\", a prefix such as \"door.*\", or \"*\"")]
pub struct NotAPattern;

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, NotAPattern> {
        if text == "*" {
            return Ok(Pattern::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) if is_event_type(prefix) => Ok(Pattern::Below(Name::from(format!("{prefix}.")))),
            None if is_event_type(text) => Ok(Pattern::Exact(Name::from(text))),
            _ => Err(NotAPattern),
        }
    }

    /// Whether an event of that type is wanted.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Pattern::All => !event_type.starts_with(OPERATIONAL_PREFIX),
            Pattern::Below(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix.as_ref()),
            Pattern::Exact(name) => event_type == name.as_ref(),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::All => f.write_str("*"),
            Pattern::Below(prefix) => write!(f, "{prefix}*"),
            Pattern::Exact(name) => f.write_str(name),
        }
    }
}

/// Whether `text` can name an event type: segments of letters, digits, `_` and
/// `-`, joined by single dots.
pub fn is_event_type(text: &str) -> bool {
    let segment = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    text.len() <= NAME_CHARS_MAX && text.split('.').all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_the_contract_says() {
        for (pattern, event_type, wanted) in [
            ("*", "door.opened", true),
            ("*", "posthaste.storage.low", false),
            ("posthaste.*", "posthaste.storage.low", true),
            ("door.*", "door.opened", true),
            ("door.*", "door.request.allowed", true),
            ("door.*", "door", false),
            ("door.*", "doors.opened", false),
            ("door", "door", true),
            ("door.opened", "door.opened.twice", false),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(event_type), wanted, "{pattern} on {event_type}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for wrong in ["", ".", "door.", ".door", "door..opened", "do*r", "*.opened", "door.**", "dör", "a b", ".*"] {
            assert_eq!(Pattern::parse(wrong), Err(NotAPattern), "{wrong}");
        }
    }
}

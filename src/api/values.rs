//! Small values that several bodies hold.

use crate::http::Problem;
use crate::input::{Faults, Fields};
use crate::limits::NAME_CHARS_MAX;
use crate::model::Fault;

/// What an id that callers choose must be, as the rest of a sentence.
pub(super) const ID_RULE: &str =
    "must have from 1 to 255 letters, digits, \".\", \"_\", \":\" and \"-\", and not dots alone";

/// Whether `text` can name an organization or a source: it stands in URLs as it
/// is, so it has nothing that would need escaping, nor is it `.` or `..`.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_plain) && text.bytes().any(|byte| byte != b'.')
}

/// The fault of an id in the path, where it is one.
pub(super) fn id_fault(field: &str, text: &str) -> Option<Fault> {
    (!is_id(text)).then(|| Fault::new(field, ID_RULE))
}

/// A field that holds an id.
pub(super) fn id_field(fields: &Fields<'_>, name: &'static str) -> Option<String> {
    let text = fields.string(name)?;
    if !is_id(text) {
        fields.fault(name, ID_RULE);
        return None;
    }
    Some(text.to_owned())
}

/// A field of one line of text, from `chars_min` to `chars_max` characters, that
/// a log or a header can show.
pub(super) fn line(fields: &Fields<'_>, name: &'static str, chars_min: usize, chars_max: usize) -> Option<String> {
    let text = fields.string(name)?;
    if !(chars_min..=chars_max).contains(&text.chars().count()) {
        fields.fault(name, format!("must have from {chars_min} to {chars_max} characters"));
        return None;
    }
    if text.chars().any(char::is_control) {
        fields.fault(name, "may not hold control characters");
        return None;
    }
    Some(text.to_owned())
}

/// What was read, unless something was wrong with it.
pub(super) fn judged<T>(faults: Faults, read: T) -> Result<T, Problem> {
    if faults.is_empty() { Ok(read) } else { Err(Problem::faults(faults.into_vec())) }
}

/// A field that must be there.
pub(super) fn required<T>(fields: &Fields<'_>, name: &'static str, value: Option<T>) -> Option<T> {
    if value.is_none() && (!fields.has(name) || fields.is_null(name)) {
        fields.fault(name, "is required");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_need_no_escaping() {
        for good in ["a", "acme-eu", "panel:00_11.22", "...a", &"x".repeat(255)] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "ä", "a%2f", &"x".repeat(256)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}

//! JSON kept as its bytes. What a publisher hands us reaches the receiver with
//! its key order, white space and spelling of numbers, so data is checked once
//! and then sliced, never decoded and written again.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::JSON_DEPTH_MAX;

mod layout;
mod scan;
pub(crate) use layout::{compact, pretty};
pub(crate) use scan::{Kind, Scanner, array_index};
pub use scan::{find, items, pointer_steps, quote, unescape};

/// Why bytes are not JSON that we take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, with where the first fault stands, counted from 1.
    #[error("is not JSON: {reason} at line {line} column {column}")]
    Syntax {
        /// What the parser missed, in its words.
        reason: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    #[error("is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> JsonError {
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
        JsonError::Syntax { reason, line: error.line(), column: error.column() }
    }
}

/// One JSON value, known to be valid UTF-8 and valid JSON, in its own spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// `null`.
    pub const NULL: Json = Json(Bytes::from_static(b"null"));

    /// Checks `bytes` and keeps them as they are, less white space around them.
    pub fn parse(bytes: Bytes) -> Result<Json, JsonError> {
        check_depth(&bytes)?;
        let raw: &RawValue = serde_json::from_slice(&bytes)?;
        let text = raw.get();
        Ok(Json(bytes.slice_ref(text.as_bytes())))
    }

    /// Takes bytes that were checked before, when they were stored.
    pub fn from_checked(bytes: Bytes) -> Json {
        Json(bytes)
    }

    /// The value's own spelling.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same, as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// The same, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.0.as_ref() == b"null"
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Json {
        Json(Bytes::from(value.to_string()))
    }
}

/// Refuses nesting beyond [`JSON_DEPTH_MAX`] before any parser recurses. Counts
/// brackets outside strings; whether they match is for the parser to say.
pub fn check_depth(bytes: &[u8]) -> Result<(), JsonError> {
    // Mostly there are too few to nest so deep. Counting them all is many times faster than telling
    // where strings are, because it looks at many bytes at once, as many as a register has,
    // where each part is so short that its count fits in a byte.
    let count = |part: &[u8]| usize::from(part.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>());
    if bytes.chunks(usize::from(u8::MAX)).map(count).sum::<usize>() <= JSON_DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(JsonError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// One level of a JSON value, its parts still in their own spelling.
pub enum Level<'a> {
    /// An object's members in their order, repeated keys included.
    Object(Vec<(Cow<'a, str>, &'a RawValue)>),
    /// An array's items.
    Array(Vec<&'a RawValue>),
    /// A string, number, boolean or null.
    Scalar,
}

/// Checks `bytes` and opens one level of them in the same pass. What is no JSON is told before
/// what is nested too deep: a bracket that is not closed looks like both.
pub fn open(bytes: &[u8]) -> Result<Level<'_>, JsonError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Not UTF-8: serde_json says where.
        Err(_) => serde_json::from_slice::<&RawValue>(bytes)?.get(),
    };
    // Nothing recurses here: what is in the level is passed over bracket by bracket.
    let level = opened(text)?;
    check_depth(bytes)?;
    Ok(level)
}

/// Opens one level of `value`. Keys are decoded as [`unescape`] does it.
pub fn level(value: &RawValue) -> Level<'_> {
    match value.get().as_bytes().first() {
        Some(b'{' | b'[') => opened(value.get()).unwrap_or(Level::Scalar),
        _ => Level::Scalar,
    }
}

fn opened(text: &str) -> serde_json::Result<Level<'_>> {
    struct Open;
    impl<'de> Visitor<'de> for Open {
        type Value = Level<'de>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object or an array")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Level<'de>, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                members.push((unescape(key.get()), value));
            }
            Ok(Level::Object(members))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Level<'de>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                items.push(item);
            }
            Ok(Level::Array(items))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let level = match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => deserializer.deserialize_map(Open),
        Some(b'[') => deserializer.deserialize_seq(Open),
        _ => deserializer.deserialize_ignored_any(IgnoredAny).map(|IgnoredAny| Level::Scalar),
    };
    level.and_then(|level| deserializer.end().map(|()| level))
}

/// Whether `text` is one valid JSON value.
pub fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_is_kept() {
        let odd = r#"{"b":1.0, "a":1e3,"a":123456789012345678901234567890,"\u00e9":"\/\ud83d\ude00"}"#;
        let json = Json::parse(Bytes::from(format!(" {odd}\n"))).expect("valid");
        assert_eq!(json.as_bytes(), odd.as_bytes());
    }

    #[test]
    fn faults_say_where() {
        let error = Json::parse(Bytes::from_static(b"{\n  \"a\": ,\n}")).expect_err("invalid");
        assert!(matches!(error, JsonError::Syntax { line: 2, column: 8, .. }), "{error}");
        for deep in [JSON_DEPTH_MAX + 1, 256, 512] {
            assert_eq!(Json::parse(Bytes::from("[".repeat(deep))), Err(JsonError::TooDeep), "{deep}");
        }
        let brackets_in_a_string = format!("\"{}\\\"[\"", "[".repeat(500));
        assert!(Json::parse(Bytes::from(brackets_in_a_string)).is_ok());
    }

    /// What is checked while it is opened is checked as strictly as what is checked first.
    #[test]
    fn what_is_opened_is_checked() {
        let deep = ["[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1)];
        let just_not_too_deep = ["[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX)].concat();
        for text in [
            &b"{}"[..],
            b" \r\n\t{\"a\" : [1, {}] , \"a\":\"\\u00e9\"}\n",
            b"[1, \"a\", [[]]]",
            b" null ",
            b"1e3",
            b"\"{\"",
            b"",
            b"{",
            b"[1",
            b"[1,",
            b"[,]",
            b"{,}",
            b"{}x",
            b"[] []",
            b"nul",
            b"{\"a\":1,}",
            b"{\"a\":1,",
            b"{a:1}",
            b"{1:1}",
            b"{\"a\" 1}",
            b"{\"a\":tru}",
            b"{\"a\":[1,{\"b\":01}]}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":\"\\x\"}",
            b"{\"\\u12\":1}",
            b"\x0c{}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":tru,\"\xff\"}",
            b"\xff",
            just_not_too_deep.as_bytes(),
            deep.concat().as_bytes(),
            deep[0].as_bytes(),
            format!("{{\"a\":{}", deep.concat()).as_bytes(),
        ] {
            let members = |level: Level<'_>| match level {
                Level::Object(members) => {
                    members.iter().map(|(key, value)| format!("{key}: {}", value.get())).collect::<Vec<_>>()
                }
                Level::Array(items) => items.iter().map(|item| item.get().to_owned()).collect(),
                Level::Scalar => vec!["a scalar".to_owned()],
            };
            let checked_first = || {
                let value: &RawValue = serde_json::from_slice(text)?;
                check_depth(text).map(|()| level(value))
            };
            // They word it differently.
            let place = |error| match error {
                JsonError::Syntax { line, column, .. } => Some((line, column)),
                JsonError::TooDeep => None,
            };
            let checked_first = checked_first().map(members).map_err(place);
            assert_eq!(open(text).map(members).map_err(place), checked_first, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_level_shows_every_member_whatever_its_key() {
        let text = r#"{"p\u0069n":1,"pin":[2],"\ud83d":3}"#;
        let raw: &RawValue = serde_json::from_str(text).expect("valid");
        let Level::Object(members) = level(raw) else { panic!("an object") };
        let members: Vec<(&str, &str)> = members.iter().map(|(key, value)| (&**key, value.get())).collect();
        assert_eq!(members, [("pin", "1"), ("pin", "[2]"), ("\u{fffd}", "3")]);
    }
}

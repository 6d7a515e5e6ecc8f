//! Templates: text with `{name}` or `{name[n]}` where an event's values go; **every
//! other brace is text**, so that JSON, regular expressions and the like can be
//! written as they are.
//!
//! A name is made of segments of letters, digits, `_` and `-` joined by single
//! dots, and begins with a letter or `_`. It is, in this order:
//!
//! 1. a field of the event: `id` (the publisher's, else ours), `type`,
//!    `organization`, `source`, `subject`, `occurred_at`, `event_id`;
//! 2. `data`, the whole of it, or `data.…`, a path into it;
//! 3. any other name: a path into the data. `{device.id}` is `{data.device.id}`.
//!
//! Each segment of a path is a key or, in a list, an index from 0; `[n]` is the
//! last one. A format may put names of its own before these: whoever renders says
//! how names are looked up.
//!
//! Values go in once and are never looked through for placeholders, and what they
//! hold stays in their place: see [`Context`].

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::json;
use crate::model::Event;

/// Where a template's text goes, and so how values are written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A JSON document: escaped text inside a string, else the JSON value, where a
    /// missing one is `null`.
    Json,
    /// Plain text: the value's text as it is.
    Plain,
    /// A URL's path or query, or a form: percent-encoded but for the unreserved
    /// characters of RFC 3986, so that a value never adds a delimiter.
    Encoded,
}

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<'t> {
    pieces: Vec<Piece<'t>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Value(Placeholder<'t>, Spelling),
}

/// How a value is written in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    JsonValue,
    JsonText,
    Plain,
    Encoded,
}

/// `{name}` or `{name[n]}`. Shown without its braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholder<'t> {
    /// The name.
    pub name: &'t str,
    /// Which item of the list that the name stands for, from 0.
    pub index: Option<usize>,
}

impl fmt::Display for Placeholder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    /// A text.
    Text(Cow<'v, str>),
    /// A JSON value in its own spelling.
    Json(Cow<'v, str>),
}

impl Value<'_> {
    /// As text: strings decoded, numbers in their own spelling, `null` empty, lists
    /// of scalars joined by commas, anything else its JSON.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Json(json) => json_text(json),
        }
    }

    fn json(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Owned(json::quote(text)),
            Value::Json(json) => Cow::Borrowed(json),
        }
    }
}

fn json_text(json: &str) -> Cow<'_, str> {
    if json.starts_with('[') {
        let items = json::items(json);
        if items.iter().any(|item| item.starts_with(['[', '{'])) {
            return Cow::Borrowed(json);
        }
        let texts: Vec<Cow<'_, str>> = items.into_iter().map(json_text).collect();
        return Cow::Owned(texts.join(","));
    }
    match json {
        "null" => Cow::Borrowed(""),
        _ if json.starts_with('"') => json::unescape(json),
        _ => Cow::Borrowed(json),
    }
}

/// A template with its values in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Placeholders that had no value, each once.
    pub missing: Vec<String>,
}

/// The rendered text would be longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl<'t> Template<'t> {
    /// Reads a template. Never fails: what is no placeholder is text. Inside an
    /// escape sequence of a JSON string nothing is one.
    pub fn parse(text: &'t str, context: Context) -> Template<'t> {
        let mut pieces = Vec::new();
        let mut json = JsonState::Outside;
        let (mut from, mut at) = (0, 0);
        while let Some(&byte) = text.as_bytes().get(at) {
            let spelling = match context {
                Context::Json => json.spelling(),
                Context::Plain => Some(Spelling::Plain),
                Context::Encoded => Some(Spelling::Encoded),
            };
            if byte == b'{'
                && let Some(spelling) = spelling
                && let Some((placeholder, length)) = placeholder(&text[at..])
            {
                if from < at {
                    pieces.push(Piece::Text(&text[from..at]));
                }
                pieces.push(Piece::Value(placeholder, spelling));
                at += length;
                from = at;
            } else {
                json = json.after(byte);
                at += 1;
            }
        }
        if from < text.len() {
            pieces.push(Piece::Text(&text[from..]));
        }
        Template { pieces }
    }

    /// Every placeholder, in order, repeated ones too.
    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder<'t>> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(placeholder, _) => Some(*placeholder),
            Piece::Text(_) => None,
        })
    }

    /// Puts values in their places, as long as the text has at most `bytes_max`.
    pub fn render<'v>(
        &self,
        bytes_max: usize,
        lookup: &dyn Fn(&Placeholder<'_>) -> Option<Value<'v>>,
    ) -> Result<Rendered, TooLong> {
        let mut rendered = Rendered::default();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.text.push_str(text),
                Piece::Value(placeholder, spelling) => {
                    let value = lookup(placeholder);
                    if value.is_none() {
                        let name = placeholder.to_string();
                        if !rendered.missing.contains(&name) {
                            rendered.missing.push(name);
                        }
                    }
                    spelling.write(value.as_ref(), &mut rendered.text);
                }
            }
            if rendered.text.len() > bytes_max {
                return Err(TooLong);
            }
        }
        Ok(rendered)
    }
}

impl Spelling {
    fn write(self, value: Option<&Value<'_>>, into: &mut String) {
        let text = || value.map(Value::text).unwrap_or_default();
        match self {
            Spelling::JsonValue => into.push_str(&value.map_or(Cow::Borrowed("null"), Value::json)),
            Spelling::JsonText => {
                let quoted = json::quote(&text());
                into.push_str(&quoted[1..quoted.len() - 1]);
            }
            Spelling::Plain => into.push_str(&text()),
            Spelling::Encoded => into.extend(utf8_percent_encode(&text(), RESERVED)),
        }
    }
}

/// Everything but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` with every character but the unreserved ones percent-encoded.
pub fn percent_encode(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, RESERVED)
}

/// Where a JSON template's own text stands.
#[derive(Clone, Copy)]
enum JsonState {
    Outside,
    InString,
    /// Right behind a backslash.
    Escape,
    /// Inside `\uXXXX`, so many digits before its end.
    CodePoint(u8),
}

impl JsonState {
    fn after(self, byte: u8) -> JsonState {
        match (self, byte) {
            (JsonState::Outside, b'"') => JsonState::InString,
            (JsonState::Outside, _) => JsonState::Outside,
            (JsonState::InString, b'"') => JsonState::Outside,
            (JsonState::InString, b'\\') => JsonState::Escape,
            (JsonState::Escape, b'u') => JsonState::CodePoint(4),
            (JsonState::CodePoint(left @ 2..), _) => JsonState::CodePoint(left - 1),
            _ => JsonState::InString,
        }
    }

    fn spelling(self) -> Option<Spelling> {
        match self {
            JsonState::Outside => Some(Spelling::JsonValue),
            JsonState::InString => Some(Spelling::JsonText),
            JsonState::Escape | JsonState::CodePoint(_) => None,
        }
    }
}

/// The placeholder that `text` begins with, and its length.
fn placeholder(text: &str) -> Option<(Placeholder<'_>, usize)> {
    let inner = text.strip_prefix('{')?;
    let length = inner.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
    let (name, rest) = inner.split_at(length);
    let begins_well = name.starts_with(|first: char| first.is_alphabetic() || first == '_');
    if !begins_well || name.split('.').any(str::is_empty) {
        return None;
    }
    let (index, rest) = match rest.strip_prefix('[') {
        None => (None, rest),
        Some(bracket) => {
            let (digits, rest) = bracket.split_once(']')?;
            (Some(json::array_index(digits)?), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    Some((Placeholder { name, index }, text.len() - rest.len()))
}

/// What a placeholder stands for in `event`, whose data is `data` (secrecy
/// applied), by the names that every format has.
pub fn event_value<'v>(event: &'v Event, data: &'v str, placeholder: &Placeholder<'_>) -> Option<Value<'v>> {
    let Placeholder { name, index } = *placeholder;
    if Event::FIELDS.contains(&name) {
        return event.field(name).filter(|_| index.is_none()).map(Value::Text);
    }
    let mut path: Vec<Cow<'_, str>> = data_path(name).split_terminator('.').map(Cow::Borrowed).collect();
    path.extend(index.map(|index| Cow::Owned(index.to_string())));
    json::find(data, &path).map(|found| Value::Json(Cow::Borrowed(found)))
}

/// Whether a placeholder is one of the names that every format has, where the data
/// has only the dotted paths `fields`. Indexes of lists are looked over.
pub fn is_known<'f>(placeholder: &Placeholder<'_>, fields: impl IntoIterator<Item = &'f str>) -> bool {
    let path = data_path(placeholder.name);
    if Event::FIELDS.contains(&placeholder.name) || path.is_empty() {
        return true;
    }
    let named: Vec<&str> = path.split('.').filter(|step| json::array_index(step).is_none()).collect();
    fields.into_iter().any(|field| {
        let mut steps = field.split('.').filter(|step| json::array_index(step).is_none());
        named.iter().all(|step| steps.next() == Some(step))
    })
}

/// The dotted path into the data that a name is; empty: the whole of it.
fn data_path(name: &str) -> &str {
    if name == "data" { "" } else { name.strip_prefix("data.").unwrap_or(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(text: &str, context: Context, data: &str) -> (String, Vec<String>) {
        let mut event = Event::sample("door.opened", data);
        event.event_id = Some("evt/1".to_owned());
        let lookup = |placeholder: &Placeholder<'_>| event_value(&event, event.data.as_str(), placeholder);
        let rendered = Template::parse(text, context).render(usize::MAX, &lookup).expect("fits");
        (rendered.text, rendered.missing)
    }

    #[test]
    fn only_names_in_braces_are_placeholders() {
        for (text, names) in [
            ("{id}", vec!["id"]),
            ("{{id}}", vec!["id"]),
            ("{a}{b.c-d_e.0}{_f[12]}", vec!["a", "b.c-d_e.0", "_f[12]"]),
            ("{größe}", vec!["größe"]),
            (r#"{"a":{b}}"#, vec!["b"]),
            ("a{3}b{1,2}", vec![]),
            ("{} {a {a b} { a } {a. } {.a} {a..b} {a.} {-a}", vec![]),
            ("{a[]} {a[-1]} {a[01]} {a[b]} {a[1]x} {a[1} {a[99999999999999999999]}", vec![]),
            ("{", vec![]),
            ("{a", vec![]),
        ] {
            let template = Template::parse(text, Context::Plain);
            let found: Vec<String> = template.placeholders().map(|placeholder| placeholder.to_string()).collect();
            assert_eq!(found, names, "{text}");
        }
    }

    #[test]
    fn values_are_written_as_their_place_asks() {
        let data = r#"{"s":"a\"\\\n😀{type}","n":1.50,"t":true,"nil":null,"list":[1,"a b",null],
            "deep":[[1],2],"o":{"k": 1},"id":"mine","half":"\ud800"}"#;
        for (text, context, expected) in [
            ("{s}", Context::Plain, "a\"\\\n😀{type}"),
            (r#"{"x":"{s}","y":{s}}"#, Context::Json, r#"{"x":"a\"\\\n😀{type}","y":"a\"\\\n😀{type}"}"#),
            ("/{s}", Context::Encoded, "/a%22%5C%0A%F0%9F%98%80%7Btype%7D"),
            ("{n} {t} {nil} {list} {o}", Context::Plain, r#"1.50 true  1,a b, {"k": 1}"#),
            ("{deep}", Context::Plain, "[[1],2]"),
            ("[{n},{t},{nil},{list},{o}]", Context::Json, r#"[1.50,true,null,[1,"a b",null],{"k": 1}]"#),
            (r#""{n} {t} {nil} {list} {o}""#, Context::Json, r#""1.50 true  1,a b, {\"k\": 1}""#),
            ("{list[1]} {list.1} {o.k} {data.o.k} {data.id} {id}", Context::Plain, "a b a b 1 1 mine evt/1"),
            ("{half}", Context::Plain, "\u{fffd}"),
            (r#"["{half}"]"#, Context::Json, "[\"\u{fffd}\"]"),
            (
                r#"[{type},{organization},{source},{occurred_at}]"#,
                Context::Json,
                r#"["door.opened","acme","panel-1","2026-03-17T14:30:00.000Z"]"#,
            ),
            (r#"["\{s}","\u00{n}","\\{n}","\"{n}"]"#, Context::Json, r#"["\{s}","\u00{n}","\\1.50","\"1.50"]"#),
        ] {
            assert_eq!(render(text, context, data), (expected.to_owned(), vec![]), "{text}");
        }
        assert_eq!(render("{data}", Context::Json, "[ 1 ]").0, "[ 1 ]");
    }

    #[test]
    fn missing_values_are_named_once_and_empty() {
        let (text, missing) =
            render(r#"{"a":{x},"b":"{x}","c":"{y[3]}","d":"{subject}"}"#, Context::Json, r#"{"y":1}"#);
        assert_eq!(text, r#"{"a":null,"b":"","c":"","d":""}"#);
        assert_eq!(missing, ["x", "y[3]", "subject"]);
        assert_eq!(
            render("a{x}b{type[0]}", Context::Plain, "{}"),
            ("ab".to_owned(), vec!["x".into(), "type[0]".into()])
        );
    }

    #[test]
    fn rendering_stops_at_its_limit() {
        let lookup = |_: &Placeholder<'_>| Some(Value::Text(Cow::Borrowed("12345")));
        let template = Template::parse("{a}{a}", Context::Plain);
        assert_eq!(template.render(10, &lookup).map(|rendered| rendered.text), Ok("1234512345".to_owned()));
        assert_eq!(template.render(9, &lookup), Err(TooLong));
    }

    #[test]
    fn names_are_known_by_the_catalogs_fields() {
        let fields = ["device.id", "device.tags", "items.name"];
        for (name, known) in [
            ("type", true),
            ("data", true),
            ("device", true),
            ("device.id", true),
            ("data.device.id", true),
            ("items.0.name", true),
            ("device.name", false),
            ("device.id.x", false),
            ("dev", false),
            ("name", false),
        ] {
            assert_eq!(is_known(&Placeholder { name, index: None }, fields), known, "{name}");
        }
    }

    /// Texts with what matters to JSON, URLs, forms and regular expressions.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![".{0,20}", "[\"\\\\/?#%&=+{}\\[\\]. \u{0}-\u{1f}a😀é]{0,20}", "\\.{0,3}", "(\\.|%2e|/){0,5}"]
    }

    proptest! {
        #[test]
        fn a_value_stays_in_its_json_field(value in any_text()) {
            let lookup = |_: &Placeholder<'_>| Some(Value::Text(Cow::Borrowed(&value)));
            let raw = json::quote(&value);
            let lookup_json = |_: &Placeholder<'_>| Some(Value::Json(Cow::Borrowed(&raw)));
            let template = Template::parse(r#"{"a":"<{x}>","{y}!":{"b":{x}},"c":1}"#, Context::Json);
            let text = template.render(usize::MAX, &lookup).expect("fits").text;
            prop_assert_eq!(&text, &template.render(usize::MAX, &lookup_json).expect("fits").text);
            let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let expected = serde_json::json!({"a": format!("<{value}>"), format!("{value}!"): {"b": value}, "c": 1});
            prop_assert_eq!(body, expected);
        }

        #[test]
        fn a_value_stays_in_its_form_field(value in any_text()) {
            let lookup = |_: &Placeholder<'_>| Some(Value::Text(Cow::Borrowed(&value)));
            let text = Template::parse("a={x}&b=1&c={y}", Context::Encoded).render(usize::MAX, &lookup).expect("fits").text;
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            prop_assert_eq!(pairs, [pair("a", &value), pair("b", "1"), pair("c", &value)]);
        }

        #[test]
        fn parsing_keeps_every_other_character(text in "[{}a\\[\\]0\"\\\\.u é]{0,30}", json: bool) {
            let context = if json { Context::Json } else { Context::Plain };
            let template = Template::parse(&text, context);
            let again: String = template.pieces.iter().map(|piece| match piece {
                Piece::Text(text) => (*text).to_owned(),
                Piece::Value(placeholder, _) => format!("{{{placeholder}}}"),
            }).collect();
            prop_assert_eq!(again, text);
        }
    }

    #[test]
    fn a_megabyte_of_quotes_stays_in_its_field() {
        let value = "\"\\\u{1}😀".repeat(150_000);
        let lookup = |_: &Placeholder<'_>| Some(Value::Text(Cow::Borrowed(&value)));
        let rendered = Template::parse(r#"{"a":"{x}"}"#, Context::Json).render(usize::MAX, &lookup).expect("fits");
        let body: serde_json::Value = serde_json::from_str(&rendered.text).expect("JSON");
        assert_eq!(body["a"], value);
    }
}

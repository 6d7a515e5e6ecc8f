//! What is removed from an event's data before a receiver sees it: PINs and
//! credentials, people's names. Filters and templates see what is left.
//!
//! Works on the data's own text: finds the stretches that have to go and cuts them
//! out, so that **what stays keeps its bytes**. Knows no vendor's rules: they are
//! handed in.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use crate::json::{Json, Kind, Scanner, array_index, pointer_steps};
use crate::pattern::Pattern;

/// From this level on PINs and credentials are removed.
pub const CREDENTIALS_LEVEL: u8 = 1;

/// Removes something from the data of some events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// From which secrecy level on: 1 (credentials) or 2 (people's names).
    pub level: u8,
    /// Of which events.
    pub events: Pattern,
    /// What.
    pub target: Target,
}

/// What a [`Rule`] removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every member with exactly this key, at any depth.
    Key(String),
    /// The value at this JSON Pointer into the data. Of a list, the item goes and
    /// those behind it move up; the empty pointer leaves `null`. A repeated key
    /// is taken each time it stands there.
    Pointer(String),
}

/// The data with everything removed that `rules` remove at `level`; the very same bytes where nothing is.
pub fn redact(data: &Json, event_type: &str, level: u8, rules: &[Rule]) -> Json {
    let mut keys = HashSet::new();
    let mut pointers = Vec::new();
    for rule in rules.iter().filter(|rule| rule.level <= level && rule.events.matches(event_type)) {
        match &rule.target {
            Target::Key(key) => {
                keys.insert(key.as_str());
            }
            Target::Pointer(pointer) => pointers.extend(pointer_steps(pointer)),
        }
    }
    if pointers.iter().any(Vec::is_empty) {
        return Json::NULL;
    }
    if keys.is_empty() && pointers.is_empty() {
        return data.clone();
    }
    let text = data.as_str();
    let mut cutter = Cutter { scanner: Scanner::new(text), keys, cuts: Vec::new() };
    cutter.value(&pointers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    if cutter.cuts.is_empty() {
        return data.clone();
    }
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for cut in &cutter.cuts {
        left.push_str(&text[from..cut.start]);
        from = cut.end;
    }
    left.push_str(&text[from..]);
    Json::from_checked(Bytes::from(left))
}

/// Finds what has to go, in one pass.
struct Cutter<'a> {
    scanner: Scanner<'a>,
    keys: HashSet<&'a str>,
    /// Ascending, apart from each other.
    cuts: Vec<Range<usize>>,
}

impl Cutter<'_> {
    /// Passes one value. `pointers` are what is left of those that lead through it.
    fn value(&mut self, pointers: &[&[String]]) {
        let kind = self.scanner.open();
        if kind == Kind::Scalar {
            self.scanner.value();
            return;
        }
        let mut kept_until = self.scanner.position();
        let mut kept_any = false;
        // Where the parts begin that go and directly precede the next part.
        let mut going_from = None;
        let mut going_until = kept_until;
        let mut index = 0;
        while self.scanner.next_part() {
            let start = self.scanner.position();
            let (goes, below) = match kind {
                Kind::Object => {
                    let key = self.scanner.key();
                    let below = step_into(pointers, |step| step == key);
                    (self.keys.contains(key.as_ref()) || below.iter().any(|rest| rest.is_empty()), below)
                }
                _ => {
                    let below = step_into(pointers, |step| array_index(step) == Some(index));
                    (below.iter().any(|rest| rest.is_empty()), below)
                }
            };
            index += 1;
            if goes {
                self.scanner.value();
                going_from.get_or_insert(start);
                going_until = self.scanner.position();
            } else {
                // With the comma behind the last of them.
                self.cuts.extend(going_from.take().map(|from| from..start));
                self.value(&below);
                kept_until = self.scanner.position();
                kept_any = true;
            }
        }
        // With the comma before the first of them, where something stands before it.
        self.cuts.extend(going_from.map(|from| if kept_any { kept_until } else { from }..going_until));
    }
}

/// The pointers that go through the part that `is_here` names, less that step.
fn step_into<'p>(pointers: &[&'p [String]], is_here: impl Fn(&str) -> bool) -> Vec<&'p [String]> {
    let through = pointers.iter().filter_map(|pointer| pointer.split_first());
    through.filter(|(step, _)| is_here(step)).map(|(_, rest)| rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn key(level: u8, events: &str, key: &str) -> Rule {
        let events = Pattern::parse(events).expect("a pattern");
        Rule { level, events, target: Target::Key(key.to_owned()) }
    }

    fn pointer(pointer: &str) -> Rule {
        Rule { level: 1, events: Pattern::All, target: Target::Pointer(pointer.to_owned()) }
    }

    fn json(text: &str) -> Json {
        Json::parse(Bytes::from(text.to_owned())).expect("valid JSON")
    }

    #[test]
    fn what_rules_name_goes_and_the_rest_keeps_its_bytes() {
        let rules = [key(1, "*", "pin"), pointer("/a/0"), pointer("/card/number"), pointer("/s/t/u")];
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(98), "]".repeat(98));
        for (before, after) in [
            (r#"{"pin":1}"#, r#"{}"#),
            (r#"{ "pin" : 1 }"#, r#"{  }"#),
            (r#"{"pin":1,"x":1.0}"#, r#"{"x":1.0}"#),
            (r#"{ "x" : 1e3 , "pin":1 }"#, r#"{ "x" : 1e3 }"#),
            (r#"{"x":1,"pin":[{"pin":2}],"y":2}"#, r#"{"x":1,"y":2}"#),
            (r#"{"pin":1,"pin":2,"x":3,"pin":4,"pin":5}"#, r#"{"x":3}"#),
            (r#"{"p\u0069n":1,"\u0050in":2}"#, r#"{"\u0050in":2}"#),
            (r#"{"\ud800":1,"pin":2}"#, r#"{"\ud800":1}"#),
            (r#"{"pins":1,"PIN":2}"#, r#"{"pins":1,"PIN":2}"#),
            (r#"{"a":[1, 2 ,3]}"#, r#"{"a":[2 ,3]}"#),
            (r#"{"a":[{"pin":1}]}"#, r#"{"a":[]}"#),
            (r#"{"a":{"0":1,"b":"\/"}}"#, r#"{"a":{"b":"\/"}}"#),
            (r#"{"card":{"number":1,"x":2},"card":{"y":3, "number":4}}"#, r#"{"card":{"x":2},"card":{"y":3}}"#),
            (r#"{"number":1,"card":["number"]}"#, r#"{"number":1,"card":["number"]}"#),
            (r#"{"s":{"t":{"pin":1,"u":2,"v":{"pin":3}}}}"#, r#"{"s":{"t":{"v":{}}}}"#),
            (r#""pin""#, r#""pin""#),
            ("null", "null"),
            (&deep(r#"{"pin":1}"#), &deep("{}")),
        ] {
            assert_eq!(redact(&json(before), "door.opened", 1, &rules).as_str(), after, "{before}");
        }
        assert_eq!(redact(&json(r#"{"x":1}"#), "door.opened", 1, &[pointer("")]), Json::NULL);
    }

    #[test]
    fn rules_apply_by_level_and_type() {
        let rules = [key(1, "door.*", "pin"), key(2, "*", "name")];
        let data = json(r#"{"pin":1,"name":2}"#);
        for (event_type, level, left) in [
            ("door.opened", 0, r#"{"pin":1,"name":2}"#),
            ("door.opened", 1, r#"{"name":2}"#),
            ("door.opened", 2, r#"{}"#),
            ("person.made", 1, r#"{"pin":1,"name":2}"#),
            ("person.made", 2, r#"{"pin":1}"#),
        ] {
            assert_eq!(redact(&data, event_type, level, &rules).as_str(), left, "{event_type} at {level}");
        }
    }

    fn without(value: &Value, keys: &[&str]) -> Value {
        match value {
            Value::Object(members) => members
                .iter()
                .filter(|(key, _)| !keys.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), without(value, keys)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(|item| without(item, keys)).collect(),
            scalar => scalar.clone(),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), ".{0,4}".prop_map(Value::from)];
        scalar.prop_recursive(5, 48, 6, |inner| {
            let members = prop::collection::hash_map("[a-d]|\\PC", inner.clone(), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn cutting_is_what_removing_from_the_tree_is(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let rules = [key(1, "*", "a"), key(1, "*", "c")];
            let left = redact(&json(&text.expect("writes")), "door.opened", 1, &rules);
            let left: Value = serde_json::from_str(left.as_str()).expect("still JSON");
            prop_assert_eq!(left, without(&value, &["a", "c"]));
        }
    }
}

//! Whether an event passes a subscription's filter: conditions on values that
//! JSON Pointers find in it, all of which must hold. Decides from values, and
//! **never fails**: what makes no sense does not hold.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::Value;

use crate::json::{self, Json, Kind, Scanner};
use crate::limits::{CONDITION_VALUES_MAX, NAME_CHARS_MAX};
use crate::model::{Condition, Event, Operator};

/// Whether all conditions hold for `event`, whose data is `data` (secrecy applied).
pub fn holds(conditions: &[Condition], event: &Event, data: &Json) -> bool {
    conditions.iter().all(|condition| condition_holds(condition, event, data))
}

/// What is wrong with a condition's path, as the rest of a sentence.
pub fn check_path(path: &str) -> Result<(), String> {
    let steps = json::pointer_steps(path).filter(|_| path.chars().count() <= NAME_CHARS_MAX);
    let steps: Vec<&str> = steps.iter().flatten().map(String::as_str).collect();
    match steps.as_slice() {
        ["data", ..] => Ok(()),
        [field] if Event::FIELDS.contains(field) => Ok(()),
        _ => Err(format!(
            "must be a JSON Pointer of at most {NAME_CHARS_MAX} characters that begins with /data, or one of /{}",
            Event::FIELDS.join(", /")
        )),
    }
}

/// What is wrong with the value that `op` is to compare with, as the rest of a sentence.
pub fn check_value(op: Operator, value: &Value) -> Result<(), String> {
    let fits = match op {
        Operator::Eq | Operator::Ne | Operator::Contains => true,
        Operator::Lt | Operator::Le | Operator::Gt | Operator::Ge => value.is_number() || value.is_string(),
        Operator::In => value.as_array().is_some_and(|values| (1..=CONDITION_VALUES_MAX).contains(&values.len())),
        Operator::Exists => value.is_boolean(),
        Operator::Prefix => value.is_string(),
    };
    let wanted = match op {
        _ if fits => return Ok(()),
        Operator::In => format!("a list of 1 to {CONDITION_VALUES_MAX} values"),
        Operator::Exists => "true or false".to_owned(),
        Operator::Prefix => "a string".to_owned(),
        _ => "a number or a string".to_owned(),
    };
    Err(format!("must be {wanted} where op is {op}"))
}

fn condition_holds(condition: &Condition, event: &Event, data: &Json) -> bool {
    let value = &condition.value;
    let Some(found) = resolve(&condition.path, event, data) else {
        return match condition.op {
            Operator::Ne => true,
            Operator::Exists => *value == Value::Bool(false),
            _ => false,
        };
    };
    let found = found.as_ref();
    match condition.op {
        Operator::Eq => equal(found, value),
        Operator::Ne => !equal(found, value),
        Operator::Lt => order(found, value).is_some_and(Ordering::is_lt),
        Operator::Le => order(found, value).is_some_and(Ordering::is_le),
        Operator::Gt => order(found, value).is_some_and(Ordering::is_gt),
        Operator::Ge => order(found, value).is_some_and(Ordering::is_ge),
        Operator::In => value.as_array().is_some_and(|values| values.iter().any(|value| equal(found, value))),
        Operator::Exists => *value == Value::Bool(true),
        Operator::Prefix => {
            let prefix = value.as_str();
            prefix.zip(text(found)).is_some_and(|(prefix, found)| found.starts_with(prefix))
        }
        Operator::Contains => match (text(found), value.as_str()) {
            (Some(found), Some(part)) => found.contains(part),
            _ => json::items(found).into_iter().any(|item| equal(item, value)),
        },
    }
}

/// The value at `path`, as JSON text.
fn resolve<'a>(path: &str, event: &Event, data: &'a Json) -> Option<Cow<'a, str>> {
    let steps = json::pointer_steps(path)?;
    let (first, rest) = steps.split_first()?;
    if first == "data" {
        return json::find(data.as_str(), rest).map(Cow::Borrowed);
    }
    let field = event.field(first).filter(|_| rest.is_empty())?;
    Some(Cow::Owned(json::quote(&field)))
}

/// The text of a JSON string.
fn text(json: &str) -> Option<Cow<'_, str>> {
    json.starts_with('"').then(|| json::unescape(json))
}

/// A number, exact where it is whole and has at most 38 digits.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn read(json: &str) -> Option<Number> {
        if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        json.parse().map(Number::Whole).or_else(|_| json.parse().map(Number::Real)).ok()
    }

    fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Whole(one), Number::Whole(other)) => Some(one.cmp(&other)),
            _ => self.real().partial_cmp(&other.real()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }
}

/// How JSON text stands to a value: numbers by value, strings by code points,
/// everything else not at all.
fn order(found: &str, value: &Value) -> Option<Ordering> {
    match value {
        Value::Number(number) => Number::read(found)?.order(Number::read(&number.to_string())?),
        Value::String(other) => Some(text(found)?.as_ref().cmp(other)),
        _ => None,
    }
}

/// Whether JSON text stands for `value`; members in any order, the last one
/// counting where a key is repeated.
fn equal(found: &str, value: &Value) -> bool {
    match value {
        Value::Null => found == "null",
        Value::Bool(truth) => found == if *truth { "true" } else { "false" },
        Value::Number(_) | Value::String(_) => order(found, value) == Some(Ordering::Equal),
        Value::Array(values) => {
            let items = json::items(found);
            found.starts_with('[')
                && items.len() == values.len()
                && items.into_iter().zip(values).all(|(item, value)| equal(item, value))
        }
        Value::Object(values) => {
            let mut scanner = Scanner::new(found);
            if scanner.open() != Kind::Object {
                return false;
            }
            let mut members = HashMap::new();
            while scanner.next_part() {
                let key = scanner.key();
                members.insert(key, scanner.value());
            }
            members.len() == values.len()
                && values.iter().all(|(key, value)| members.get(key.as_str()).is_some_and(|found| equal(found, value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn condition(path: &str, op: Operator, value: Value) -> Condition {
        Condition { path: path.to_owned(), op, value }
    }

    #[test]
    fn conditions_hold_as_documented() {
        use Operator::{Contains, Eq, Exists, Ge, Gt, In, Le, Lt, Ne, Prefix};
        let mut event = Event::sample(
            "door.opened",
            r#"{"n":1.0,"big":9007199254740993,"huge":123456789012345678901234567890,"s":"h\u00e9llo","t":true,"nil":null,
                "list":[1,"two",{"k":[3e0]}],"o":{"a":1,"b":[2]},"dup":1,"dup":2,"half":"\ud800x"}"#,
        );
        event.event_id = Some("evt 1".to_owned());
        for (path, op, value, expected) in [
            ("/type", Eq, json!("door.opened"), true),
            ("/type", Prefix, json!("door."), true),
            ("/organization", In, json!(["x", "acme"]), true),
            ("/source", Contains, json!("nel-"), true),
            ("/subject", Exists, json!(false), true),
            ("/subject", Exists, json!(true), false),
            ("/subject", Ne, json!("x"), true),
            ("/subject", Eq, json!(null), false),
            ("/id", Eq, json!("evt 1"), true),
            ("/event_id", Eq, json!("evt 1"), true),
            ("/occurred_at", Ge, json!("2026-03-17T14:30:00.000Z"), true),
            ("/type/0", Exists, json!(true), false),
            ("/data/n", Eq, json!(1), true),
            ("/data/n", Eq, json!(1.0), true),
            ("/data/n", Eq, json!(true), false),
            ("/data/n", Eq, json!("1"), false),
            ("/data/n", Ne, json!("1"), true),
            ("/data/n", Lt, json!(1.5), true),
            ("/data/n", Le, json!(1), true),
            ("/data/n", Gt, json!(1), false),
            ("/data/n", Gt, json!(-1), true),
            ("/data/n", Lt, json!("2"), false),
            ("/data/big", Eq, json!(9007199254740993_i64), true),
            ("/data/big", Eq, json!(9007199254740992_i64), false),
            ("/data/big", Gt, json!(9007199254740992_i64), true),
            ("/data/huge", Eq, serde_json::from_str("123456789012345678901234567890").unwrap(), true),
            ("/data/huge", Gt, json!(u64::MAX), true),
            ("/data/s", Eq, json!("héllo"), true),
            ("/data/s", Prefix, json!("hé"), true),
            ("/data/s", Prefix, json!(1), false),
            ("/data/s", Contains, json!("éll"), true),
            ("/data/s", Lt, json!("i"), true),
            ("/data/t", Eq, json!(true), true),
            ("/data/t", Lt, json!(true), false),
            ("/data/nil", Exists, json!(true), true),
            ("/data/nil", Eq, json!(null), true),
            ("/data/nope", Eq, json!(null), false),
            ("/data/nope", Ne, json!(null), true),
            ("/data/nope", Lt, json!(1), false),
            ("/data/list/1", Eq, json!("two"), true),
            ("/data/list", Contains, json!("two"), true),
            ("/data/list", Contains, json!(1.0), true),
            ("/data/list", Contains, json!({"k": [3]}), true),
            ("/data/list", Contains, json!("on"), false),
            ("/data/list", Eq, json!([1, "two", {"k": [3]}]), true),
            ("/data/list", Eq, json!([1, "two"]), false),
            ("/data/o", Eq, json!({"b": [2.0], "a": 1}), true),
            ("/data/o", Eq, json!({"a": 1}), false),
            ("/data/o", Contains, json!("a"), false),
            ("/data/o", In, json!([1, {"a": 1, "b": [2]}]), true),
            ("/data/dup", Eq, json!(2), true),
            ("/data/half", Eq, json!("\u{fffd}x"), true),
            ("/data", Exists, json!(true), true),
            ("/data/o", Exists, json!("yes"), false),
            ("/data/o", In, json!("a"), false),
            ("", Exists, json!(true), false),
            ("data", Exists, json!(true), false),
            ("/other", Exists, json!(false), true),
        ] {
            let told = format!("{path} {op} {value}");
            assert_eq!(holds(&[condition(path, op, value)], &event, &event.data), expected, "{told}");
        }
        assert!(holds(&[], &event, &event.data));
        let both = [condition("/data/n", Eq, json!(1)), condition("/data/n", Eq, json!(2))];
        assert!(!holds(&both, &event, &event.data));
    }

    #[test]
    fn what_cannot_hold_is_refused() {
        for right in ["/type", "/id", "/event_id", "/occurred_at", "/data", "/data/", "/data/a~0b/0"] {
            assert_eq!(check_path(right), Ok(()), "{right}");
        }
        for wrong in
            ["", "/", "type", "/types", "/type/x", "/data/a~2", "data/a", &format!("/data/{}", "x".repeat(255))]
        {
            assert!(check_path(wrong).is_err(), "{wrong}");
        }
        for (op, value, right) in [
            (Operator::Eq, json!({"a": null}), true),
            (Operator::Lt, json!(1), true),
            (Operator::Ge, json!("a"), true),
            (Operator::Gt, json!(true), false),
            (Operator::In, json!([1]), true),
            (Operator::In, json!([]), false),
            (Operator::In, json!(vec![0; CONDITION_VALUES_MAX + 1]), false),
            (Operator::In, json!("a"), false),
            (Operator::Exists, json!(false), true),
            (Operator::Exists, json!(0), false),
            (Operator::Prefix, json!("a"), true),
            (Operator::Prefix, json!(1), false),
        ] {
            assert_eq!(check_value(op, &value).is_ok(), right, "{op} {value}");
        }
    }

    /// Small values of every kind, so that equal ones are met.
    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2i64..3).prop_map(Value::from),
            (-2i64..3).prop_map(|half| json!(half as f64 / 2.0)),
            "[ab\"\\\\]{0,2}".prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[ab]", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn naive_equal(one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| naive_equal(one, other))
            }
            (Value::Object(one), Value::Object(other)) => {
                one.len() == other.len()
                    && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| naive_equal(one, other)))
            }
            _ => one == other,
        }
    }

    fn naive(found: Option<&Value>, op: Operator, value: &Value) -> bool {
        let order = |found: &Value| match (found, value) {
            (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
            (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
            _ => None,
        };
        let Some(found) = found else { return op == Operator::Ne || op == Operator::Exists && *value == json!(false) };
        match op {
            Operator::Eq => naive_equal(found, value),
            Operator::Ne => !naive_equal(found, value),
            Operator::Lt => order(found) == Some(Ordering::Less),
            Operator::Le => matches!(order(found), Some(Ordering::Less | Ordering::Equal)),
            Operator::Gt => order(found) == Some(Ordering::Greater),
            Operator::Ge => matches!(order(found), Some(Ordering::Greater | Ordering::Equal)),
            Operator::In => value.as_array().is_some_and(|values| values.iter().any(|it| naive_equal(found, it))),
            Operator::Exists => *value == json!(true),
            Operator::Prefix => match (found, value) {
                (Value::String(found), Value::String(value)) => found.starts_with(value),
                _ => false,
            },
            Operator::Contains => match (found, value) {
                (Value::String(found), Value::String(value)) => found.contains(value),
                (Value::Array(items), value) => items.iter().any(|item| naive_equal(item, value)),
                _ => false,
            },
        }
    }

    proptest! {
        #[test]
        fn filters_agree_with_a_naive_one(
            data in any_json(),
            path in "(/[ab01]){0,3}",
            op in prop::sample::select(Operator::ALL),
            value in any_json(),
        ) {
            let event = Event::sample("door.opened", &serde_json::to_string_pretty(&data).expect("writes"));
            let expected = naive(data.pointer(&path), op, &value);
            let conditions = [condition(&format!("/data{path}"), op, value)];
            prop_assert_eq!(holds(&conditions, &event, &event.data), expected);
        }
    }
}

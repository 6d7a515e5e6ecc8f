//! JSON text with other white space, and nothing else changed: numbers, strings and
//! repeated keys keep their spelling. Takes the text for valid: of what is not it
//! makes nonsense, but neither panics nor loops.

use super::Scanner;
use crate::limits::JSON_DEPTH_MAX;

/// On one line, without white space.
pub(crate) fn compact(text: &str) -> String {
    lay_out(text, None)
}

/// A line for each part, indented by two spaces for each level, as serde_json lays out.
pub(crate) fn pretty(text: &str) -> String {
    lay_out(text, Some("  "))
}

fn lay_out(text: &str, indent: Option<&str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    let new_line = |out: &mut String, depth: usize| {
        let Some(indent) = indent else { return };
        out.push('\n');
        // Or what is nested very deep takes far more room than it has bytes.
        (0..depth.min(JSON_DEPTH_MAX)).for_each(|_| out.push_str(indent));
    };
    let mut rest = text.trim_start();
    while let Some(first) = rest.bytes().next() {
        let (token, behind) = rest.split_at(token_bytes(rest));
        rest = behind.trim_start();
        match first {
            b'{' | b'[' if rest.starts_with(['}', ']']) => {
                // Nothing is in it: both brackets stay together.
                out.push_str(token);
                out.push_str(&rest[..1]);
                rest = rest[1..].trim_start();
            }
            b'{' | b'[' => {
                depth += 1;
                out.push_str(token);
                new_line(&mut out, depth);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push_str(token);
            }
            b',' => {
                out.push_str(token);
                new_line(&mut out, depth);
            }
            b':' => out.push_str(if indent.is_some() { ": " } else { ":" }),
            _ => out.push_str(token),
        }
    }
    out
}

/// How long what `text` begins with is: a bracket, comma, colon, string, number or word.
fn token_bytes(text: &str) -> usize {
    match text.starts_with(['{', '}', '[', ']', ',', ':']) {
        true => 1,
        false => Scanner::new(text).value().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn spelling_stays_and_white_space_goes() {
        let text = " { \"a\" : [ 1e3, 1.50 ,\n12345678901234567890123 , -0 ] ,\"b \\\" }\" :{ } , \"b\":[\t],\"\\u00e9\":null}\n";
        let expected = r#"{"a":[1e3,1.50,12345678901234567890123,-0],"b \" }":{},"b":[],"\u00e9":null}"#;
        assert_eq!(compact(text), expected);
        assert_eq!(compact(&pretty(text)), expected);
        assert_eq!(pretty(r#"{"a":[1e3,{}],"b":"\\"}"#), "{\n  \"a\": [\n    1e3,\n    {}\n  ],\n  \"b\": \"\\\\\"\n}");
        assert_eq!((compact(" 1.0 ").as_str(), pretty("\"x y\"").as_str()), ("1.0", "\"x y\""));
    }

    /// Twice as deep takes twice the room, not four times.
    #[test]
    fn what_is_nested_very_deep_is_not_indented_further() {
        let nested = |levels: usize| pretty(&format!("{}1{}", "[".repeat(levels), "]".repeat(levels))).len();
        let line = 2 * (2 * JSON_DEPTH_MAX + 2);
        assert_eq!(nested(20_000) - nested(10_000), 10_000 * line);
    }

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![any::<i64>().prop_map(Value::from), ".{0,6}".prop_map(Value::from), Just(Value::Null)];
        scalar.prop_recursive(4, 32, 4, |inner| {
            let members = prop::collection::btree_map(".{0,6}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_laid_out_as_serde_does(value in value()) {
            let spread = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(pretty(&value.to_string()), spread.as_str());
            prop_assert_eq!(compact(&spread), value.to_string());
        }

        #[test]
        fn no_text_is_too_broken(text in r#"[\{\}\[\],:"\\ a1é]{0,40}"#) {
            let seen = |text: &str| text.chars().filter(|at| !at.is_whitespace()).collect::<String>();
            prop_assert_eq!(seen(&compact(&text)), seen(&text));
            prop_assert_eq!(seen(&pretty(&text)), seen(&text));
        }
    }
}

//! Walks JSON text once, from left to right, and decodes only what is looked at.
//! Takes the text for valid: what is not leads to nonsense, but neither to a
//! panic nor to an endless loop.

use std::borrow::Cow;
use std::ops::Range;

/// What a value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// A string, number, boolean or null.
    Scalar,
}

/// A place in JSON text.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Stands before the value that `text` is.
    pub(crate) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// The byte offset.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, which is passed.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps into the object or array that stands here; stays before a scalar.
    pub(crate) fn open(&mut self) -> Kind {
        let kind = match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            _ => return Kind::Scalar,
        };
        self.at += 1;
        kind
    }

    /// Inside an object or array: moves to its next part. `false`: there is none,
    /// and the closing bracket is passed.
    pub(crate) fn next_part(&mut self) -> bool {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.peek().is_some()
            }
            Some(b'}' | b']') => {
                self.at += 1;
                false
            }
            next => next.is_some(),
        }
    }

    /// Before a member: its decoded key. Moves to its value.
    pub(crate) fn key(&mut self) -> Cow<'a, str> {
        let key = unescape(self.value());
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        key
    }

    /// The value that stands here, in its own spelling. Moves past it.
    pub(crate) fn value(&mut self) -> &'a str {
        let first = self.peek();
        let span = match first {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        };
        &self.text[span]
    }

    fn string(&mut self) -> Range<usize> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        for byte in &self.text.as_bytes()[self.at..] {
            self.at += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        start..self.at
    }

    fn container(&mut self) -> Range<usize> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        start..self.at
    }

    fn scalar(&mut self) -> Range<usize> {
        let start = self.at;
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let rest = &self.text.as_bytes()[start..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        start..self.at
    }
}

/// The value that `path` leads to: a key of an object (the last one, where it is
/// repeated, as most parsers take it) or an index of an array at each step.
pub fn find<'a, S: AsRef<str>>(text: &'a str, path: &[S]) -> Option<&'a str> {
    find_below(&mut Scanner::new(text), path)
}

fn find_below<'a, S: AsRef<str>>(scanner: &mut Scanner<'a>, path: &[S]) -> Option<&'a str> {
    let Some((step, rest)) = path.split_first() else { return Some(scanner.value()) };
    let step = step.as_ref();
    let mut found = None;
    match scanner.open() {
        Kind::Object => {
            while scanner.next_part() {
                if scanner.key() == step {
                    found = find_below(scanner, rest);
                } else {
                    scanner.value();
                }
            }
        }
        Kind::Array => {
            let wanted = array_index(step);
            let mut index = 0;
            while scanner.next_part() {
                if wanted == Some(index) {
                    found = find_below(scanner, rest);
                } else {
                    scanner.value();
                }
                index += 1;
            }
        }
        Kind::Scalar => {
            scanner.value();
        }
    }
    found
}

/// The items of an array; none of anything else.
pub fn items(text: &str) -> Vec<&str> {
    let mut scanner = Scanner::new(text);
    let mut items = Vec::new();
    if scanner.open() == Kind::Array {
        while scanner.next_part() {
            items.push(scanner.value());
        }
    }
    items
}

/// The index that a step of a JSON Pointer is in an array: digits without a
/// leading zero (RFC 6901, section 4).
pub(crate) fn array_index(step: &str) -> Option<usize> {
    let canonical = step == "0" || !step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit());
    step.parse().ok().filter(|_| canonical)
}

/// The steps of a JSON Pointer (RFC 6901); none: the text is not one.
pub fn pointer_steps(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    pointer.strip_prefix('/')?.split('/').map(pointer_step).collect()
}

fn pointer_step(escaped: &str) -> Option<String> {
    let mut parts = escaped.split('~');
    let mut step = parts.next()?.to_owned();
    for part in parts {
        let (plain, rest) = match part.as_bytes().first()? {
            b'0' => ('~', &part[1..]),
            b'1' => ('/', &part[1..]),
            _ => return None,
        };
        step.push(plain);
        step.push_str(rest);
    }
    Some(step)
}

/// The text that a string literal stands for. Half a surrogate pair, which
/// no text can hold, becomes U+FFFD. What is no string is taken as it is.
pub fn unescape(literal: &str) -> Cow<'_, str> {
    let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(literal);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let mut after = rest[backslash + 1..].chars();
        let escape = after.next();
        rest = after.as_str();
        match escape {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (character, tail) = code_point(rest);
                text.push(character);
                rest = tail;
            }
            Some(plain) => text.push(plain),
            None => {}
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Reads what follows `\u`, the second half of a pair included.
fn code_point(text: &str) -> (char, &str) {
    const UNKNOWN: char = char::REPLACEMENT_CHARACTER;
    let Some((high, tail)) = code_unit(text) else { return (UNKNOWN, text) };
    if let Some(character) = char::from_u32(high) {
        return (character, tail);
    }
    let low = tail.strip_prefix("\\u").and_then(code_unit);
    match low {
        Some((low @ 0xdc00..=0xdfff, after)) if high < 0xdc00 => {
            let joined = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(joined).unwrap_or(UNKNOWN), after)
        }
        _ => (UNKNOWN, tail),
    }
}

fn code_unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, &text[4..]))
}

/// `text` as a JSON string literal.
pub fn quote(text: &str) -> String {
    // Text can always be written.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
        find(text, &pointer_steps(pointer)?)
    }

    #[test]
    fn pointers_find_what_rfc_6901_says() {
        let text = r#" { "a" : [ 10 , {"b/c":1,"m~n":2, "~1":3} ] ,"x":{"y":1},"x":2,"":3, "p\u0069n":"\"}" } "#;
        for (path, found) in [
            ("/a/0", Some("10")),
            ("/a/1/b~1c", Some("1")),
            ("/a/1/m~0n", Some("2")),
            ("/a/1/~01", Some("3")),
            ("/a/1", Some(r#"{"b/c":1,"m~n":2, "~1":3}"#)),
            ("/x", Some("2")),
            ("/x/y", None),
            ("/", Some("3")),
            ("/pin", Some(r#""\"}""#)),
            ("/a/00", None),
            ("/a/+1", None),
            ("/a/-", None),
            ("/a/2", None),
            ("/a/99999999999999999999", None),
            ("/a/0/b", None),
            ("/a/1/m~2n", None),
            ("/a/1/m~", None),
            ("a", None),
        ] {
            assert_eq!(at(text, path), found, "{path}");
        }
        assert_eq!(at("[1]", ""), Some("[1]"));
    }

    #[test]
    fn strings_are_decoded_whatever_they_hold() {
        for (literal, text) in [
            (r#""plain""#, "plain"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83d!""#, "\u{fffd}!"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\u12""#, "\u{fffd}12"),
            ("no literal", "no literal"),
        ] {
            assert_eq!(unescape(literal), text, "{literal}");
        }
    }

    proptest! {
        #[test]
        fn quoting_inverts(text in ".*") {
            let quoted = quote(&text);
            prop_assert_eq!(unescape(&quoted), text);
        }

        #[test]
        fn nonsense_neither_panics_nor_hangs(text in "[\\[\\]{}:,\"\\\\a1 é]{0,40}") {
            let _ = find(&text, &["a", "1"]);
            let _ = items(&text);
        }
    }
}

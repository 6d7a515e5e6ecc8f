//! TOML to a tree of JSON values that `input` reads, with the line of every key.
//! Knows no setting by name.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::model::Fault;

/// A parsed document.
#[derive(Default)]
pub(super) struct Document {
    /// What it says.
    pub(super) root: Map<String, Value>,
    /// The line, from 1, on which each path stands: `delivery.timeout`, `api_keys[0].name`.
    pub(super) lines: HashMap<String, usize>,
    /// Values that TOML allows and no setting takes; they are not in `root`.
    pub(super) faults: Vec<Fault>,
}

/// The text is not TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// What is wrong.
    pub(super) message: String,
}

/// Reads `text`; every syntax fault, one a line, when it is not TOML.
pub(super) fn parse(text: &str) -> Result<Document, Vec<SyntaxFault>> {
    let positions = Positions::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut faults: Vec<SyntaxFault> = errors
            .iter()
            .map(|error| {
                let offset = error.span().map_or(0, |span| span.start);
                let message = error.message().to_owned();
                SyntaxFault { line: positions.line(offset), column: positions.column(offset), message }
            })
            .collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup_by_key(|fault| fault.line);
        return Err(faults);
    }
    let mut reader = Reader { positions, document: Document::default() };
    let root = reader.table("", table.get_ref());
    Ok(Document { root, ..reader.document })
}

/// Lays `over` over `base`: tables are joined key by key, everything else is replaced.
pub(super) fn lay_over(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// `name` below `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Reader<'a> {
    positions: Positions<'a>,
    document: Document,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Map<String, Value> {
        // The parser's map is sorted by key; faults are told in the file's order.
        let mut members: Vec<_> = table.iter().collect();
        members.sort_by_key(|(key, _)| key.span().start);
        let mut map = Map::new();
        for (key, value) in members {
            let path = join(path, key.get_ref());
            self.document.lines.insert(path.clone(), self.positions.line(key.span().start));
            if let Some(value) = self.value(&path, value.get_ref()) {
                map.insert(key.get_ref().to_string(), value);
            }
        }
        map
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>) -> Option<Value> {
        match value {
            DeValue::String(text) => Some(Value::from(text.as_ref())),
            DeValue::Boolean(value) => Some(Value::from(*value)),
            DeValue::Integer(number) => {
                let whole = i64::from_str_radix(number.as_str(), number.radix());
                self.or_fault(path, whole.ok().map(Value::from), "is larger than any number that is taken")
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(Number::from_f64);
                self.or_fault(path, number.map(Value::Number), "must be a finite number")
            }
            DeValue::Datetime(time) => {
                let time = path.ends_with("_at").then(|| Value::from(time.to_string()));
                self.or_fault(path, time, "must not be a date")
            }
            DeValue::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.document.lines.insert(path.clone(), self.positions.line(item.span().start));
                    // An item that is at fault keeps its place, so that the indices of the others stay true.
                    values.push(self.value(&path, item.get_ref()).unwrap_or(Value::Null));
                }
                Some(Value::Array(values))
            }
            DeValue::Table(table) => Some(Value::Object(self.table(path, table))),
        }
    }

    fn or_fault(&mut self, path: &str, value: Option<Value>, message: &str) -> Option<Value> {
        if value.is_none() {
            self.document.faults.push(Fault::new(path, message));
        }
        value
    }
}

/// Byte offsets to lines and columns.
struct Positions<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Positions<'a> {
    fn new(text: &'a str) -> Positions<'a> {
        let starts = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Positions { text, line_starts: std::iter::once(0).chain(starts).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn column(&self, offset: usize) -> usize {
        let start = self.line_starts[self.line(offset) - 1];
        self.text.get(start..offset).map_or(1, |before| before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_has_its_line() {
        let text = "a = 1\n[b]\nc = [\n  1,\n  2,\n]\n\n[[d]]\ne = true\n[[d]]\ne.f = \"x\"\n[g.h]\ni = { j = 0x10 }\n";
        let document = parse(text).expect("TOML");
        assert_eq!(
            Value::Object(document.root),
            json!({"a": 1, "b": {"c": [1, 2]}, "d": [{"e": true}, {"e": {"f": "x"}}], "g": {"h": {"i": {"j": 16}}}})
        );
        for (path, line) in [
            ("a", 1),
            ("b", 2),
            ("b.c", 3),
            ("b.c[1]", 5),
            ("d[0]", 8),
            ("d[0].e", 9),
            ("d[1]", 10),
            ("d[1].e.f", 11),
            ("g.h", 12),
            ("g.h.i.j", 13),
        ] {
            assert_eq!(document.lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn syntax_faults_say_where() {
        let faults = parse("a = 1\nb = \n[c\né = 'x' y\n").err().expect("not TOML");
        let places: Vec<(usize, usize)> = faults.iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(places[0].0, 2);
        assert!(places.iter().any(|(line, _)| *line == 3), "{faults:?}");
        let faults = parse("a = 1\na = 2\n").err().expect("a twice");
        assert_eq!((faults[0].line, faults[0].column), (2, 1), "{faults:?}");
    }

    #[test]
    fn what_no_setting_takes_is_a_fault() {
        let document = parse("a = nan\nb = 99999999999999999999\nc = 2026-01-01\nexpires_at = 2026-01-01T00:00:00Z\n")
            .expect("TOML");
        let told: Vec<&str> = document.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(told, ["a", "b", "c"]);
        assert_eq!(Value::Object(document.root), json!({"expires_at": "2026-01-01T00:00:00Z"}));
    }
}

//! Standard output and input for all commands.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

use super::Failure;
use crate::config;

/// Prints `text` and ends the line.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|error| Failure::of_output("standard output", &error))
}

/// The same on standard error: what is to be known beside what was asked for.
pub(super) fn tell(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stderr(), "{text}").map_err(|error| Failure::of_output("standard error", &error))
}

/// Two columns, the first as wide as it must be.
pub(super) fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// One row a value of `value`, named by its path, so that nothing here changes when
/// the daemon comes to tell more.
pub(super) fn rows(value: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    collect("", value, &mut rows);
    rows
}

fn collect(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('_', " ");
                let path = if path.is_empty() { name } else { format!("{path} {name}") };
                collect(&path, value, rows);
            }
        }
        other => rows.push((path.to_owned(), cell(other))),
    }
}

/// A value where a row has room for it: text without its quotes, nothing as a dash.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// `text` from a stranger, made harmless for a terminal: control characters but
/// line breaks and tabs are escaped.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown.extend(control.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

/// The bytes of a file, or of standard input for `-`.
pub(super) fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
}

/// The same for a secret, which everybody else must not be able to read.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, Failure> {
    match config::open_to_everybody(path).filter(|_| path != Path::new("-")) {
        Some(open) => Err(Failure::usage(format!("{} {open}", path.display()))),
        None => read_input(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_terminals_are_safe() {
        let rows = [("a".to_owned(), "1".to_owned()), ("long".to_owned(), "2".to_owned())];
        assert_eq!(table(&rows), "a     1\nlong  2");
        assert_eq!(printable("a\u{1b}[2J\n\u{9b}ü"), "a\\u{1b}[2J\n\\u{9b}ü");
    }
}

//! Environment variables: those that override single keys of the configuration,
//! and the few others that the program looks at.

// The one room that may: see clippy.toml.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use serde_json::{Map, Number, Value};

use super::document::join;
use crate::input::nearest;
use crate::secret::Secret;

/// What begins every variable of ours.
pub const PREFIX: &str = "POSTHASTE_";
/// The path of the configuration file, where `--config` does not say.
pub const CONFIG: &str = "POSTHASTE_CONFIG";
/// The API token that the command line shows.
pub const TOKEN: &str = "POSTHASTE_TOKEN";
/// The API that the command line calls.
pub const URL: &str = "POSTHASTE_URL";
/// The signing secret of the command line's `sign`, `verify` and `listen`.
pub const SECRET: &str = "POSTHASTE_SECRET";
/// What asks for completions of a command line, as the script of `completions` sets it.
pub const COMPLETE: &str = "POSTHASTE_COMPLETE";
/// Where it is set, nothing is coloured: see <https://no-color.org>.
pub const NO_COLOR: &str = "NO_COLOR";
/// Which part of the daemon is to end from within: see [`crate::fault`].
#[cfg(debug_assertions)]
pub const TEST_FAULT: &str = "POSTHASTE_TEST_FAULT";
/// Where systemd connected stderr to, as `device:inode`.
pub const JOURNAL_STREAM: &str = "JOURNAL_STREAM";
/// Where systemd puts the credentials of a service.
pub const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const RESERVED: &[&str] = &[
    CONFIG,
    TOKEN,
    URL,
    SECRET,
    COMPLETE,
    #[cfg(debug_assertions)]
    TEST_FAULT,
];

/// Every variable of this process.
pub fn of_process() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// [`CONFIG`], where it is set and not empty.
pub fn config_path() -> Option<PathBuf> {
    std::env::var_os(CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// One of ours that is text, where it is set and not empty.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The same, where it must not be seen.
pub fn secret(name: &str) -> Option<Secret> {
    text(name).map(Secret::new)
}

/// How many of the files that this process may have open one kind of connection may
/// take: callers', those that wait for another request to a receiver, and those of
/// attempts in flight. The last quarter is for the store and for resolving names.
pub fn open_files_share() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(usize::MAX, |most| usize::try_from(most / 4).unwrap_or(usize::MAX).max(2))
}

/// Where temporary folders are made.
pub fn temporary_folder() -> PathBuf {
    std::env::temp_dir()
}

/// A listener that the service manager opened for this process (`man 3 sd_listen_fds`).
pub enum Handed {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Takes what the service manager handed over, once. Changes the environment: to be
/// called before there is another thread.
///
/// # Errors
/// When it is no stream socket.
pub fn take_handed() -> io::Result<Vec<Handed>> {
    let mut handed = ListenFd::from_env();
    let mut taken = Vec::with_capacity(handed.len());
    for index in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
            taken.push(Handed::Tcp(listener));
        } else if let Some(listener) = handed.take_unix_listener(index)? {
            taken.push(Handed::Unix(listener));
        }
    }
    Ok(taken)
}

/// A variable that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariableFault {
    /// Its name.
    pub(super) variable: String,
    /// What is wrong, as the rest of a sentence that begins with the name.
    pub(super) message: String,
}

/// What the environment overrides.
#[derive(Default)]
pub(super) struct Overrides {
    /// The tree of the overridden keys.
    pub(super) root: Map<String, Value>,
    /// Which variable set which path.
    pub(super) variables: BTreeMap<String, String>,
    /// Where systemd put the credentials of this process: [`CREDENTIALS_DIRECTORY`].
    pub(super) credentials: Option<String>,
    /// Variables that are not known or not readable.
    pub(super) faults: Vec<VariableFault>,
}

/// The variable of each key of `example` that is no table, with the key's path and value.
pub(super) fn names(example: &Map<String, Value>) -> Vec<(String, (String, &Value))> {
    let name = |path: &str| format!("{PREFIX}{}", path.replace('.', "_").to_ascii_uppercase());
    leaves("", example).into_iter().map(|(path, value)| (name(&path), (path, value))).collect()
}

fn leaves<'a>(path: &str, table: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let path = join(path, key);
        match value {
            Value::Object(below) => found.extend(leaves(&path, below)),
            value => found.push((path, value)),
        }
    }
    found
}

/// Reads `variables`, each as the type that its key has in `example`.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    example: &Map<String, Value>,
) -> Overrides {
    let known: BTreeMap<String, (String, &Value)> = names(example).into_iter().collect();
    let mut overrides = Overrides::default();
    for (variable, value) in variables {
        if variable == CREDENTIALS_DIRECTORY {
            overrides.credentials = value.into_string().ok();
            continue;
        }
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if RESERVED.contains(&variable) {
            continue;
        }
        match one(variable, value, &known) {
            Ok((path, value)) => {
                put(&mut overrides.root, &path, value);
                overrides.variables.insert(path, variable.to_owned());
            }
            Err(message) => overrides.faults.push(VariableFault { variable: variable.to_owned(), message }),
        }
    }
    overrides.faults.sort_by(|a, b| a.variable.cmp(&b.variable));
    overrides
}

fn one(variable: &str, value: OsString, known: &BTreeMap<String, (String, &Value)>) -> Result<(String, Value), String> {
    let Some((path, example)) = known.get(variable) else {
        let names = known.keys().map(String::as_str).chain(RESERVED.iter().copied());
        return Err(match nearest(variable, names) {
            Some(near) => format!("is not known; did you mean {near}?"),
            None => "is not known".to_owned(),
        });
    };
    let text = value.into_string().map_err(|_| "must be valid UTF-8".to_owned())?;
    Ok((path.clone(), typed(text, example)?))
}

fn typed(text: String, example: &Value) -> Result<Value, String> {
    match example {
        Value::Bool(_) => text.parse().map(Value::Bool).map_err(|_| "must be true or false".to_owned()),
        Value::Number(_) => {
            let whole = text.parse::<i64>().ok().map(Number::from);
            let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
            number.map(Value::Number).ok_or_else(|| "must be a number".to_owned())
        }
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(Value::from).collect())
        }
        _ => Ok(Value::String(text)),
    }
}

fn put(table: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((name, rest)) => {
            let below = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Map<String, Value> {
        let tree = json!({"a": {"on": true, "b_c": {"wait": "1s"}, "names": [], "rate": 0}});
        tree.as_object().expect("an object").clone()
    }

    fn read_these(variables: &[(&str, &str)]) -> Overrides {
        read(variables.iter().map(|(name, value)| (name.into(), value.into())), &example())
    }

    #[test]
    fn variables_take_their_keys_type() {
        let overrides = read_these(&[
            ("POSTHASTE_A_ON", "false"),
            ("POSTHASTE_A_B_C_WAIT", "2s"),
            ("POSTHASTE_A_NAMES", "x, y,"),
            ("POSTHASTE_A_RATE", "0.5"),
            ("POSTHASTE_CONFIG", "/etc/x"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(overrides.faults, []);
        assert_eq!(
            Value::Object(overrides.root),
            json!({"a": {"on": false, "b_c": {"wait": "2s"}, "names": ["x", "y"], "rate": 0.5}})
        );
        assert_eq!(overrides.variables["a.b_c.wait"], "POSTHASTE_A_B_C_WAIT");
    }

    #[test]
    fn wrong_variables_are_told() {
        let overrides = read_these(&[
            ("POSTHASTE_A_ON", "yes"),
            ("POSTHASTE_A_NAME", "x"),
            ("POSTHASTE_TOKN", "x"),
            ("POSTHASTE_SOMETHING_ELSE_ENTIRELY", "x"),
        ]);
        let told: Vec<String> =
            overrides.faults.iter().map(|fault| format!("{} {}", fault.variable, fault.message)).collect();
        assert_eq!(
            told,
            [
                "POSTHASTE_A_NAME is not known; did you mean POSTHASTE_A_NAMES?",
                "POSTHASTE_A_ON must be true or false",
                "POSTHASTE_SOMETHING_ELSE_ENTIRELY is not known",
                "POSTHASTE_TOKN is not known; did you mean POSTHASTE_TOKEN?",
            ]
        );
        assert!(overrides.root.is_empty());
    }
}

//! From a file and an environment to a [`Config`], or to every fault with its place.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Config, credentials, document, environment, keys, read};
use crate::input::Faults;
use crate::model::Fault;

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// The configuration and where it came from, so that it can be read again.
#[derive(Clone)]
pub struct Loaded {
    /// What is configured.
    pub config: Config,
    /// The file; none: defaults and environment alone.
    pub path: Option<PathBuf>,
}

impl Loaded {
    /// Reads the file and this process's environment.
    pub fn read(path: Option<PathBuf>) -> Result<Loaded, ConfigErrors> {
        let config = load(path.as_deref(), environment::of_process())?;
        Ok(Loaded { config, path })
    }

    /// Reads the same again: what a reload does.
    pub fn again(&self) -> Result<Loaded, ConfigErrors> {
        Loaded::read(self.path.clone())
    }
}

/// Everything that is wrong with a configuration. Shown as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file that was read, if one was.
    pub path: Option<PathBuf>,
    /// In the file's order; those of no line first.
    pub faults: Vec<LocatedFault>,
}

/// A fault and where to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedFault {
    /// Where.
    pub place: Place,
    /// The setting's path; empty where the place itself is wrong.
    pub field: String,
    /// What is wrong, as the rest of a sentence that begins with the field.
    pub message: String,
}

/// Where a fault stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the environment variable of that name.
    Variable(String),
    /// In no line: something is absent.
    Nowhere,
    /// In a line of the file, from 1.
    Line(usize),
    /// In a line and column, from 1.
    LineColumn(usize, usize),
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.path.as_deref().unwrap_or(Path::new("configuration")).display();
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match &fault.place {
                Place::Variable(name) => write!(f, "{name}: ")?,
                Place::Nowhere => write!(f, "{file}: ")?,
                Place::Line(line) => write!(f, "{file}:{line}: ")?,
                Place::LineColumn(line, column) => write!(f, "{file}:{line}:{column}: ")?,
            }
            if !fault.field.is_empty() {
                write!(f, "{} ", fault.field)?;
            }
            f.write_str(&fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads the file at `path`, if one is given, and `variables` over it.
pub fn load(
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigErrors> {
    let errors = |faults| ConfigErrors { path: path.map(Path::to_owned), faults };
    let text = match path {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot be read: {error}");
            errors(vec![LocatedFault { place: Place::Nowhere, field: String::new(), message }])
        })?,
    };
    let mut config = parse(&text, variables).map_err(errors)?;
    // It stands beside the file, wherever the daemon is started.
    if let (Some(folder), Some(beside)) = (&mut config.service.declared_in, path.and_then(Path::parent)) {
        *folder = beside.join(&folder);
    }
    Ok(config)
}

/// The same for a file's text; looks at the files that the configuration names.
pub(crate) fn parse(
    text: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Vec<LocatedFault>> {
    let example = syntax(document::parse(EXAMPLE))?.root;
    let user = syntax(document::parse(text))?;
    let overrides = environment::read(variables, &example);

    let mut root = example;
    document::lay_over(&mut root, user.root);
    document::lay_over(&mut root, overrides.root);
    if let Some(folder) = &overrides.credentials {
        credentials::resolve(&mut root, folder);
    }
    let faults = Faults::new();
    faults.extend(user.faults);
    let mut config = read::config(&root, &faults);
    faults.extend(check_files(&root));
    let keyring = keys::keyring(&root, &faults);
    if let Some(config) = &mut config {
        config.storage.keyring = Arc::new(keyring);
    }

    let place = |field: &str| {
        let mut path = field;
        loop {
            if let Some(variable) = overrides.variables.get(path) {
                return Place::Variable(variable.clone());
            }
            if let Some(line) = user.lines.get(path) {
                return Place::Line(*line);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Place::Nowhere,
            }
        }
    };
    let mut told = HashSet::new();
    let mut located: Vec<LocatedFault> = faults
        .into_vec()
        .into_iter()
        .filter(|fault| told.insert(fault.field.clone()))
        .map(|Fault { field, message }| LocatedFault { place: place(&field), field, message })
        .collect();
    located.extend(overrides.faults.into_iter().map(|fault| LocatedFault {
        place: Place::Variable(fault.variable),
        field: String::new(),
        message: fault.message,
    }));
    located.sort_by(|a, b| a.place.cmp(&b.place));
    config.filter(|_| located.is_empty()).ok_or(located)
}

pub(super) fn syntax(
    parsed: Result<document::Document, Vec<document::SyntaxFault>>,
) -> Result<document::Document, Vec<LocatedFault>> {
    parsed.map_err(|faults| {
        let located = |fault: document::SyntaxFault| LocatedFault {
            place: Place::LineColumn(fault.line, fault.column),
            field: String::new(),
            message: format!("is not TOML: {}", fault.message),
        };
        faults.into_iter().map(located).collect()
    })
}

/// Looks at the files that the tree names, whatever else is wrong with it.
fn check_files(root: &Map<String, Value>) -> Vec<Fault> {
    let file = |name| root.get("service")?.get("tls")?.get(name)?.as_str().filter(|path| !path.is_empty());
    let mut faults = Vec::new();
    for (name, is_secret) in [("cert_file", false), ("key_file", true), ("client_ca_file", false)] {
        let Some(path) = file(name).map(Path::new) else { continue };
        let field = format!("service.tls.{name}");
        if let Err(error) = std::fs::File::open(path) {
            faults.push(Fault::new(field, credentials::unreadable(path, &error)));
        } else if let Some(open) = is_secret.then(|| open_to_everybody(path)).flatten() {
            faults.push(Fault::new(field, open));
        }
    }
    faults
}

/// What is wrong with the file of a secret that everybody can read, as the rest of a
/// sentence that begins with its name; none: they cannot, or it is not there.
pub fn open_to_everybody(path: &Path) -> Option<String> {
    let is_open = std::fs::metadata(path).ok()?.permissions().mode() & 0o004 != 0;
    is_open.then(|| format!("can be read by everybody; run: chmod o= {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::config::{Auth, Listen, LogFormat};
    use crate::secrecy::Target;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const NOBODY: [(OsString, OsString); 0] = [];
    /// A file that is fine: what the cases below add to.
    const OPEN: &str = "[service]\nauth = \"none\"\n";

    fn parse_text(text: &str) -> Result<Config, Vec<LocatedFault>> {
        parse(text, NOBODY)
    }

    fn told(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let faults = parse(text, variables).err().unwrap_or_default();
        let shown = ConfigErrors { path: Some("c.toml".into()), faults }.to_string();
        shown.lines().map(str::to_owned).collect()
    }

    /// The example with its commented-out settings put in force.
    fn example_in_full() -> String {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
            _ => line.to_owned(),
        };
        EXAMPLE.lines().map(|line| uncomment(line) + "\n").collect()
    }

    fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(key, value)| (document::join(path, key), value)).collect(),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                items.iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value)).collect()
            }
            _ => return,
        };
        for (child, value) in children {
            found.insert(child.clone());
            paths(&child, value, found);
        }
    }

    #[test]
    fn the_defaults_are_what_the_contract_says() {
        let config = parse_text(OPEN).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(config.service.listen, [Listen::Tcp("127.0.0.1:8470".parse().expect("an address"))]);
        assert_eq!((config.service.tls, config.service.metrics_listen), (None, None));
        assert_eq!(config.service.drain, Duration::from_secs(10));
        assert_eq!((config.storage.bytes_max, config.storage.reserve_bytes), (0, 64 << 20));
        assert_eq!((config.delivery.concurrency, config.delivery.concurrency_total), (16, 1024));
        assert_eq!(config.delivery.user_agent, concat!("Posthaste/", env!("CARGO_PKG_VERSION")));
        let retry = config.delivery.retry;
        assert_eq!((retry.first, retry.max_delay), (Duration::from_secs(10), Duration::from_secs(4 * 3600)));
        assert_eq!((retry.factor, retry.jitter, retry.transient_only), (2.0, 0.2, false));
        assert_eq!(config.retention.delivered, Duration::from_secs(7 * 86_400));
        assert_eq!((config.log.format, config.log.level), (LogFormat::Auto, tracing::Level::INFO));
    }

    #[test]
    fn the_example_and_the_reader_know_the_same_keys() {
        let text = example_in_full();
        let config = parse_text(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(config.api_keys[0].roles, [Role::Admin].into_iter().collect());
        assert_eq!(config.api_keys[0].expires_at.map(|at| at.to_string()), Some("2030-01-01T00:00:00.000Z".into()));
        let targets: Vec<&Target> = config.secrecy.iter().map(|rule| &rule.target).collect();
        let built_in = crate::dialect::pdk::secrecy_rules().len();
        assert_eq!(targets[built_in..], [&Target::Key("pin".into()), &Target::Pointer("/visitor/name".into())]);

        let root = document::parse(&text).expect("TOML").root;
        let mut shown = BTreeSet::new();
        paths("", &Value::Object(root.clone()), &mut shown);
        let faults = Faults::new();
        read::config(&root, &faults).expect("fine");
        let any_index = |path: &String| path.replace("[0]", "[]").replace("[1]", "[]");
        let read: BTreeSet<String> = faults.asked.borrow().iter().map(any_index).collect();
        shown.retain(|path| !path.ends_with(']'));
        let shown: BTreeSet<String> = shown.iter().map(any_index).collect();
        assert_eq!(shown, read, "left: the example, right: the reader");
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let example = document::parse(EXAMPLE).expect("TOML").root;
        let names = environment::names(&example);
        let distinct: BTreeSet<&String> = names.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(distinct.contains(&"POSTHASTE_DELIVERY_RETRY_FIRST".to_owned()));
    }

    #[test]
    fn every_value_of_another_type_is_a_fault_of_its_key() {
        let root = document::parse(&example_in_full()).expect("TOML").root;
        let mut shown = BTreeSet::new();
        paths("", &Value::Object(root.clone()), &mut shown);
        for path in shown {
            let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
            // No setting is null or a list of lists.
            let mut tree = Value::Object(root.clone());
            *tree.pointer_mut(&pointer).expect(&path) = serde_json::json!([[]]);
            let faults = Faults::new();
            let config = read::config(tree.as_object().expect("an object"), &faults);
            let told = faults.into_vec();
            assert!(config.is_none() && told.iter().any(|fault| fault.field.starts_with(&path)), "{path}: {told:?}");
        }
    }

    #[test]
    fn each_refusal_names_its_line() {
        let key = |lines: &str| format!("[[api_keys]]\nname = \"a\"\n{lines}\n");
        let digest = "sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"";
        let whole_key = key(&format!("{digest}\nroles = [\"read\"]\norganizations = [\"x\"]"));
        let cases: Vec<(String, &str)> = vec![
            ("".into(), "c.toml: api_keys has no key, so nobody could call: make one with `posthaste key new`"),
            (format!("{OPEN}drian = \"1s\""), "c.toml:3: service.drian is not known; did you mean \"drain\"?"),
            (format!("{OPEN}[delivery.retri]"), "c.toml:3: delivery.retri is not known; did you mean \"retry\"?"),
            (format!("{OPEN}[unheard]"), "c.toml:3: unheard is not known"),
            (format!("log = 1\n{OPEN}"), "c.toml:1: log must be an object, not a number"),
            (format!("{OPEN}drain = 10"), "c.toml:3: service.drain must be a string, not a number"),
            (format!("{OPEN}drain = \"10\""), "c.toml:3: service.drain must be a duration"),
            (format!("{OPEN}drain = \"11m\""), "c.toml:3: service.drain must be from 0ms to 10m"),
            (format!("{OPEN}hosts = [\n\"a\",\n7]"), "c.toml:5: service.hosts[1] must be a string"),
            (format!("{OPEN}hosts = [\"http://a\"]"), "c.toml:3: service.hosts[0] must be a host name"),
            (format!("{OPEN}hosts = [\"a:9000\", \"[::1]:1\", \"a/b\"]"), "c.toml:3: service.hosts[2] must be a host"),
            (format!("{OPEN}origins = [\"https://a/b\"]"), "c.toml:3: service.origins[0] must be an origin"),
            (format!("{OPEN}listen = []"), "c.toml:3: service.listen must name at least one"),
            (format!("{OPEN}listen = [\"localhost\"]"), "c.toml:3: service.listen[0] must be an address"),
            (format!("{OPEN}listen = [\"[::1]:1\", \"[::1]:1\"]"), "c.toml:3: service.listen[1] stands here twice"),
            (format!("{OPEN}listen = [\"0.0.0.0:1\"]"), "c.toml:2: service.auth must not be \"none\" while listen[0]"),
            ("[service]\nauth = \"maybe\"".into(), "c.toml:2: service.auth must be one of keys, none"),
            (format!("{OPEN}metrics_listen = \"here\""), "c.toml:3: service.metrics_listen must be an address"),
            (
                format!("{OPEN}metrics_listen = \"127.0.0.1:8470\""),
                "c.toml:3: service.metrics_listen must not be an address of `listen`",
            ),
            (
                format!("{OPEN}tls = {{ cert_file = \"/dev/null\" }}"),
                "c.toml:3: service.tls.key_file must be set beside cert_file",
            ),
            (
                format!("{OPEN}tls = {{ client_ca_file = \"/dev/null\" }}"),
                "c.toml:3: service.tls.client_ca_file must stand beside cert_file and key_file",
            ),
            (format!("{OPEN}[delivery]\nproxy = \"here\""), "c.toml:4: delivery.proxy must be a URL such as"),
            (format!("{OPEN}socket_mode = \"0400\""), "c.toml:3: service.socket_mode must be four octal digits"),
            (format!("{OPEN}socket_mode = \"+660\""), "c.toml:3: service.socket_mode must be four octal digits"),
            (
                format!("{OPEN}tls = {{ cert_file = \"/dev/null\", key_file = \"/dev/null\" }}"),
                "c.toml:3: service.tls.key_file can be read by everybody; run: chmod o= /dev/null",
            ),
            (
                format!("{OPEN}tls = {{ cert_file = \"/nowhere/c\", key_file = \"/dev/null\" }}"),
                "c.toml:3: service.tls.cert_file cannot be read",
            ),
            (
                format!("{OPEN}[storage]\nencryption_key_file = \"/nowhere/k\""),
                "c.toml:4: storage.encryption_key_file cannot be read",
            ),
            (
                format!("{OPEN}[storage]\nencryption_key_file = \"/dev/null\""),
                "c.toml:4: storage.encryption_key_file can be read by everybody; run: chmod o= /dev/null",
            ),
            (
                format!("{OPEN}[storage]\nprevious_encryption_key_files = [\"\"]\nsecrets_in_clear = true"),
                "c.toml:4: storage.previous_encryption_key_files[0] must not be empty",
            ),
            (
                format!("{OPEN}[storage]\nprevious_encryption_key_files = [\"/nowhere/k\"]"),
                "c.toml:4: storage.previous_encryption_key_files must stand beside encryption_key_file",
            ),
            (
                format!("{OPEN}[storage]\nencryption_key_file = \"/nowhere/k\"\nsecrets_in_clear = true"),
                "c.toml:4: storage.encryption_key_file cannot be read",
            ),
            (format!("{OPEN}[storage]\npath = \"\""), "c.toml:4: storage.path must not be empty"),
            (format!("{OPEN}[storage]\nmax_bytes = \"1 GB\""), "c.toml:4: storage.max_bytes must be a size"),
            (format!("{OPEN}[storage]\ncache_bytes = \"1 KiB\""), "c.toml:4: storage.cache_bytes must be from 1 MiB"),
            (format!("{OPEN}[delivery]\ntimeout = \"0s\""), "c.toml:4: delivery.timeout must be from 1s to 1m"),
            (
                format!("{OPEN}[delivery]\nconnect_timeout = \"16s\""),
                "c.toml:4: delivery.connect_timeout must be at most",
            ),
            (format!("{OPEN}[delivery]\nconcurrency = 1025"), "c.toml:4: delivery.concurrency must be a whole number"),
            (format!("{OPEN}[delivery]\nconcurrency_total = 1"), "c.toml:4: delivery.concurrency_total must be"),
            (
                format!("{OPEN}[delivery]\nrate_per_second = -0.5"),
                "c.toml:4: delivery.rate_per_second must be a number",
            ),
            (format!("{OPEN}[delivery]\nordering = \"lifo\""), "c.toml:4: delivery.ordering must be one of none, fifo"),
            (
                format!("{OPEN}[delivery]\nuser_agent = \"ä\""),
                "c.toml:4: delivery.user_agent must be 1 to 255 printable",
            ),
            (
                format!("{OPEN}[delivery]\nallow_networks = [{{ cidr = \"10.0.0.0/8\" }}]"),
                "c.toml:4: delivery.allow_networks[0].organizations is missing",
            ),
            (
                format!("{OPEN}[delivery]\nallow_networks = [\"10.1.0.0/8\"]"),
                "c.toml:4: delivery.allow_networks[0] has bits set beyond its prefix; did you mean \"10.0.0.0/8\"?",
            ),
            (
                format!("{OPEN}[[delivery.allow_networks]]\ncidr = \"x\"\norganizations = [\"*\"]"),
                "c.toml:4: delivery.allow_networks[0].cidr must be a network",
            ),
            (
                format!("{OPEN}[delivery]\nallow_networks = [true]"),
                "c.toml:4: delivery.allow_networks[0] must be a network",
            ),
            (
                format!("{OPEN}[delivery.retry]\nfirst = \"50ms\""),
                "c.toml:4: delivery.retry.first must be from 100ms to 1d",
            ),
            (
                format!("{OPEN}[delivery.retry]\nfactor = 11"),
                "c.toml:4: delivery.retry.factor must be a number from 1 to 10",
            ),
            (
                format!("{OPEN}[delivery.retry]\nmax_delay = \"9s\""),
                "c.toml:4: delivery.retry.max_delay must be at least first",
            ),
            (
                format!("{OPEN}[delivery.retry]\njitter = 0.6"),
                "c.toml:4: delivery.retry.jitter must be a number from 0",
            ),
            (
                format!("{OPEN}[delivery.retry]\nfactor = nan"),
                "c.toml:4: delivery.retry.factor must be a finite number",
            ),
            (
                format!("{OPEN}[delivery.retry]\ngive_up_after = \"31d\""),
                "c.toml:4: delivery.retry.give_up_after must be from",
            ),
            (
                format!("{OPEN}[delivery.retry]\non = \"all\""),
                "c.toml:4: delivery.retry.on must be one of any, transient",
            ),
            (
                format!("{OPEN}[retention]\ndelivered = \"71h\""),
                "c.toml:4: retention.delivered is 71h, and must be at least delivery.retry.give_up_after, 3d",
            ),
            (
                format!("{OPEN}[delivery.retry]\ngive_up_after = \"8d\""),
                "c.toml: retention.delivered is 7d, and must be",
            ),
            (format!("{OPEN}[log]\nlevel = \"loud\""), "c.toml:4: log.level must be one of error, warn"),
            (format!("{OPEN}[log]\nformat = \"xml\""), "c.toml:4: log.format must be one of auto, text, json, journal"),
            (key("roles = [\"read\"]\norganizations = [\"*\"]"), "c.toml:1: api_keys[0].sha256 is missing"),
            (
                key("sha256 = \"ph_x\"\nroles = [\"read\"]\norganizations = [\"*\"]"),
                "c.toml:3: api_keys[0].sha256 must be 64 hex digits",
            ),
            (
                key(&format!("{digest}\norganizations = [\"*\"]")),
                "c.toml:1: api_keys[0].roles is missing; there are publish",
            ),
            (
                key(&format!("{digest}\nroles = [\"read\", \"root\"]\norganizations = [\"*\"]")),
                "c.toml:4: api_keys[0].roles[1] must be one of publish",
            ),
            (
                key(&format!("{digest}\nroles = []\norganizations = [\"*\"]")),
                "c.toml:4: api_keys[0].roles must not be empty",
            ),
            (
                key(&format!("{digest}\nroles = [\"read\"]\norganizations = []")),
                "c.toml:5: api_keys[0].organizations must not be empty",
            ),
            (
                key(&format!("{digest}\nroles = [\"read\"]\norganizations = [\"*\"]\nexpires_at = 2030-01-01")),
                "c.toml:6: api_keys[0].expires_at must be an RFC 3339 time",
            ),
            (format!("{whole_key}{whole_key}"), "c.toml:7: api_keys[1].name is the name of another key too"),
            (format!("{OPEN}[[secrecy]]\nevents = \"*\"\nkey = \"pin\""), "c.toml:3: secrecy[0].level is missing"),
            (
                format!("{OPEN}[[secrecy]]\nlevel = 3\nevents = \"*\"\nkey = \"pin\""),
                "c.toml:4: secrecy[0].level must be",
            ),
            (
                format!("{OPEN}[[secrecy]]\nlevel = 1\nevents = \"*.a\"\nkey = \"pin\""),
                "c.toml:5: secrecy[0].events must be",
            ),
            (format!("{OPEN}[[secrecy]]\nlevel = 1\nevents = \"*\""), "c.toml:3: secrecy[0].key is missing"),
            (
                format!("{OPEN}[[secrecy]]\nlevel = 1\nevents = \"*\"\nkey = \"pin\"\npointer = \"/a\""),
                "c.toml:7: secrecy[0].pointer must not stand beside key",
            ),
            (
                format!("{OPEN}[[secrecy]]\nlevel = 1\nevents = \"*\"\npointer = \"a\""),
                "c.toml:6: secrecy[0].pointer must be a JSON Pointer",
            ),
            (format!("{OPEN}drain = \"1s"), "c.toml:3:12: is not TOML: "),
        ];
        for (text, wanted) in cases {
            let told = told(&text, &[]);
            let first = told.first().map(String::as_str).unwrap_or_default();
            assert!(first.starts_with(wanted), "{text}\nwanted: {wanted}\n   got: {told:?}");
            let comes_with_another = ["another key", "cannot be read", "must stand beside"];
            let comes_with_another = comes_with_another.iter().any(|part| wanted.contains(part));
            assert!(told.len() == 1 || comes_with_another, "one fault only: {told:?}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_in_the_order_of_the_file() {
        let told = told("[log]\nlevel = 1\n[service]\nlisten = [\"x\"]\n[storage]\npaht = \"x\"\n", &[]);
        let places: Vec<&str> = told.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(places, ["c.toml:", "c.toml:2:", "c.toml:4:", "c.toml:6:"], "{told:?}");
    }

    #[test]
    fn variables_override_the_file_and_are_named_in_faults() {
        let variables = [
            ("POSTHASTE_DELIVERY_RETRY_FIRST", "1s"),
            ("POSTHASTE_SERVICE_LISTEN", "127.0.0.1:0, unix:/run/x.sock"),
            ("POSTHASTE_DELIVERY_RATE_PER_SECOND", "2.5"),
            ("POSTHASTE_DELIVERY_ALLOW_HTTP", "true"),
            ("POSTHASTE_DELIVERY_ALLOW_NETWORKS", "127.0.0.1,10.0.0.0/8"),
        ];
        let text = format!("{OPEN}[delivery.retry]\nfirst = \"9s\"\nfactor = 3\n");
        let config = parse(&text, variables.map(|(name, value)| (name.into(), value.into())))
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!((config.delivery.retry.first, config.delivery.retry.factor), (Duration::from_secs(1), 3.0));
        assert_eq!(config.service.listen[1], Listen::Unix("/run/x.sock".into()));
        assert_eq!((config.delivery.rate_per_second, config.delivery.allow_http), (2.5, true));
        assert_eq!(config.delivery.allow_networks.len(), 2);
        assert_eq!(config.service.auth, Auth::None);

        for (variable, value, wanted) in [
            (
                "POSTHASTE_DELIVERY_RETRY_FIRST",
                "1",
                "POSTHASTE_DELIVERY_RETRY_FIRST: delivery.retry.first must be a dur",
            ),
            ("POSTHASTE_SERVICE_LISTEN", "x", "POSTHASTE_SERVICE_LISTEN: service.listen[0] must be an address"),
            ("POSTHASTE_LOG_LEVL", "x", "POSTHASTE_LOG_LEVL: is not known; did you mean POSTHASTE_LOG_LEVEL?"),
        ] {
            let told = told(OPEN, &[(variable, value)]);
            assert!(told.len() == 1 && told[0].starts_with(wanted), "{told:?}");
        }
    }

    #[test]
    fn a_key_that_systemd_hands_over_is_found_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("tls.key");
        std::fs::write(&key, "").expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).expect("set");
        let file = "\"$CREDENTIALS_DIRECTORY/tls.key\"";
        let text = format!("{OPEN}tls = {{ cert_file = {file}, key_file = {file} }}\n");
        let variable = ("CREDENTIALS_DIRECTORY".into(), folder.path().into());
        let config = parse(&text, [variable]).map_err(|faults| faults.len()).expect("fine");
        assert_eq!(config.service.tls.map(|tls| tls.key_file), Some(key));
        let faults = parse(&text, []).map(|_| ()).expect_err("no folder");
        assert_eq!(faults[0].message.split(':').next(), Some("cannot be read here"));
    }

    #[test]
    fn a_key_file_for_its_owner_alone_is_taken_and_a_missing_file_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key.pem");
        std::fs::write(&key, "key").expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("mode");
        let file = folder.path().join("c.toml");
        let text = format!("{OPEN}tls = {{ cert_file = {key:?}, key_file = {key:?} }}\n");
        std::fs::write(&file, text).expect("written");
        let config = load(Some(&file), NOBODY).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.service.tls.map(|tls| tls.key_file), Some(key));

        let missing = folder.path().join("other.toml");
        let errors = load(Some(&missing), NOBODY).err().expect("missing").to_string();
        assert!(errors.starts_with(&format!("{}: cannot be read: ", missing.display())), "{errors}");
    }
}

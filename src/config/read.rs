//! A tree to a [`Config`]: every setting's type, range and rule. The tree is the
//! example with what the user says laid over it, so every key is there; touches no file
//! (`keys` reads those of the storage from theirs).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    AllowedNetwork, Auth, Config, Delivery, Listen, Log, LogFormat, Proxy, Retention, ServerTls, Service, Storage,
    dialects,
};
use crate::auth::{ApiKey, Role, Roles};
use crate::dialect;
use crate::input::{Faults, Fields, kind};
use crate::limits::{CONCURRENCY_MAX, NAME_CHARS_MAX, RATE_PER_SECOND_MAX, REQUESTS_PER_SECOND_MAX};
use crate::model::{Name, Ordering, validate};
use crate::pattern::Pattern;
use crate::retry::Policy;
use crate::secrecy::{Rule, Target};
use crate::time::format_duration;

const MINUTE: Duration = Duration::from_secs(60);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);
const MIB: u64 = 1024 * 1024;

/// Reads the whole tree. None: something was wrong, and `faults` says what.
pub(super) fn config(root: &Map<String, Value>, faults: &Faults) -> Option<Config> {
    let fields = Fields::new("", root, faults);
    let service = fields.object("service").and_then(service);
    let storage = fields.object("storage").and_then(storage);
    let delivery = fields.object("delivery").and_then(delivery);
    let retention = fields.object("retention").and_then(retention);
    let log = fields.object("log").and_then(log);
    let api_keys = api_keys(&fields);
    let mut secrecy_rules = dialect::pdk::secrecy_rules();
    secrecy_rules.extend(secrecy(&fields));
    let dialects = fields.object("dialects").and_then(dialects::read);
    if let Some(service) = &service {
        check_auth(service, &api_keys, &fields);
    }
    if let (Some(delivery), Some(retention)) = (&delivery, &retention) {
        check_retention(delivery, retention, faults);
    }
    fields.finish();
    if !faults.is_empty() {
        return None;
    }
    Some(Config {
        service: service?,
        storage: storage?,
        delivery: delivery?,
        retention: retention?,
        secrecy: secrecy_rules,
        dialects: dialects?,
        api_keys,
        log: log?,
    })
}

fn service(fields: Fields<'_>) -> Option<Service> {
    let listen = listeners(&fields);
    let metrics_listen = optional(&fields, "metrics_listen", |text| text.parse::<SocketAddr>().ok())
        .map_err(|()| fields.fault("metrics_listen", "must be an address such as \"127.0.0.1:9470\", or empty"));
    if let (Ok(Some(address)), Some(listen)) = (metrics_listen, &listen)
        && address.port() != 0
        && listen.contains(&Listen::Tcp(address))
    {
        fields.fault("metrics_listen", "must not be an address of `listen`");
    }
    let auth = fields.one_of("auth", "keys, none", |name| match name {
        "keys" => Some(Auth::Keys),
        "none" => Some(Auth::None),
        _ => None,
    });
    let hosts = fields.strings("hosts").map(|hosts| {
        for (index, host) in hosts.iter().enumerate() {
            let is_authority = |host: &str| {
                let url = url::Url::parse(&format!("https://{host}/"));
                url.is_ok_and(|url| url.path() == "/" && url.username().is_empty() && url.has_host())
                    && !host.contains(['/', '?', '#', '@', '\\'])
            };
            if host.is_some_and(|host| !is_authority(host)) {
                let message = "must be a host name or address, with its port or without, and no scheme";
                fields.fault(&format!("hosts[{index}]"), message);
            }
        }
        hosts.into_iter().flatten().map(str::to_ascii_lowercase).collect()
    });
    let origins = fields.strings("origins").map(|origins| {
        let is_origin = |text: &str| url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
        for (index, origin) in origins.iter().enumerate() {
            if origin.is_some_and(|origin| !is_origin(origin)) {
                let message = "must be an origin such as \"https://admin.example.com\": scheme, host, port if not \
                               the scheme's own, no path";
                fields.fault(&format!("origins[{index}]"), message);
            }
        }
        origins.into_iter().flatten().map(str::to_owned).collect()
    });
    let declared_in = fields.string("declared_in");
    let drain = fields.duration("drain", Duration::ZERO..=10 * MINUTE);
    let socket_mode = socket_mode(&fields);
    let requests_per_second = count(&fields, "requests_per_second", 0..=REQUESTS_PER_SECOND_MAX);
    let tls = fields.object("tls").and_then(server_tls);
    fields.finish();
    Some(Service {
        listen: listen?,
        metrics_listen: metrics_listen.ok()?,
        tls: tls?,
        auth: auth?,
        hosts: hosts?,
        origins: origins?,
        declared_in: Some(declared_in?).filter(|path| !path.is_empty()).map(PathBuf::from),
        drain: drain?,
        socket_mode: socket_mode?,
        requests_per_second: requests_per_second?,
    })
}

/// An octal mode. Its owner can always use a socket: it is the daemon's own.
fn socket_mode(fields: &Fields<'_>) -> Option<u32> {
    let text = fields.string("socket_mode")?;
    let is_octal = text.len() == 4 && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && (0o600..=0o777).contains(mode));
    if mode.is_none() {
        fields.fault("socket_mode", "must be four octal digits from \"0600\" to \"0777\"");
    }
    mode
}

fn listeners(fields: &Fields<'_>) -> Option<Vec<Listen>> {
    let texts = fields.strings("listen")?;
    if texts.is_empty() {
        fields.fault("listen", "must name at least one address");
    }
    let mut listeners = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let Some(text) = text else { continue };
        let field = format!("listen[{index}]");
        let listener = match text.strip_prefix("unix:") {
            Some(path) => (!path.is_empty()).then(|| Listen::Unix(PathBuf::from(path))),
            None => text.parse().ok().map(Listen::Tcp),
        };
        match listener {
            None => {
                let message = "must be an address with its port such as \"127.0.0.1:8470\" or \"[::1]:8470\", or a \
                               Unix socket such as \"unix:/run/posthaste/api.sock\"";
                fields.fault(&field, message);
            }
            Some(listener) if listeners.contains(&listener) && !takes_free_port(&listener) => {
                fields.fault(&field, "stands here twice");
            }
            Some(listener) => listeners.push(listener),
        }
    }
    Some(listeners)
}

fn takes_free_port(listener: &Listen) -> bool {
    matches!(listener, Listen::Tcp(address) if address.port() == 0)
}

fn server_tls(fields: Fields<'_>) -> Option<Option<ServerTls>> {
    let files = fields.string("cert_file").zip(fields.string("key_file"));
    match files {
        Some(("", key)) if !key.is_empty() => fields.fault("cert_file", "must be set beside key_file"),
        Some((cert, "")) if !cert.is_empty() => fields.fault("key_file", "must be set beside cert_file"),
        _ => {}
    }
    let client_ca = fields.string("client_ca_file");
    if let (Some(("", _)), Some(true)) = (files, client_ca.map(|path| !path.is_empty())) {
        fields.fault("client_ca_file", "must stand beside cert_file and key_file");
    }
    fields.finish();
    files.zip(client_ca).map(|((cert, key), client_ca)| {
        let given = !cert.is_empty() && !key.is_empty();
        given.then(|| ServerTls {
            cert_file: PathBuf::from(cert),
            key_file: PathBuf::from(key),
            client_ca_file: (!client_ca.is_empty()).then(|| PathBuf::from(client_ca)),
        })
    })
}

/// A text that may be empty, for "none"; an error where `take` does not take it.
fn optional<T>(fields: &Fields<'_>, name: &'static str, take: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ()> {
    match fields.string(name) {
        None | Some("") => Ok(None),
        Some(text) => take(text).map(Some).ok_or(()),
    }
}

fn storage(fields: Fields<'_>) -> Option<Storage> {
    let path = filled(&fields, "path").map(PathBuf::from);
    let bytes_max = size(&fields, "max_bytes", 0..=u64::MAX);
    let reserve_bytes = size(&fields, "reserve_bytes", 0..=u64::MAX);
    let cache_bytes = size(&fields, "cache_bytes", MIB..=1024 * 1024 * MIB);
    let key_file = fields.string("encryption_key_file");
    let previous = fields.strings("previous_encryption_key_files");
    let in_clear = fields.bool("secrets_in_clear");
    match (key_file, &previous, in_clear) {
        (Some(""), Some(previous), Some(false)) if !previous.is_empty() => fields.fault(
            "previous_encryption_key_files",
            "must stand beside encryption_key_file; to decrypt what they encrypted, set secrets_in_clear = true",
        ),
        (Some(file), _, Some(true)) if !file.is_empty() => {
            fields.fault("secrets_in_clear", "must not be true beside encryption_key_file");
        }
        _ => {}
    }
    let compact_above_bytes = size(&fields, "compact_above", 0..=u64::MAX);
    fields.finish();
    Some(Storage {
        path: path?,
        bytes_max: bytes_max?,
        reserve_bytes: reserve_bytes?,
        cache_bytes: cache_bytes?,
        keyring: Arc::default(),
        compact_above_bytes: compact_above_bytes?,
    })
}

/// A text that is not empty.
fn filled<'a>(fields: &Fields<'a>, name: &'static str) -> Option<&'a str> {
    let text = fields.string(name)?;
    if text.is_empty() {
        fields.fault(name, "must not be empty");
    }
    (!text.is_empty()).then_some(text)
}

/// A size such as `"64 MiB"`, within `range`.
fn size(fields: &Fields<'_>, name: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let Some(bytes) = parse_size(fields.string(name)?) else {
        fields.fault(name, "must be a size such as \"0\", \"512 KiB\", \"64 MiB\" or \"10 GiB\"");
        return None;
    };
    if !range.contains(&bytes) {
        fields.fault(name, format!("must be from {} to {}", format_size(*range.start()), format_size(*range.end())));
    }
    range.contains(&bytes).then_some(bytes)
}

/// Reads a size such as `64 MiB`, or bytes without a unit.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit_bytes)
}

/// The inverse of [`parse_size`], in the largest unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    for (unit_bytes, unit) in [(1024 * MIB, "GiB"), (MIB, "MiB"), (1024, "KiB")] {
        if bytes >= unit_bytes && bytes.is_multiple_of(unit_bytes) {
            return format!("{} {unit}", bytes / unit_bytes);
        }
    }
    format!("{bytes} B")
}

fn delivery(fields: Fields<'_>) -> Option<Delivery> {
    let allow_http = fields.bool("allow_http");
    let allow_networks = allowed_networks(&fields);
    let proxy = optional(&fields, "proxy", parse_proxy).map_err(|()| {
        fields.fault("proxy", "must be a URL such as \"http://proxy.example:3128\" without user and path, or empty");
    });
    let verify_urls = fields.bool("verify_urls");
    let timeout = fields.duration("timeout", validate::TIMEOUT);
    let connect_timeout = fields.duration("connect_timeout", Duration::from_millis(100)..=MINUTE);
    if let (Some(timeout), Some(connect_timeout)) = (timeout, connect_timeout)
        && connect_timeout > timeout
    {
        fields.fault("connect_timeout", format!("must be at most timeout, {}", format_duration(timeout)));
    }
    let concurrency = count(&fields, "concurrency", 1..=CONCURRENCY_MAX);
    // Half of it is for lanes whose last attempt failed, so one is too few.
    let concurrency_total = count(&fields, "concurrency_total", 2..=65_536);
    let rate_per_second = fields.number("rate_per_second", 0.0..=RATE_PER_SECOND_MAX);
    let ordering = fields.one_of("ordering", &Ordering::names(), Ordering::from_name);
    let keep_alive = fields.duration("keep_alive", Duration::ZERO..=10 * MINUTE);
    let user_agent = fields.string("user_agent").map(|text| text.replace("{version}", env!("CARGO_PKG_VERSION")));
    if let Some(text) = &user_agent
        && (text.is_empty() || text.len() > NAME_CHARS_MAX || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    {
        fields.fault("user_agent", format!("must be 1 to {NAME_CHARS_MAX} printable ASCII characters"));
    }
    let retry = fields.object("retry").and_then(retry);
    fields.finish();
    Some(Delivery {
        allow_http: allow_http?,
        allow_networks,
        proxy: proxy.ok()?,
        verify_urls: verify_urls?,
        timeout: timeout?,
        connect_timeout: connect_timeout?,
        concurrency: concurrency?,
        concurrency_total: concurrency_total?,
        rate_per_second: rate_per_second?,
        ordering: ordering?,
        keep_alive: keep_alive?,
        user_agent: user_agent?,
        retry: retry?,
    })
}

fn count(fields: &Fields<'_>, name: &'static str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let number = fields.integer(name, u64::from(*range.start())..=u64::from(*range.end()))?;
    u32::try_from(number).ok()
}

fn allowed_networks(fields: &Fields<'_>) -> Vec<AllowedNetwork> {
    let mut networks = Vec::new();
    for (index, item) in fields.list("allow_networks").unwrap_or_default().iter().enumerate() {
        let name = format!("allow_networks[{index}]");
        match item {
            Value::String(text) => match parse_network(text) {
                Ok(cidr) => networks.push(AllowedNetwork { cidr, organizations: None }),
                Err(message) => fields.fault(&name, message),
            },
            Value::Object(map) => {
                let item = Fields::new(fields.path(&name), map, fields.faults());
                networks.extend(allowed_network(item));
            }
            other => fields.fault(&name, format!("must be a network or a table with cidr, not {}", kind(other))),
        }
    }
    networks
}

fn allowed_network(fields: Fields<'_>) -> Option<AllowedNetwork> {
    let cidr = required(&fields, "cidr")
        .and_then(|text| parse_network(text).map_err(|message| fields.fault("cidr", message)).ok());
    let organizations = organizations(&fields);
    fields.finish();
    Some(AllowedNetwork { cidr: cidr?, organizations: organizations? })
}

fn parse_proxy(text: &str) -> Option<Proxy> {
    let url = url::Url::parse(text).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_nobodys = url.username().is_empty() && url.password().is_none();
    let (host, port) = (url.host()?.to_owned(), url.port_or_known_default()?);
    (url.scheme() == "http" && is_bare && is_nobodys).then_some(Proxy { host, port })
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| "must be a network such as \"10.1.0.0/16\" or \"fd00:1::/32\"".to_owned())?,
    };
    if network != network.trunc() {
        return Err(format!("has bits set beyond its prefix; did you mean \"{}\"?", network.trunc()));
    }
    Ok(network)
}

/// A string that must be there, in a table that has no defaults.
fn required<'a>(fields: &Fields<'a>, name: &'static str) -> Option<&'a str> {
    if !fields.has(name) {
        fields.fault(name, "is missing");
    }
    filled(fields, name)
}

/// Names of organizations, at least one; `Some(None)`: all of them (`*`).
fn organizations(fields: &Fields<'_>) -> Option<Option<Vec<Name>>> {
    let names = required_list(fields, "organizations", "\"*\" stands for all")?;
    for (index, name) in names.iter().enumerate() {
        if name.is_some_and(|name| name.is_empty() || name.chars().count() > NAME_CHARS_MAX) {
            fields.fault(&format!("organizations[{index}]"), format!("must have 1 to {NAME_CHARS_MAX} characters"));
        }
    }
    Some((!names.contains(&Some("*"))).then(|| names.into_iter().flatten().map(Name::from).collect()))
}

/// Strings, at least one, in a table that has no defaults.
fn required_list<'a>(fields: &Fields<'a>, name: &'static str, hint: &str) -> Option<Vec<Option<&'a str>>> {
    if !fields.has(name) {
        fields.fault(name, format!("is missing; {hint}"));
    }
    let items = fields.strings(name)?;
    if items.is_empty() {
        fields.fault(name, format!("must not be empty; {hint}"));
    }
    Some(items)
}

fn retry(fields: Fields<'_>) -> Option<Policy> {
    let transient_only = fields.one_of("on", "any, transient", |name| match name {
        "any" => Some(false),
        "transient" => Some(true),
        _ => None,
    });
    let first = fields.duration("first", validate::RETRY_FIRST);
    let factor = fields.number("factor", validate::RETRY_FACTOR);
    let max_delay = fields.duration("max_delay", *validate::RETRY_FIRST.start()..=validate::RETRY_DELAY_MAX);
    if let (Some(first), Some(max_delay)) = (first, max_delay)
        && max_delay < first
    {
        fields.fault("max_delay", format!("must be at least first, {}", format_duration(first)));
    }
    let jitter = fields.number("jitter", validate::RETRY_JITTER);
    let give_up_after = fields.duration("give_up_after", validate::RETRY_GIVE_UP_AFTER);
    fields.finish();
    Some(Policy {
        first: first?,
        factor: factor?,
        max_delay: max_delay?,
        jitter: jitter?,
        give_up_after: give_up_after?,
        transient_only: transient_only?,
    })
}

fn retention(fields: Fields<'_>) -> Option<Retention> {
    let delivered = fields.duration("delivered", Duration::ZERO..=TEN_YEARS);
    let failed = fields.duration("failed", Duration::ZERO..=TEN_YEARS);
    let unmatched = fields.duration("unmatched", Duration::ZERO..=TEN_YEARS);
    let audit = fields.duration("audit", Duration::ZERO..=TEN_YEARS);
    fields.finish();
    Some(Retention { delivered: delivered?, failed: failed?, unmatched: unmatched?, audit: audit? })
}

fn check_retention(delivery: &Delivery, retention: &Retention, faults: &Faults) {
    let give_up_after = delivery.retry.give_up_after;
    for (field, span) in [("retention.delivered", retention.delivered), ("retention.failed", retention.failed)] {
        if span < give_up_after {
            let least = format_duration(give_up_after);
            let is = format_duration(span);
            faults.add(field, format!("is {is}, and must be at least delivery.retry.give_up_after, {least}"));
        }
    }
}

fn log(fields: Fields<'_>) -> Option<Log> {
    let format = fields.one_of("format", "auto, text, json, journal", |name| match name {
        "auto" => Some(LogFormat::Auto),
        "journal" => Some(LogFormat::Journal),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    let level = fields.one_of("level", "error, warn, info, debug, trace", |name| match name {
        "error" => Some(tracing::Level::ERROR),
        "warn" => Some(tracing::Level::WARN),
        "info" => Some(tracing::Level::INFO),
        "debug" => Some(tracing::Level::DEBUG),
        "trace" => Some(tracing::Level::TRACE),
        _ => None,
    });
    fields.finish();
    Some(Log { format: format?, level: level? })
}

fn api_keys(fields: &Fields<'_>) -> Vec<ApiKey> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for item in fields.objects("api_keys").unwrap_or_default().into_iter().flatten() {
        let name_field = item.path("name");
        let digest_field = item.path("sha256");
        let Some(key) = api_key(item) else { continue };
        if keys.iter().any(|other| other.name == key.name) {
            fields.faults().add(name_field, "is the name of another key too");
        }
        if keys.iter().any(|other| other.sha256 == key.sha256) {
            fields.faults().add(digest_field, "is the digest of another key too");
        }
        keys.push(key);
    }
    keys
}

fn api_key(fields: Fields<'_>) -> Option<ApiKey> {
    let name = required(&fields, "name");
    if name.is_some_and(|name| name.chars().count() > NAME_CHARS_MAX || name.contains(char::is_control)) {
        fields.fault("name", format!("must have 1 to {NAME_CHARS_MAX} characters and no control characters"));
    }
    let sha256 = required(&fields, "sha256").and_then(|text| {
        let digest = parse_digest(text);
        if digest.is_none() {
            let message = "must be 64 hex digits: the SHA-256 of the token, as `posthaste key new` prints it";
            fields.fault("sha256", message);
        }
        digest
    });
    let roles = required_list(&fields, "roles", &format!("there are {}", Role::names())).map(|names| {
        let role = |(index, name): (usize, &Option<&str>)| {
            let role = Role::from_name((*name)?);
            if role.is_none() {
                fields.fault(&format!("roles[{index}]"), format!("must be one of {}", Role::names()));
            }
            role
        };
        names.iter().enumerate().filter_map(role).collect::<Roles>()
    });
    let organizations = organizations(&fields);
    let expires_at = fields.timestamp("expires_at");
    let requests_per_second = count(&fields, "requests_per_second", 0..=REQUESTS_PER_SECOND_MAX);
    fields.finish();
    Some(ApiKey {
        name: name?.to_owned(),
        sha256: sha256?,
        roles: roles?,
        organizations: organizations?,
        expires_at,
        requests_per_second,
    })
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(digest)
}

fn secrecy(fields: &Fields<'_>) -> Vec<Rule> {
    fields.objects("secrecy").unwrap_or_default().into_iter().flatten().filter_map(rule).collect()
}

fn rule(fields: Fields<'_>) -> Option<Rule> {
    if !fields.has("level") {
        fields.fault("level", "is missing; 1: credentials, 2: people's names");
    }
    let level = fields.integer("level", 1..=2).and_then(|level| u8::try_from(level).ok());
    let events = required(&fields, "events")
        .and_then(|text| Pattern::parse(text).map_err(|error| fields.fault("events", error.to_string())).ok());
    let target = match (fields.has("key"), fields.has("pointer")) {
        (true, false) => filled(&fields, "key").map(|key| Target::Key(key.to_owned())),
        (false, true) => filled(&fields, "pointer").and_then(|pointer| {
            if !pointer.starts_with('/') {
                fields.fault("pointer", "must be a JSON Pointer such as \"/card/pin\"");
            }
            pointer.starts_with('/').then(|| Target::Pointer(pointer.to_owned()))
        }),
        (true, true) => {
            fields.fault("pointer", "must not stand beside key: a rule removes one or the other");
            None
        }
        (false, false) => {
            fields.fault("key", "is missing, or pointer in its place");
            None
        }
    };
    fields.finish();
    Some(Rule { level: level?, events: events?, target: target? })
}

fn check_auth(service: &Service, api_keys: &[ApiKey], fields: &Fields<'_>) {
    match service.auth {
        Auth::None => {
            if let Some(index) = service.listen.iter().position(|listener| !listener.is_local()) {
                let message = format!(
                    "must not be \"none\" while listen[{index}] is reached from other machines; listen on 127.0.0.1 \
                     or a Unix socket, or use keys"
                );
                fields.faults().add("service.auth", message);
            }
        }
        // A list that is there but faulty is told by itself.
        Auth::Keys if api_keys.is_empty() && fields.list("api_keys").is_none_or(<[Value]>::is_empty) => {
            let message = "has no key, so nobody could call: make one with `posthaste key new`, or write auth = \
                           \"none\" under [service] (for loopback and Unix sockets)";
            fields.fault("api_keys", message);
        }
        Auth::Keys => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_name_their_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("17 B", Some(17)),
            ("512KiB", Some(524_288)),
            ("64 MiB", Some(67_108_864)),
            ("2 GiB", Some(2_147_483_648)),
            ("", None),
            ("MiB", None),
            ("64 MB", None),
            ("1.5 MiB", None),
            ("-1", None),
            ("99999999999 GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
        for text in ["0 B", "17 B", "512 KiB", "64 MiB", "2 GiB"] {
            assert_eq!(parse_size(text).map(format_size).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for (text, read) in [
            ("http://proxy.example:3128", Some(("proxy.example", 3128))),
            ("http://[fd00::1]:3128/", Some(("[fd00::1]", 3128))),
            ("http://10.0.0.1", Some(("10.0.0.1", 80))),
            ("https://proxy.example", None),
            ("proxy.example:3128", None),
            ("http://me:secret@proxy.example", None),
            ("http://proxy.example/path", None),
            ("socks5://proxy.example:1080", None),
        ] {
            let proxy = parse_proxy(text).map(|proxy| (proxy.host.to_string(), proxy.port));
            assert_eq!(proxy.as_ref().map(|(host, port)| (host.as_str(), *port)), read, "{text}");
        }
    }

    #[test]
    fn networks_are_written_exactly() {
        for (text, read) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00:1::/32", Some("fd00:1::/32")),
            ("::1", Some("::1/128")),
            ("10.1.2.3/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0-10.0.0.9", None),
            ("localhost", None),
        ] {
            assert_eq!(parse_network(text).ok().map(|network| network.to_string()).as_deref(), read, "{text}");
        }
    }
}

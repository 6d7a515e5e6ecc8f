//! Which settings are read at the start alone. All others are in force after a reload.

use super::Config;

/// Whether two configurations differ in a setting.
pub type Differs = fn(&Config, &Config) -> bool;

/// Each with how two configurations differ in it. A table's name stands for whether
/// there is any of its settings. `docs/configuration.md` says it of each setting.
pub const AT_START: &[(&str, Differs)] = &[
    ("service.listen", |before, after| before.service.listen != after.service.listen),
    ("service.metrics_listen", |before, after| before.service.metrics_listen != after.service.metrics_listen),
    ("service.socket_mode", |before, after| before.service.socket_mode != after.service.socket_mode),
    ("service.tls", |before, after| before.service.tls.is_some() != after.service.tls.is_some()),
    ("storage.path", |before, after| before.storage.path != after.storage.path),
    ("storage.compact_above", |before, after| before.storage.compact_above_bytes != after.storage.compact_above_bytes),
    ("storage.cache_bytes", |before, after| before.storage.cache_bytes != after.storage.cache_bytes),
    ("log.format", |before, after| before.log.format != after.log.format),
    ("log.level", |before, after| before.log.level != after.log.level),
];

/// Those that differ: a reload leaves them as they were.
pub fn needing_restart(before: &Config, after: &Config) -> impl Iterator<Item = &'static str> {
    AT_START.iter().filter(|(_, differs)| differs(before, after)).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn what_needs_a_restart_is_told_and_nothing_else() {
        let config = |variable: &str, value: &str| {
            let variables = [("POSTHASTE_SERVICE_AUTH", "none"), (variable, value)];
            parse("", variables.map(|(name, value)| (name.into(), value.into())))
                .unwrap_or_else(|faults| panic!("{faults:?}"))
        };
        let before = config("PATH", "");
        let told = |variable, value| needing_restart(&before, &config(variable, value)).collect::<Vec<&str>>();
        for (variable, value, needs) in [
            ("POSTHASTE_SERVICE_LISTEN", "127.0.0.1:0", Some("service.listen")),
            ("POSTHASTE_SERVICE_METRICS_LISTEN", "127.0.0.1:9470", Some("service.metrics_listen")),
            ("POSTHASTE_SERVICE_SOCKET_MODE", "0660", Some("service.socket_mode")),
            ("POSTHASTE_STORAGE_PATH", "elsewhere", Some("storage.path")),
            ("POSTHASTE_STORAGE_COMPACT_ABOVE", "1 GiB", Some("storage.compact_above")),
            ("POSTHASTE_STORAGE_CACHE_BYTES", "8 MiB", Some("storage.cache_bytes")),
            ("POSTHASTE_LOG_FORMAT", "json", Some("log.format")),
            ("POSTHASTE_LOG_LEVEL", "debug", Some("log.level")),
            ("POSTHASTE_DELIVERY_TIMEOUT", "20s", None),
            ("POSTHASTE_STORAGE_MAX_BYTES", "1 GiB", None),
        ] {
            assert_eq!(told(variable, value), needs.into_iter().collect::<Vec<&str>>(), "{variable}");
        }
    }
}

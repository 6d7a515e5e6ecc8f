//! `posthaste check`: what is wrong with a configuration, and where.

use serde_json::{Value, json};

use super::serve::ConfigFile;
use super::{Failure, output};
use crate::config::{Auth, Config, ConfigErrors, Listen, Loaded, LocatedFault, Place};
use crate::http;

const EXAMPLE: &str = "Example:
  posthaste check --config /etc/posthaste/config.toml

Every fault is a line `file:line: setting what is wrong`. Exit 0: fine, 2: not.";

/// Say what is wrong with a configuration, and where
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads the configuration as `serve` does, and says how that went.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.file.load().and_then(with_certificate) {
        Ok(loaded) if args.json => output::print(&json!({"ok": true, "path": loaded.path, "faults": []}).to_string()),
        Ok(loaded) => {
            let file = loaded.path.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
            output::print(&format!("{file}: fine: {}", summary(&loaded.config)))
        }
        Err(errors) => {
            if args.json {
                output::print(&as_json(&errors).to_string())?;
            }
            Err(Failure::usage(errors.to_string()))
        }
    }
}

/// Refuses a certificate and key that `serve` could not show.
fn with_certificate(loaded: Loaded) -> Result<Loaded, ConfigErrors> {
    let Some(files) = &loaded.config.service.tls else { return Ok(loaded) };
    match http::check_certificate(files) {
        Ok(()) => Ok(loaded),
        Err(message) => {
            let (place, field) = (Place::Nowhere, "service.tls".to_owned());
            let message = format!("cannot be used: {message}");
            Err(ConfigErrors { path: loaded.path, faults: vec![LocatedFault { place, field, message }] })
        }
    }
}

fn summary(config: &Config) -> String {
    let listen: Vec<String> = config
        .service
        .listen
        .iter()
        .map(|listener| match listener {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        })
        .collect();
    let callers = match (config.service.auth, config.api_keys.len()) {
        (Auth::None, _) => "no API key needed".to_owned(),
        (Auth::Keys, 1) => "1 API key".to_owned(),
        (Auth::Keys, count) => format!("{count} API keys"),
    };
    let tls = if config.service.tls.is_some() { " with TLS" } else { "" };
    format!("listens on {}{tls}, {callers}, storage in {}", listen.join(", "), config.storage.path.display())
}

fn as_json(errors: &ConfigErrors) -> Value {
    let faults: Vec<Value> = errors
        .faults
        .iter()
        .map(|fault| {
            let (variable, line, column) = match &fault.place {
                Place::Variable(name) => (Some(name), None, None),
                Place::Nowhere => (None, None, None),
                Place::Line(line) => (None, Some(line), None),
                Place::LineColumn(line, column) => (None, Some(line), Some(column)),
            };
            json!({"field": fault.field, "message": fault.message, "line": line, "column": column, "variable": variable})
        })
        .collect();
    json!({"ok": false, "path": errors.path, "faults": faults})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_fine_configuration_is_one_line_and_faults_are_objects() {
        let fine = variables(&[
            ("POSTHASTE_SERVICE_AUTH", "none"),
            ("POSTHASTE_SERVICE_LISTEN", "[::1]:1,unix:/run/x"),
            ("POSTHASTE_STORAGE_PATH", "/data"),
        ]);
        let config = config::load(None, fine).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(summary(&config), "listens on [::1]:1, unix:/run/x, no API key needed, storage in /data");

        let errors = config::load(None, variables(&[("POSTHASTE_SERVICE_AUTH", "x")])).err().expect("wrong");
        let faults = &as_json(&errors)["faults"];
        assert_eq!(faults[0]["variable"], "POSTHASTE_SERVICE_AUTH");
        assert_eq!(faults[0]["field"], "service.auth");
    }
}

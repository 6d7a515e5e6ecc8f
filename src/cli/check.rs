//! `posthaste check`: what is wrong with a configuration, and where.

use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::serve::ConfigFile;
use super::{Failure, on_runtime, output};
use crate::api::declared::read_folder;
use crate::config::declared::{DeclarationErrors, Declarations};
use crate::config::{Auth, Config, ConfigErrors, Listen, Loaded, LocatedFault, Place};
use crate::http::check_certificate;
use crate::time::Clock;

const EXAMPLE: &str = "Example:
  posthaste check --config /etc/posthaste/config.toml
  posthaste check --config /etc/posthaste/config.toml --diff --token-file token.txt

Every fault is a line `file:line: setting what is wrong`. Exit 0: fine, 2: not.
--diff needs a key with the role read on all organizations; it changes nothing.";

/// Say what is wrong with a configuration and with what files declare, and where
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask a running daemon what putting the declarations in force would change
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    client: ClientArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads the configuration as `serve` does, and says how that went.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let (loaded, declarations) = match read(args.file) {
        Ok(read) => read,
        Err(DeclarationErrors(errors)) => return refused(errors, args.json),
    };
    if args.diff {
        let Some(declarations) = declarations else {
            return Err(Failure::usage("service.declared_in names no folder: there is nothing to compare"));
        };
        return diff(args.client, &declarations, args.json);
    }
    if args.json {
        return output::print(&json!({"ok": true, "path": loaded.path, "faults": []}).to_string());
    }
    let file = loaded.path.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    output::print(&format!("{file}: fine: {}", summary(&loaded.config)))
}

fn read(file: ConfigFile) -> Result<(Loaded, Option<Declarations>), DeclarationErrors> {
    let loaded = file.load().and_then(with_certificate).map_err(|errors| DeclarationErrors(vec![errors]))?;
    let Some(folder) = &loaded.config.service.declared_in else { return Ok((loaded, None)) };
    let (declarations, _) = read_folder(folder, Clock::system().now(), loaded.config.delivery.allow_http)?;
    Ok((loaded, Some(declarations)))
}

fn refused(errors: Vec<ConfigErrors>, is_json: bool) -> Result<(), Failure> {
    if is_json {
        output::print(&as_json(&errors).to_string())?;
    }
    Err(Failure::usage(DeclarationErrors(errors).to_string()))
}

/// Prints what the daemon says it would change.
fn diff(client: ClientArgs, declarations: &Declarations, is_json: bool) -> Result<(), Failure> {
    let client = Client::new(client)?;
    on_runtime(async {
        let body = Value::from(declarations.tree.clone()).to_string();
        let answer = client.post("/v1/declarations/plan", &[], body).await?;
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY
            && let Err(DeclarationErrors(errors)) = declarations.judged::<()>(Err(answer.faults()))
        {
            return refused(errors, is_json);
        }
        let plan = answer.accepted()?;
        output::print(&if is_json { plan.to_string() } else { output::printable(&as_text(&plan["steps"])) })
    })
}

/// A line a step, and one a field that differs where something is updated.
fn as_text(steps: &Value) -> String {
    let steps = steps.as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        return "nothing would change".to_owned();
    }
    let mut lines = Vec::new();
    for step in steps {
        let text = |name: &str| step[name].as_str().unwrap_or_default();
        let (action, object) = (text("action"), text("object"));
        lines.push(match action {
            "undeclare" => format!("disable {object}, and delete it once nothing is pending"),
            _ => format!("{action} {object}"),
        });
        if action == "update" {
            let changes = step["changes"].as_object();
            lines.extend(changes.into_iter().flatten().map(|(name, pair)| match name.as_str() {
                "secret" => "    secret".to_owned(),
                _ => format!("    {name}: {} -> {}", pair[0], pair[1]),
            }));
        }
    }
    lines.join("\n")
}

/// Refuses a certificate and key that `serve` could not show.
fn with_certificate(loaded: Loaded) -> Result<Loaded, ConfigErrors> {
    let Some(files) = &loaded.config.service.tls else { return Ok(loaded) };
    match check_certificate(files) {
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

/// `path` is the first file that is at fault; every fault names its own.
fn as_json(errors: &[ConfigErrors]) -> Value {
    let mut faults = Vec::new();
    for ConfigErrors { path, faults: of_file } in errors {
        faults.extend(of_file.iter().map(|LocatedFault { place, field, message }| {
            let (variable, line, column) = match place {
                Place::Variable(name) => (Some(name), None, None),
                Place::Nowhere => (None, None, None),
                Place::Line(line) => (None, Some(line), None),
                Place::LineColumn(line, column) => (None, Some(line), Some(column)),
            };
            json!({"file": path, "field": field, "message": message, "line": line, "column": column,
                   "variable": variable})
        }));
    }
    json!({"ok": false, "path": errors.first().and_then(|errors| errors.path.as_ref()), "faults": faults})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_plan_is_a_line_a_step_and_a_line_a_field() {
        let steps = json!([
            {"action": "create", "object": "organizations.acme", "changes": {"name": [null, "Acme"]}},
            {"action": "update", "object": "subscriptions.a", "changes": {"url": ["x", "y"], "secret": ["***", "***"]}},
            {"action": "undeclare", "object": "subscriptions.b", "changes": {}},
            {"action": "delete", "object": "sources.c", "changes": {}},
        ]);
        let lines = [
            "create organizations.acme",
            "update subscriptions.a",
            "    url: \"x\" -> \"y\"",
            "    secret",
            "disable subscriptions.b, and delete it once nothing is pending",
            "delete sources.c",
        ];
        assert_eq!(as_text(&steps), lines.join("\n"));
        assert_eq!(as_text(&json!([])), "nothing would change");
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
        let faults = &as_json(&[errors])["faults"];
        assert_eq!(faults[0]["variable"], "POSTHASTE_SERVICE_AUTH");
        assert_eq!(faults[0]["field"], "service.auth");
    }
}

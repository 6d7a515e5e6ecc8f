//! `posthaste sign` and `posthaste verify`: Standard Webhooks by hand. The
//! signatures themselves are `crate::sign`'s.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{Failure, output};
use crate::config::environment;
use crate::secret::Secret;
use crate::sign::{self, Received, StandardKey};
use crate::time::{Clock, parse_duration};

const SIGN_EXAMPLE: &str = "Example:
  echo -n '{\"type\":\"door.opened\"}' | POSTHASTE_SECRET=whsec_... posthaste sign --id msg_1

Prints the three headers that a Standard Webhooks receiver checks.";

const VERIFY_EXAMPLE: &str = "Example:
  posthaste verify --secret-file secret.txt --id msg_1 --timestamp 1767225600 \\
    --signature 'v1,...' body.json

Exit 0: the signature is right, 1: it is not.";

/// Where the signing secret comes from.
#[derive(clap::Args)]
pub(super) struct SecretSource {
    /// A file with the secret (whsec_...), which not everybody may read
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
    /// The secret itself; others on this machine may see it, so prefer --secret-file or POSTHASTE_SECRET
    #[arg(long)]
    secret: Option<String>,
}

impl SecretSource {
    /// The key to sign with, where there is a secret.
    pub(super) fn key(self) -> Result<Option<StandardKey>, Failure> {
        let Some(secret) = self.read()? else { return Ok(None) };
        let key = StandardKey::read(&secret);
        key.map(Some).map_err(|error| Failure::usage(format!("the secret {error}")))
    }

    fn read(self) -> Result<Option<Secret>, Failure> {
        if let Some(text) = self.secret {
            return Ok(Some(Secret::new(text)));
        }
        let Some(path) = self.secret_file else { return Ok(environment::secret(environment::SECRET)) };
        let bytes = output::read_secret(&path)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{} does not hold a secret: it is not text", path.display())))?;
        Ok(Some(Secret::new(text.trim().to_owned())))
    }

    fn required(self) -> Result<StandardKey, Failure> {
        let none = || Failure::usage("no secret: give --secret-file FILE, or set POSTHASTE_SECRET");
        self.key()?.ok_or_else(none)
    }
}

/// Sign a body as Standard Webhooks asks
#[derive(clap::Args)]
#[command(after_help = SIGN_EXAMPLE)]
pub(super) struct SignArgs {
    #[command(flatten)]
    secret: SecretSource,
    /// The message's id
    #[arg(long)]
    id: String,
    /// Unix seconds; now when not given
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u64>,
    /// The body; - is standard input
    #[arg(default_value = "-")]
    body: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Verify a signature as Standard Webhooks asks
#[derive(clap::Args)]
#[command(after_help = VERIFY_EXAMPLE)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    secret: SecretSource,
    /// The webhook-id header
    #[arg(long)]
    id: String,
    /// The webhook-timestamp header
    #[arg(long, value_name = "SECONDS")]
    timestamp: u64,
    /// The webhook-signature header: one signature or several
    #[arg(long, value_name = "SIGNATURES")]
    signature: String,
    /// How far the timestamp may lie from now, such as 5m
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = parse_duration)]
    tolerance: Duration,
    /// The body; - is standard input
    #[arg(default_value = "-")]
    body: PathBuf,
}

/// Prints the headers that sign the body.
pub(super) fn sign(args: SignArgs) -> Result<(), Failure> {
    let key = args.secret.required()?;
    let body = output::read_input(&args.body)?;
    let timestamp = args.timestamp.unwrap_or_else(|| Clock::system().now().as_secs());
    let signature = key.sign(&args.id, timestamp, &body);
    if args.json {
        let headers = json!({
            "webhook-id": args.id,
            "webhook-timestamp": timestamp.to_string(),
            "webhook-signature": signature,
        });
        return output::print(&headers.to_string());
    }
    output::print(&format!("webhook-id: {}\nwebhook-timestamp: {timestamp}\nwebhook-signature: {signature}", args.id))
}

/// Says whether the signature is right.
pub(super) fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let key = args.secret.required()?;
    let body = output::read_input(&args.body)?;
    let received =
        Received { id: &args.id, timestamp: &args.timestamp.to_string(), signature: &args.signature, body: &body };
    sign::verify(&[key], &received, Clock::system().now(), args.tolerance)
        .map_err(|error| Failure::failed(format!("not verified: {error}")))?;
    output::print(&format!("verified: signed with this secret, {}", from(&args.body)))
}

fn from(body: &Path) -> String {
    if body == Path::new("-") { "body from standard input".to_owned() } else { format!("body {}", body.display()) }
}

//! `posthaste listen`: a receiver for development that verifies and prints.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use super::receiver::{Receiver, Request, Signature};
use super::signing::SecretSource;
use super::{Failure, certificates, on_runtime, output};
use crate::json;
use crate::sign::StandardKey;

const EXAMPLE: &str = "Example:
  POSTHASTE_SECRET=whsec_... posthaste listen --tls --ca-file ca.pem

then create a subscription with the URL https://127.0.0.1:8471/ and the contents of
ca.pem as tls.ca_pem (the daemon must allow the network 127.0.0.1/32). Without
--tls the daemon must also allow_http. Ends with Ctrl-C.";

/// Receive webhooks for development: verify and print them
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8471")]
    address: SocketAddr,
    #[command(flatten)]
    secret: SecretSource,
    /// The status of every answer
    #[arg(long, default_value = "200", value_parser = clap::value_parser!(u16).range(100..=599))]
    status: u16,
    /// Serve https with a self-made certificate
    #[arg(long)]
    tls: bool,
    /// Where to write the certificate's authority, in PEM; else it is printed
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Print one JSON object a request
    #[arg(long)]
    json: bool,
}

/// Prints requests until Ctrl-C.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    on_runtime(listen(args))
}

async fn listen(args: Args) -> Result<(), Failure> {
    let status = StatusCode::from_u16(args.status).map_err(|error| Failure::usage(error.to_string()))?;
    let key = args.secret.key()?;
    let certificates = match args.tls {
        true => Some(certificates::make(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            args.address.ip().to_string(),
        ])?),
        false => None,
    };
    let listener = TcpListener::bind(args.address).await.map_err(|error| {
        Failure::failed(format!("{} cannot be listened on: {error}; choose another --address", args.address))
    })?;
    let address = listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
    let (ca_pem, acceptor) = certificates.map(|made| (made.ca_pem, made.acceptor)).unzip();

    let url = format!("{}://{address}/", if args.tls { "https" } else { "http" });
    if let (Some(path), Some(pem)) = (&args.ca_file, &ca_pem) {
        std::fs::write(path, pem)
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))?;
    }
    let printed_pem = ca_pem.filter(|_| args.ca_file.is_none());
    if args.json {
        output::print(&serde_json::json!({"listening": url, "ca_pem": printed_pem}).to_string())?;
    } else {
        output::print(&format!("listening on {url}, answering {}", args.status))?;
        if let Some(pem) = printed_pem {
            output::print(&format!("the certificate's authority, for tls.ca_pem:\n{pem}"))?;
        }
    }

    let mut receiver = Receiver::start(listener, acceptor);
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            request = receiver.next() => {
                let Some(request) = request else { return Ok(()) };
                let shown = match args.json {
                    true => as_json(&request, key.as_ref()).map_err(|error| Failure::failed(error.to_string()))?,
                    false => as_text(&request, key.as_ref()),
                };
                request.answer(status);
                output::print(&shown)?;
            }
        }
    }
}

fn verdict(request: &Request, key: Option<&StandardKey>) -> (&'static str, String) {
    match key.map(|key| request.signature(key, request.received_at)) {
        None if request.header("webhook-signature").is_some() => ("not_checked", "signed, not checked".to_owned()),
        None | Some(Signature::Unsigned) => ("unsigned", "unsigned".to_owned()),
        Some(Signature::Right) => ("right", "signature right".to_owned()),
        Some(Signature::Wrong(reason)) => ("wrong", format!("SIGNATURE WRONG: {reason}")),
    }
}

fn as_text(request: &Request, key: Option<&StandardKey>) -> String {
    let event_type = request.event_type().unwrap_or_else(|| "no type".to_owned());
    let body = match serde_json::from_slice::<&RawValue>(&request.body) {
        Ok(raw) => json::pretty(raw.get()),
        Err(_) => match std::str::from_utf8(&request.body) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("({} bytes that are not text)", request.body.len()),
        },
    };
    let id = request.header("webhook-id").map(|id| format!("\n  webhook-id: {id}")).unwrap_or_default();
    let head = format!(
        "{}  {} {}  {event_type}  {}{id}",
        request.received_at,
        request.method,
        request.path,
        verdict(request, key).1
    );
    let mut shown = head;
    for line in body.lines() {
        shown.push_str("\n  ");
        shown.push_str(line);
    }
    output::printable(&shown)
}

/// A request as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    received_at: String,
    method: &'a str,
    path: &'a str,
    event_type: Option<String>,
    signature: &'static str,
    headers: Map<String, Value>,
    /// JSON on one line, else in the spelling that was signed; what is no JSON as text.
    body: Box<RawValue>,
}

fn as_json(request: &Request, key: Option<&StandardKey>) -> serde_json::Result<String> {
    let text = String::from_utf8_lossy(&request.body);
    let body = match serde_json::from_str::<&RawValue>(&text) {
        Ok(raw) => RawValue::from_string(json::compact(raw.get())),
        Err(_) => to_raw_value(&text),
    }?;
    let text_of = |value: &HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    serde_json::to_string(&Shown {
        received_at: request.received_at.to_string(),
        method: &request.method,
        path: &request.path,
        event_type: request.event_type(),
        signature: verdict(request, key).0,
        headers: request.headers.iter().map(|(name, value)| (name.to_string(), text_of(value))).collect(),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::receiver::tests::{key, request};

    #[test]
    fn requests_are_shown_with_what_their_signature_is_worth() {
        let body = r#"{"type":"door.opened","data":1}"#;
        let signature = key().sign("msg_1", 1_700_000_000, body.as_bytes());
        let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", "1700000000"), ("webhook-signature", &signature)];
        let (signed, _) = request(&headers, body);
        assert_eq!(
            as_text(&signed, Some(&key())),
            "2023-11-14T22:13:20.000Z  POST /hooks  door.opened  signature right\n  webhook-id: msg_1\n  {\n    \
             \"type\": \"door.opened\",\n    \"data\": 1\n  }"
        );
        assert!(as_text(&signed, None).contains("signed, not checked"));
        let (changed, _) = request(&headers, "\u{1b}[2J");
        let shown = as_text(&changed, Some(&key()));
        assert!(shown.contains("no type  SIGNATURE WRONG") && !shown.contains('\u{1b}'), "{shown}");
        let (unsigned, _) = request(&[], body);
        let shown = as_json(&unsigned, Some(&key())).expect("is written");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON")["signature"], "unsigned");
        assert!(shown.ends_with(&format!(r#","body":{body}}}"#)), "{shown}");
        let (broken, _) = request(&[], "1 2");
        assert!(as_json(&broken, None).expect("is written").ends_with(r#","body":"1 2"}"#));
    }

    /// It showed 1e3 as 1000.0, and large numbers rounded: who looked for the reason of a wrong
    /// signature looked at other bytes than those that were signed.
    #[test]
    fn numbers_are_shown_as_they_came() {
        let body = "{\"type\":\"t\",\n \"data\":[1e3,12345678901234567890123,1.50,{\"a\":1,\"a\":2}]}";
        let (received, _) = request(&[], body);
        let shown = as_text(&received, None);
        for spelling in ["\n      1e3,", "\n      12345678901234567890123,", "\n      1.50,", "\"a\": 1,", "\"a\": 2\n"]
        {
            assert!(shown.contains(spelling), "{spelling:?}: {shown}");
        }
        let shown = as_json(&received, None).expect("is written");
        let expected = r#","body":{"type":"t","data":[1e3,12345678901234567890123,1.50,{"a":1,"a":2}]}}"#;
        assert!(shown.ends_with(expected) && !shown.contains('\n'), "{shown}");
    }
}

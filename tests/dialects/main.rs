//! The vendors: what receivers get, byte for byte as each vendor's documents show
//! it, and each vendor's own API.
//!
//! - `vectors`: published signatures, reproduced.
//! - `examples`: every example event of the vendors, published and received.
//! - `ferriskey_api`, …: each management API, by HTTP.
//! - `declared`: webhooks that files own, in each of these APIs.
//! - `formats`: what is particular to each format.
//! - `hostile`: data of unknown origin in templates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod blynk_api;
mod declared;
mod examples;
mod ferriskey_api;
mod formats;
mod hostile;
mod pdk_api;
mod peridio_api;
mod vectors;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use support::{Daemon, Received};

/// HMAC-SHA256 as a receiver computes it.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Whether a request is Peridio's: its guide's steps, in order.
fn verify_peridio(received: &Received, secret: &str) -> bool {
    let signed = [received.header("peridio-published-at").as_bytes(), &received.body].concat();
    let expected = hex::encode_upper(hmac_sha256(&hex::decode(secret).unwrap(), &signed));
    received.header("peridio-signature").split(',').any(|signature| signature == expected)
}

/// Whether a request is PDK's: `createHmac("sha1", secret).update(body).digest("hex")`.
fn verify_pdk(received: &Received, secret: &str) -> bool {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(&received.body);
    received.header("x-pdk-signature") == hex::encode(mac.finalize().into_bytes())
}

/// Whether a request is FerrisKey's: the secret's text signs `{timestamp}.{body}`.
fn verify_ferriskey(received: &Received, secret: &str) -> bool {
    let signed = [received.header("x-ferriskey-timestamp").as_bytes(), b".", &received.body].concat();
    received.header("x-ferriskey-signature") == hex::encode(hmac_sha256(secret.as_bytes(), &signed))
}

/// The reference data of that name.
fn data(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A daemon without retries' delays to wait for and with `text` as its configuration.
async fn daemon(text: &str) -> Daemon {
    Daemon::with(text, &[]).await
}

/// The configuration of a key whose token is its name.
fn key(name: &str, roles: &[&str], organizations: &[&str]) -> String {
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
    format!(
        "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nroles = {roles:?}\norganizations = {organizations:?}\n"
    )
}

/// A daemon that asks for keys: these, beside the rest of its configuration.
async fn daemon_with_keys(text: &str, keys: &[String]) -> Daemon {
    Daemon::with(&[text.to_owned(), keys.concat()].concat(), &[("POSTHASTE_SERVICE_AUTH", "keys")]).await
}

/// A request with a key.
async fn call_as(daemon: &Daemon, key: &str, method: &str, path: &str, body: serde_json::Value) -> support::Answer {
    daemon.call_with(method, path, body, &[("authorization", &format!("Bearer {key}"))]).await
}

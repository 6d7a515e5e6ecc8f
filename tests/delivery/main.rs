//! From an event published to a request received: the daemon in this process, real
//! sockets, real TLS, a clock that the tests set.
//!
//! - `request`: what is sent, byte for byte; `signing`: what proves who sent it.
//! - `endpoint`: to whom it is sent, and to whom never.
//! - `matching`: which events a subscription gets, and what is kept from it.
//! - `retrying`: when it is sent again; `lanes`: what one receiver costs the others.
//! - `lifecycle`: disabled, expired, deleted, replayed, reloaded, restarted.
//! - `ordering`: one at a time, in commit order.
//! - `operational`: what the daemon tells of itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod endpoint;
mod lanes;
mod lifecycle;
mod matching;
mod operational;
mod ordering;
mod request;
mod retrying;
mod signing;

use serde_json::{Value, json};
use support::{Daemon, Receiver};

/// The API's path of a subscription.
fn path_of(subscription: &Value) -> String {
    format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap())
}

/// Waits until a subscription has that status. Answers the code of its reason.
async fn status_becomes(daemon: &Daemon, subscription: &Value, status: &str) -> String {
    let shown = daemon.until(&path_of(subscription), |it| it["status"] == status).await;
    shown["status_reason"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The only witness that nothing came is what came after it: another subscription,
/// whose event is delivered once everything due before it was begun.
struct Witness {
    receiver: Receiver,
}

impl Witness {
    async fn start(daemon: &Daemon) -> Witness {
        let receiver = Receiver::start().await;
        daemon.subscribe(json!({"url": receiver.url, "events": ["witness"]})).await;
        Witness { receiver }
    }

    async fn passes(&mut self, daemon: &Daemon) {
        daemon.publish("witness", Value::Null).await;
        self.receiver.next().await;
    }
}

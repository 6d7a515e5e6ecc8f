//! `posthaste demo`: a real daemon, a real receiver and a few events, in a temporary
//! folder. Shows what the product promises (a delivery, a retry, a rotation, a
//! crash that loses nothing, a clean stop) and fails where it does not hold.
//! **Nothing is waited for without a deadline, and nothing is left behind.**

mod daemon;
mod folder;

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::client::Client;
use super::receiver::{Receiver, Request, Signature};
use super::{Exit, Failure, certificates, on_runtime, output};
use crate::secret::Secret;
use crate::sign::StandardKey;
use crate::time::{Clock, Timestamp};
use daemon::{Daemon, LogTail};
use folder::Folder;

/// The whole demonstration.
const TOTAL_TIME: Duration = Duration::from_secs(60);
/// Anything that is waited for.
const STEP_TIME: Duration = Duration::from_secs(15);
/// Events that must be accepted before the daemon is killed.
const ACCEPTED_BEFORE_KILL: usize = 20;
/// Events that are published at most while waiting for that.
const PUBLISHED_MAX: usize = 10_000;

const EXAMPLE: &str = "Example:
  posthaste demo

Needs nothing and leaves nothing. Exit 0: everything arrived as promised, 1: not.";

/// Show deliveries, a retry, a rotation and a crash, for real, in a temporary folder
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {}

/// Runs the demonstration.
pub(super) fn run(_: Args) -> Result<(), Failure> {
    on_runtime(async {
        let log = LogTail::default();
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(TOTAL_TIME, demonstrate(&log)) => outcome.unwrap_or_else(|_| {
                Err(Failure::failed(format!("expected to be done within {} s", TOTAL_TIME.as_secs())))
            }),
            _ = tokio::signal::ctrl_c() => return Err(Failure::failed("interrupted")),
        };
        outcome.map_err(|failure| explained(failure, &log))
    })
}

/// Whatever went wrong on the way is the demonstration's failure, with the daemon's last words.
fn explained(failure: Failure, log: &LogTail) -> Failure {
    if failure.exit == Exit::Unread {
        return failure;
    }
    let mut message = format!("the demonstration failed: {failure}");
    for line in log.lines() {
        message.push_str("\n  daemon: ");
        message.push_str(&line);
    }
    Failure::failed(message)
}

async fn demonstrate(log: &LogTail) -> Result<(), Failure> {
    let mut demo = Demo::set_up(log).await?;
    demo.deliver().await?;
    demo.retry().await?;
    demo.rotate().await?;
    let demo = demo.crash().await?;
    demo.stop().await
}

/// The daemon stands before its folder, so that it is dropped, and killed, first.
struct Demo {
    daemon: Daemon,
    story: Story,
    log: LogTail,
    folder: Folder,
    client: Client,
    acceptor: TlsAcceptor,
    receiver: Receiver,
    subscription: String,
    key: StandardKey,
}

/// Tells what happens as it happens.
struct Story {
    clock: Clock,
    started_at: Timestamp,
}

impl Story {
    fn tell(&self, text: &str) -> Result<(), Failure> {
        let elapsed = self.clock.now().since(self.started_at);
        output::print(&format!("{:>8.3} s  {text}", elapsed.as_secs_f64()))
    }

    fn chapter(&self, text: &str) -> Result<(), Failure> {
        output::print(&format!("\n{text}"))
    }
}

impl Demo {
    async fn set_up(log: &LogTail) -> Result<Demo, Failure> {
        let clock = Clock::system();
        let story = Story { started_at: clock.now(), clock };
        story.chapter("A daemon, a receiver, a subscription")?;
        let folder = Folder::make()?;
        let made = certificates::make(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let url = format!("https://{}/hooks", listener.local_addr().map_err(no_port)?);
        let receiver = Receiver::start(listener, Some(made.acceptor.clone()));
        story.tell(&format!("a receiver listens on {url}, with a certificate by an authority made just now"))?;

        let config = folder.path().join("config.toml");
        std::fs::write(&config, config_text(&folder))
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", config.display())))?;
        let daemon = Daemon::start(&config, log).await?;
        let client = client_of(&daemon)?;
        story.tell(&format!(
            "a daemon of its own listens on {}, its store in {}",
            daemon.address,
            folder.path().display()
        ))?;

        let settings = json!({"name": "demo", "url": url, "events": ["*"], "tls": {"ca_pem": made.ca_pem}});
        let created = client.post("/v1/subscriptions", &[], settings.to_string()).await?.accepted()?;
        let subscription = text_of(&created, "id", "the answer to POST /v1/subscriptions")?;
        let key = only(secrets(&client, &subscription).await?)?;
        story.tell("a subscription to every event was created; its secret was shown")?;
        let (log, acceptor) = (log.clone(), made.acceptor);
        Ok(Demo { story, log, folder, daemon, client, acceptor, receiver, subscription, key })
    }

    async fn deliver(&mut self) -> Result<(), Failure> {
        self.story.chapter("Deliveries")?;
        for (event_type, data) in [
            ("door.opened", r#"{"door": "front", "by": "Ada"}"#),
            ("device.connected", r#"{"device": 17, "signal": -61.50}"#),
            ("order.paid", r#"{"order": "A-1", "total": 12345678901234567890}"#),
        ] {
            let id = publish(&self.client, event_type, data).await?;
            let request = self.request_of(&id).await?;
            self.check_signature(&request)?;
            let wanted = format!("\"data\":{data}}}");
            if !request.body.ends_with(wanted.as_bytes()) || request.event_type().as_deref() != Some(event_type) {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                return Err(Failure::failed(format!("expected {event_type} with the data as published; got {body}")));
            }
            request.answer(StatusCode::NO_CONTENT);
            self.story.tell(&format!("{event_type}: accepted, delivered, signature right, data byte for byte"))?;
        }
        Ok(())
    }

    async fn retry(&mut self) -> Result<(), Failure> {
        self.story.chapter("A receiver that fails")?;
        let id = publish(&self.client, "door.forced", r#"{"door": "back"}"#).await?;
        let first = self.request_of(&id).await?;
        let failed_at = first.received_at;
        first.answer(StatusCode::SERVICE_UNAVAILABLE);
        self.story.tell("door.forced: the receiver answered 503")?;
        let second = self.request_of(&id).await?;
        self.check_signature(&second)?;
        let pause = second.received_at.since(failed_at).as_millis();
        second.answer(StatusCode::OK);
        self.story.tell(&format!("door.forced: sent again after {pause} ms under the same webhook-id, and taken"))
    }

    async fn rotate(&mut self) -> Result<(), Failure> {
        self.story.chapter("A new secret while the old one is in use")?;
        let path = format!("/v1/subscriptions/{}/secret/rotate", self.subscription);
        self.client.post(&path, &[], json!({"overlap": "1h"}).to_string()).await?.accepted()?;
        let keys = secrets(&self.client, &self.subscription).await?;
        let keys: [StandardKey; 2] = keys
            .try_into()
            .map_err(|keys: Vec<_>| Failure::failed(format!("expected 2 valid secrets; got {}", keys.len())))?;
        self.story.tell("the secret was rotated; old and new are both valid for an hour")?;

        let id = publish(&self.client, "door.closed", r#"{"door": "front"}"#).await?;
        let request = self.request_of(&id).await?;
        let header = request.header("webhook-signature").unwrap_or_default().to_owned();
        let signatures: Vec<&str> = header.split(' ').collect();
        if signatures.len() != 2 {
            return Err(Failure::failed(format!("expected two signatures; got {header:?}")));
        }
        for key in &keys {
            let right =
                |signature: &&&str| request.signature_by(signature, key, request.received_at) == Signature::Right;
            let count = signatures.iter().filter(right).count();
            if count != 1 {
                return Err(Failure::failed(format!("expected one signature by each secret; got {count} by one")));
            }
        }
        // The old secret still verifies too: what a receiver sees that has not heard of the new one.
        self.check_signature(&request)?;
        request.answer(StatusCode::OK);
        self.story.tell("door.closed: two signatures, each right by its own secret")
    }

    async fn crash(self) -> Result<Demo, Failure> {
        let Demo { story, log, folder, daemon, client, acceptor, mut receiver, subscription, key } = self;
        story.chapter("A daemon that is killed")?;
        let (sender, mut accepted) = mpsc::channel(PUBLISHED_MAX);
        let publisher = tokio::spawn(publish_until_gone(client, sender));
        let mut ids = BTreeSet::new();
        while ids.len() < ACCEPTED_BEFORE_KILL {
            let next = within("an event to be accepted", accepted.recv()).await?;
            ids.insert(next.ok_or_else(|| Failure::failed("expected events to be accepted; publishing ended"))?);
        }
        // Not answered: the attempt is in flight when the daemon dies.
        let held = within("an attempt in flight", receiver.next()).await?;
        daemon.kill().await?;
        // What was accepted up to the last moment counts too.
        while let Some(id) = within("publishing to end", accepted.recv()).await? {
            ids.insert(id);
        }
        within("publishing to end", publisher).await?.map_err(|error| Failure::failed(error.to_string()))?;
        story.tell(&format!(
            "{} events were answered 202, none was delivered, and the daemon was killed (SIGKILL)",
            ids.len()
        ))?;

        // All that reached the receiver so far is dropped, unanswered: what arrives from here on was sent anew.
        drop(held);
        let listener = receiver.stop().await.ok_or_else(|| Failure::failed("the receiver broke"))?;
        let receiver = Receiver::start(listener, Some(acceptor.clone()));
        let daemon = Daemon::start(&folder.path().join("config.toml"), &log).await?;
        let client = client_of(&daemon)?;
        let count = ids.len();
        let mut demo = Demo { story, log, folder, daemon, client, acceptor, receiver, subscription, key };
        demo.story.tell("started again on the same store")?;
        while !ids.is_empty() {
            let what = format!("all {count} events to arrive ({} are missing)", ids.len());
            let request = demo.request(&what).await?;
            demo.check_signature(&request)?;
            ids.remove(request.header("webhook-id").unwrap_or_default());
            request.answer(StatusCode::OK);
        }
        demo.story.tell(&format!("all {count} arrived: nothing was lost"))?;
        Ok(demo)
    }

    async fn stop(self) -> Result<(), Failure> {
        let Demo { story, daemon, mut receiver, .. } = self;
        story.chapter("A clean stop")?;
        // Events that were being published when the daemon was killed may still come.
        let answering = tokio::spawn(async move {
            while let Some(request) = receiver.next().await {
                request.answer(StatusCode::OK);
            }
        });
        let status = daemon.stop().await?;
        answering.abort();
        if status.code() != Some(0) {
            return Err(Failure::failed(format!("expected exit code 0 after SIGTERM; got {status}")));
        }
        story.tell("SIGTERM: the daemon ended with exit code 0")?;
        story.chapter(
            "Shown: signed deliveries, a retry under the same id, two secrets at once, a crash without loss, a clean \
             stop.",
        )
    }

    async fn request(&mut self, what: &str) -> Result<Request, Failure> {
        within(what, self.receiver.next()).await?.ok_or_else(|| Failure::failed("the receiver broke"))
    }

    /// The next request for the event `id`; others are taken on the way, because an
    /// attempt may come twice.
    async fn request_of(&mut self, id: &str) -> Result<Request, Failure> {
        loop {
            let request = self.request(&format!("a request with webhook-id {id}")).await?;
            if request.header("webhook-id") == Some(id) {
                return Ok(request);
            }
            request.answer(StatusCode::OK);
        }
    }

    fn check_signature(&self, request: &Request) -> Result<(), Failure> {
        match request.signature(&self.key, request.received_at) {
            Signature::Right => Ok(()),
            Signature::Unsigned => Err(Failure::failed("expected a signed request; got an unsigned one")),
            Signature::Wrong(reason) => {
                Err(Failure::failed(format!("expected a right signature; got one that is not: {reason}")))
            }
        }
    }
}

/// What the daemon is told: everything else is default.
fn config_text(folder: &Folder) -> String {
    // A JSON string is a TOML string.
    let store = json!(folder.path().join("data").to_string_lossy());
    format!(
        "[service]\nlisten = [\"127.0.0.1:0\"]\nauth = \"none\"\ndrain = \"5s\"\n\n[storage]\npath = {store}\n\n\
         [delivery]\nallow_networks = [\"127.0.0.1/32\"]\n\n[delivery.retry]\nfirst = \"200ms\"\n\n[log]\nformat = \
         \"json\"\n"
    )
}

fn client_of(daemon: &Daemon) -> Result<Client, Failure> {
    let url = Url::parse(&format!("http://{}", daemon.address)).map_err(|error| Failure::failed(error.to_string()))?;
    Client::of_url(&url, None, None)
}

/// Publishes one event and answers its id, which is the `webhook-id` too.
async fn publish(client: &Client, event_type: &str, data: &str) -> Result<String, Failure> {
    let body = format!("{{\"type\":\"{event_type}\",\"data\":{data}}}");
    let answer = client.post("/v1/events", &[], body).await?.accepted()?;
    text_of(&answer, "id", "the answer to POST /v1/events")
}

/// Publishes one event after the other until the daemon is gone, and tells the ids of those it accepted.
async fn publish_until_gone(client: Client, accepted: mpsc::Sender<String>) {
    for number in 0..PUBLISHED_MAX {
        let Ok(id) = publish(&client, "order.placed", &format!("{{\"number\":{number}}}")).await else { return };
        if accepted.send(id).await.is_err() {
            return;
        }
    }
}

/// The subscription's valid secrets.
async fn secrets(client: &Client, subscription: &str) -> Result<Vec<StandardKey>, Failure> {
    let path = format!("/v1/subscriptions/{subscription}/secret");
    let answer = client.get(&path).await?.accepted()?;
    let shown = answer["secrets"].as_array().cloned().unwrap_or_default();
    let key = |secret: &Value| {
        let secret = Secret::new(text_of(secret, "secret", "the answer to GET .../secret")?);
        StandardKey::read(&secret).map_err(|error| Failure::failed(format!("expected a secret; it {error}")))
    };
    shown.iter().map(key).collect()
}

fn only(mut keys: Vec<StandardKey>) -> Result<StandardKey, Failure> {
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (_, more) => Err(Failure::failed(format!("expected one secret; got {}", if more == 0 { 0 } else { more + 1 }))),
    }
}

fn text_of(value: &Value, name: &str, of: &str) -> Result<String, Failure> {
    let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Failure::failed(format!("expected {of} to have {name:?}")))
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::failed(format!("expected {what} within {} s", STEP_TIME.as_secs()));
    tokio::time::timeout(STEP_TIME, work).await.map_err(late)
}

fn no_port(error: std::io::Error) -> Failure {
    Failure::failed(format!("no port of 127.0.0.1 can be listened on: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_daemon_gets_a_configuration_that_is_fine() {
        let folder = Folder::make().unwrap_or_else(|failure| panic!("{failure}"));
        let file = folder.path().join("config.toml");
        std::fs::write(&file, config_text(&folder)).expect("written");
        let config = config::load(Some(&file), []).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.storage.path, folder.path().join("data"));
        assert_eq!(config.delivery.retry.first, Duration::from_millis(200));
    }
}

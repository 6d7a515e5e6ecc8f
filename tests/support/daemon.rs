//! A daemon inside the test's process: the real store in a temporary folder, the
//! real API on a free port, the real dialer. Only the clock is the test's.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use posthaste::app::App;
use posthaste::config::{self, Listen};
use posthaste::deliver::Roots;
use posthaste::time::{Clock, Timestamp};
use serde_json::Value;

use super::{Answer, START_MS, receiver, within};

pub struct Daemon {
    app: Option<App>,
    pub address: SocketAddr,
    pub clock: Clock,
    text: String,
    variables: Vec<(String, String)>,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// A daemon without keys, to which loopback networks are open.
    pub async fn start() -> Daemon {
        Daemon::with("", &[]).await
    }

    /// The same with a configuration file of this text and these variables, which
    /// go before what [`Daemon::start`] sets.
    pub async fn with(text: &str, variables: &[(&str, &str)]) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let mut all: Vec<(String, String)> = [
            ("POSTHASTE_SERVICE_LISTEN", "127.0.0.1:0"),
            ("POSTHASTE_SERVICE_AUTH", "none"),
            ("POSTHASTE_STORAGE_PATH", folder.path().join("store").to_str().unwrap()),
            ("POSTHASTE_STORAGE_RESERVE_BYTES", "0"),
            ("POSTHASTE_DELIVERY_ALLOW_HTTP", "true"),
            ("POSTHASTE_DELIVERY_ALLOW_NETWORKS", "127.0.0.0/8"),
            // By the real clock: an attempt on a busy machine must not fail for that.
            ("POSTHASTE_DELIVERY_CONNECT_TIMEOUT", "60s"),
            ("POSTHASTE_DELIVERY_TIMEOUT", "60s"),
        ]
        .into_iter()
        .filter(|(name, _)| !variables.iter().any(|(other, _)| other == name))
        .chain(variables.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        // An empty value leaves the setting to the file.
        all.retain(|(_, value)| !value.is_empty());
        let mut daemon = Daemon {
            app: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock: Clock::manual(Timestamp::from_millis(START_MS)),
            text: text.to_owned(),
            variables: all,
            folder,
        };
        daemon.run().await;
        daemon
    }

    fn config(&self, text: &str) -> config::Config {
        let path = self.folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let variables = self.variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        config::load(Some(&path), variables).unwrap_or_else(|errors| panic!("{errors}"))
    }

    async fn run(&mut self) {
        let config = self.config(&self.text);
        let roots = Roots::Pem(receiver::authority().pem.clone());
        let app = App::start(config, self.clock.clone(), &roots).await.unwrap();
        let Listen::Tcp(address) = app.addresses()[0] else { panic!("it listens on TCP") };
        self.address = address;
        self.app = Some(app);
    }

    /// The folder of its configuration file.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The daemon itself.
    pub fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Puts another configuration file in force; whether it was.
    pub async fn reload(&self, text: &str) -> bool {
        self.app().reload(self.config(text)).await.is_ok()
    }

    /// The same, with why it was not.
    pub async fn try_reload(&self, text: &str) -> Result<(), posthaste::app::ReloadError> {
        self.app().reload(self.config(text)).await
    }

    /// The configuration file's text from the next start on.
    pub fn set_text(&mut self, text: &str) {
        self.text = text.to_owned();
    }

    /// Stops the daemon in order.
    pub async fn stop(&mut self) {
        within("a stop", self.app.take().unwrap().stop()).await.unwrap();
    }

    /// Stops it and starts another on the same store, and another port.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// Starts it after a stop, on the same store and another port.
    pub async fn start_again(&mut self) {
        self.run().await;
    }

    /// Lets the daemon's clock go on.
    pub fn pass(&self, span: Duration) {
        self.clock.set(self.clock.now() + span);
    }

    /// Sets the daemon's clock to a time as the API spells it.
    pub fn pass_to(&self, time: &Value) {
        self.clock.set(time.as_str().expect("a time").parse().unwrap());
    }

    /// Publishes an event of that type and data. Answers where its delivery to
    /// `subscription` is.
    pub async fn deliver(&self, subscription: &Value, event_type: &str, data: Value) -> String {
        let event = self.publish(event_type, data).await;
        self.delivery(subscription, &event).await
    }

    /// Where the delivery of an event that was published to a subscription is.
    pub async fn delivery(&self, subscription: &Value, event: &Value) -> String {
        let list = format!("/v1/subscriptions/{}/deliveries?limit=500", subscription["id"].as_str().unwrap());
        let found = self.get(&list).await.expect(200);
        let mut deliveries = found["data"].as_array().unwrap().iter();
        let delivery = deliveries.find(|delivery| delivery["event"]["id"] == event["id"]).expect("a delivery");
        format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap())
    }

    /// The delivery at `path` once that many attempts at it were recorded.
    pub async fn attempted(&self, path: &str, attempts: u32) -> Value {
        self.until(path, |delivery| delivery["attempts"] == attempts).await
    }

    /// The delivery at `path` once it is in that state.
    pub async fn in_state(&self, path: &str, state: &str) -> Value {
        self.until(path, |delivery| delivery["state"] == state).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: http::Request<Bytes>) -> Answer {
        within("an answer", send(self.address, request)).await
    }

    /// A request with a JSON body (none for null), without a key.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    /// The same with headers.
    pub async fn call_with(&self, method: &str, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        if !body.is_null() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, body).await
    }

    /// Creates a subscription from these fields, `events` `["*"]` unless given.
    /// Answers what the API did.
    pub async fn subscribe(&self, mut fields: Value) -> Value {
        if fields.get("events").is_none() {
            fields["events"] = serde_json::json!(["*"]);
        }
        self.post("/v1/subscriptions", fields).await.expect(201)
    }

    /// Publishes an event of that type and data. Answers what the API did.
    pub async fn publish(&self, event_type: &str, data: Value) -> Value {
        self.post("/v1/events", serde_json::json!({"type": event_type, "data": data})).await.expect(202)
    }

    /// Asks for `path` again until `is_so` holds of the answer. For what follows an
    /// exchange within moments, such as its outcome.
    pub async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        within(&format!("what is waited for at {path}"), async {
            loop {
                let answer = self.get(path).await.expect(200);
                if is_so(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// One request on a connection of its own.
pub async fn send(address: SocketAddr, mut request: http::Request<Bytes>) -> Answer {
    if !request.headers().contains_key("host") {
        request.headers_mut().insert("host", address.to_string().parse().unwrap());
    }
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

//! What a publisher puts into an event, in the bytes that go over the wire: whatever it is,
//! the request has the headers, the segments, the parameters, the fields and the members
//! that a harmless event's has, and its values are the publisher's. Heads are read here
//! byte by byte, as strictly as can be; targets, forms and JSON by `url` and `serde_json`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::*;
use crate::dialect::{self, EventMode, RenderError, render};
use crate::model::{ContentType, Event, Format, Settings, Subscription};
use crate::time::Timestamp;

/// What a harmless event says.
const PLAIN: &str = "harmless";

/// A request as it arrived.
struct Arrived {
    target: Url,
    /// In their order.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Arrived {
    /// Reads all that came on a connection as one request. Panics where it could be taken for
    /// anything else: a control character in the head, a byte more than was announced.
    fn read(bytes: &[u8]) -> Arrived {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of a head");
        let (head, body) = (&bytes[..end], &bytes[end + 4..]);
        let head = std::str::from_utf8(head).expect("text");
        assert!(head.is_ascii(), "{head:?}");
        let mut lines = head.split("\r\n");
        let target = lines.next().expect("a request line").strip_prefix("POST ").expect("the method");
        let target = target.strip_suffix(" HTTP/1.1").expect("the version");
        assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                assert!(!line.contains(char::is_control), "{line:?}");
                let (name, value) = line.split_once(": ").expect("a name and a value");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
        assert_eq!(length.parse(), Ok(body.len()), "{head}");
        let target = Url::parse(&format!("http://told.invalid{target}")).expect("a target");
        Arrived { target, headers, body: body.to_vec() }
    }

    fn segments(&self) -> Vec<String> {
        let decoded = |segment: &str| percent_decode_str(segment).decode_utf8().expect("text").into_owned();
        self.target.path_segments().expect("a path").map(decoded).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(percent_decode_str(value).decode_utf8().expect("text").into_owned())
    }

    fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Everything that comes on each connection, until it is answered.
async fn recording() -> (Receiver, Arc<Mutex<Vec<u8>>>) {
    let recorded: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shared = recorded.clone();
    let receiver = Receiver::scripted(move |mut peer| {
        let shared = shared.clone();
        async move {
            let mut bytes = Vec::new();
            let is_whole = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes);
                let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
                let length = header(head, "content-length").map_or(0, |value| value.parse().expect("a length"));
                bytes.len() >= head.len() + 4 + length
            };
            while !is_whole(&bytes) && peer.stream.read_buf(&mut bytes).await.expect("bytes") > 0 {}
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            // What comes behind it, if anything does, was not asked for.
            while peer.stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
            *shared.lock().unwrap() = bytes;
            drop(peer);
        }
    });
    (receiver.await, recorded)
}

/// An event that says `text` wherever a publisher may say anything.
fn event(event_type: &str, text: &str) -> Event {
    let quoted = crate::json::quote(text);
    let data = format!("{{\"x\":{quoted},\"deep\":{{{quoted}:[{quoted},1,null]}},\"y\":1}}");
    Event { subject: Some(text.to_owned()), event_id: Some(text.to_owned()), ..Event::sample(event_type, &data) }
}

/// `value` with `text` wherever it says [`PLAIN`], in its texts and its members' names.
fn armed(value: Value, text: &str) -> Value {
    match value {
        Value::String(found) => Value::String(found.replace(PLAIN, text)),
        Value::Array(items) => items.into_iter().map(|item| armed(item, text)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, member)| (key.replace(PLAIN, text), armed(member, text))).collect()
        }
        other => other,
    }
}

/// What a subscription makes of data.
#[derive(Clone, Copy, Debug)]
enum Body {
    Envelope,
    Json,
    Text,
    Form,
    Pairs,
}

const BODIES: [Body; 5] = [Body::Envelope, Body::Json, Body::Text, Body::Form, Body::Pairs];

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn subscription(url: &str, format: Format, body: Body) -> Subscription {
    let mut subscription = Subscription::sample(1);
    let settings: &mut Settings = &mut subscription.settings;
    settings.format = format;
    settings.url = format!("{url}/a/{{x}}/b/-{{subject}}-?k={{x}}&l=1");
    settings.query = Some(pairs(&[("q", "{x}"), ("r s", "-{event_id}-")]));
    settings.headers = pairs(&[("x-own", "{x}")]);
    let template = |text: &str| Some(text.to_owned());
    match body {
        Body::Envelope => {}
        Body::Json => settings.body = template(r#"{"v":{x},"s":"{x}","{x}":{"all":{data}},"id":"{id}","end":1}"#),
        Body::Text => (settings.content_type, settings.body) = (ContentType::Text, template("<{x}>")),
        Body::Form => (settings.content_type, settings.body) = (ContentType::Form, template("a={x}&b={subject}&c=1")),
        Body::Pairs => {
            settings.content_type = ContentType::Form;
            settings.form = Some(pairs(&[("a", "{x}"), ("b c", "-{subject}-")]));
        }
    }
    subscription
}

fn rendered(subscription: &Subscription, event: &Event, mode: EventMode) -> Result<Outgoing, RenderError> {
    let options = dialect::Options { cloudevents_mode: mode, ..dialect::Options::default() };
    render(subscription, event, event.id.delivery(Lane(1)), &[], &options, Timestamp::from_millis(7))
}

/// Texts of what matters to heads, targets, forms and JSON, and of anything; not empty, as
/// no subject is.
fn any_text() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "(\r|\n|\u{0}|\u{7f}|\u{85}|\u{2028}|[ -~]|\u{e9}|\u{1f600}){0,8}",
        "(\r\n|: |\"|\\\\|/|\\.\\.|\\.|%2e|%2F|%0d%0a|%00|[?#&=+;@:,{}\\[\\]]|x){0,8}",
        "\\PC{0,8}",
        Just("\r\nx-injected: 1\r\n\r\nGET / HTTP/1.1\r\n".to_owned()),
        Just("\",\"end\":2,\"x\":\"".to_owned()),
        Just("/../../b?k=1#f".to_owned()),
        Just("@elsewhere.example:1/".to_owned()),
    ];
    text.prop_filter("empty", |text| !text.is_empty())
}

#[test]
fn whatever_an_event_says_it_changes_nothing_but_its_own_values() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client = {
        let _inside = runtime.enter();
        client()
    };
    let (receiver, recorded) = runtime.block_on(recording());
    let sent = |outgoing: Outgoing| {
        let host = receiver.address.to_string();
        let mut sending = Sending::to(&receiver.url());
        sending.request = outgoing;
        assert_eq!(status(runtime.block_on(sending.by(&client))), 200);
        let arrived = loop {
            let bytes = std::mem::take(&mut *recorded.lock().unwrap());
            if !bytes.is_empty() {
                break Arrived::read(&bytes);
            }
            std::thread::yield_now();
        };
        assert_eq!(arrived.header("host"), Some(host));
        arrived
    };
    let mut harmless: BTreeMap<String, Arrived> = BTreeMap::new();
    let formats = prop::sample::select(Format::ALL);
    let types = prop::sample::select(vec!["door.opened", "ou.created", "panel.connected", "door.input.virtualread"]);
    let modes = prop::sample::select(vec![EventMode::Structured, EventMode::Binary]);
    let cases = (any_text(), formats, types, modes, prop::sample::select(&BODIES));
    let base = format!("http://{}", receiver.address);
    let harmless = std::cell::RefCell::new(&mut harmless);
    let outcome = TestRunner::default().run(&cases, |(text, format, event_type, mode, body)| {
        let made = subscription(&base, format, body);
        let request = match rendered(&made, &event(event_type, &text), mode) {
            Ok(request) => request,
            // It would take segments away: it is not sent.
            Err(RenderError::Url(_)) if matches!(text.as_str(), "." | "..") => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let case = format!("{format} {event_type} {mode} {body:?}");
        let mut harmless = harmless.borrow_mut();
        let expected = harmless
            .entry(case.clone())
            .or_insert_with(|| sent(rendered(&made, &event(event_type, PLAIN), mode).expect("a request")));
        let arrived = sent(request);
        prop_assert_eq!(arrived.names(), expected.names(), "{}", case);
        prop_assert_eq!(arrived.header("x-own"), Some("{x}".to_owned()));
        for name in ["ce-id", "ce-subject"] {
            let value = expected.header(name).map(|_| text.clone());
            prop_assert_eq!(arrived.header(name).unwrap_or_default(), value.unwrap_or_default(), "{}", name);
        }
        prop_assert_eq!(arrived.segments(), ["a".to_owned(), text.clone(), "b".to_owned(), format!("-{text}-")]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query: Vec<(String, String)> = arrived.target.query_pairs().into_owned().collect();
        let wrapped = format!("-{text}-");
        prop_assert_eq!(query, [pair("k", &text), pair("l", "1"), pair("q", &text), pair("r s", &wrapped)]);
        prop_assert_eq!(arrived.target.fragment(), None);

        let json = |body: &[u8]| serde_json::from_slice::<Value>(body);
        let form = || url::form_urlencoded::parse(&arrived.body).into_owned().collect::<Vec<_>>();
        match body {
            Body::Envelope if expected.body.is_empty() => prop_assert!(arrived.body.is_empty()),
            Body::Envelope | Body::Json => {
                let read = json(&arrived.body).map_err(|error| TestCaseError::fail(format!("{case}: {error}")))?;
                prop_assert_eq!(read, armed(json(&expected.body).expect("JSON"), &text), "{}", case);
            }
            Body::Text => prop_assert_eq!(&arrived.body, &format!("<{text}>").into_bytes()),
            Body::Form => prop_assert_eq!(form(), [pair("a", &text), pair("b", &text), pair("c", "1")]),
            Body::Pairs => prop_assert_eq!(form(), [pair("a", &text), pair("b c", &wrapped)]),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

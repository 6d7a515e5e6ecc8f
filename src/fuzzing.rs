//! What the fuzz targets of `fuzz/` do with bytes of unknown origin, a function each: read
//! them as what they are meant to be, and check what must hold whatever they are. The
//! corpus beside the targets goes through the same functions in every `cargo test`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use url::{Host, Url};

use crate::api::{self, Quotas};
use crate::attempt::Performer;
use crate::config::{self, Live};
use crate::deliver::{self, Client, Roots};
use crate::http::{Body, BodyRoom, Link, Service};
use crate::json::{self, Json};
use crate::metrics::Metrics;
use crate::model::{Format, Subscription};
use crate::store::{self, Store, WriterThread};
use crate::template::{Context, Placeholder, Template, Value};
use crate::time::{Clock, Timestamp};

const NOW_MS: u64 = 1_800_000_000_000;

/// A configuration file: fine, or faults that each name their place.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(faults) = config::parse(text, []) {
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.message.is_empty()));
    }
}

/// A template and, behind a null byte, the data: values stay inside their places.
pub fn templates(bytes: &[u8]) {
    let Some((template, data)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\0')) else { return };
    let Ok(data) = Json::parse(Bytes::copy_from_slice(data.as_bytes())) else { return };
    let filled = |context: Context, data: Option<&str>| {
        let lookup = |placeholder: &Placeholder<'_>| {
            let mut path: Vec<String> = placeholder.name.split('.').map(str::to_owned).collect();
            path.extend(placeholder.index.map(|index| index.to_string()));
            json::find(data?, &path).map(|found| Value::Json(found.into()))
        };
        Template::parse(template, context).render(1 << 20, &lookup).map(|rendered| rendered.text)
    };
    let with_data = |context| Some((filled(context, None).ok()?, filled(context, Some(data.as_str())).ok()?));
    if let Some((empty, full)) = with_data(Context::Json)
        && serde_json::from_str::<&RawValue>(&empty).is_ok()
    {
        // As text: the data may hold numbers and half characters that no type of ours can.
        serde_json::from_str::<&RawValue>(&full).expect("JSON with nulls is JSON with values");
        let members = |text| serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text).map(|members| members.len());
        if let (Ok(empty), Ok(full)) = (members(&empty), members(&full)) {
            assert!(full >= empty.min(1), "no member is lost");
        }
    }
    if let Some((empty, full)) = with_data(Context::Encoded) {
        for delimiter in "/?#&=+:@;,\\ \r\n\0".chars() {
            assert_eq!(empty.matches(delimiter).count(), full.matches(delimiter).count(), "{delimiter:?} in {full:?}");
        }
    }
    let _ = with_data(Context::Plain);
}

/// A URL: what may be dialled is public, and is the host that the receiver is told.
pub fn url_policy(bytes: &[u8]) {
    let Some(url) = std::str::from_utf8(bytes).ok().and_then(|text| Url::parse(text).ok()) else { return };
    if !matches!(url.scheme(), "http" | "https") {
        return;
    }
    let told =
        Url::parse(&format!("{}://{}/", url.scheme(), url.host_str().expect("a host"))).expect("a host is a host");
    assert_eq!(told.host(), url.host());
    match deliver::dialled(&url) {
        Some(Ok(address)) => {
            assert!(is_public(address.ip()), "{url} is dialled at {address}");
            let is_same = match url.host() {
                Some(Host::Ipv4(ip)) => address.ip() == ip,
                Some(Host::Ipv6(ip)) => address.ip() == ip,
                _ => false,
            };
            assert!(is_same && Some(address.port()) == url.port_or_known_default());
        }
        // A resolver may read more spellings of addresses than we do: they are vetted once it
        // has. But what we would call an address is none for us here.
        Some(Err(name)) => assert!(name.parse::<IpAddr>().is_err(), "{name}"),
        None => {}
    }
}

/// What the standard library knows of addresses: a second opinion.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let is_special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast();
            !is_special && !ip.is_documentation() && !ip.is_multicast() && !ip.is_unspecified() && ip.octets()[0] != 0
        }
        IpAddr::V6(ip) => {
            let is_special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unique_local();
            let [first, second, .., v4_high, v4_low] = ip.segments();
            let v4 = (u32::from(v4_high) << 16) | u32::from(v4_low);
            let is_translated = first == 0x64 && second == 0xff9b || ip.segments()[..6] == [0; 6];
            !is_special && !ip.is_unicast_link_local() && (!is_translated || is_public(IpAddr::V4(v4.into())))
        }
    }
}

/// A `Retry-After`.
pub fn retry_after(bytes: &[u8]) {
    let Ok(value) = std::str::from_utf8(bytes) else { return };
    let pause = crate::retry::parse_retry_after(value, Timestamp::from_millis(NOW_MS));
    if let Ok(seconds) = value.parse::<u32>()
        && !value.starts_with('+')
    {
        assert_eq!(pause, Some(Duration::from_secs(seconds.into())));
    }
}

/// A receiver's answer behind a byte that says in how large pieces it comes: it is the same
/// answer in whatever pieces.
pub fn answers(bytes: &[u8]) {
    let Some((piece_bytes, answer)) = bytes.split_first() else { return };
    let whole = deliver::read_answer(std::iter::once(answer));
    let in_pieces = deliver::read_answer(answer.chunks(usize::from(*piece_bytes).max(1)));
    assert_eq!(in_pieces, whole);
}

/// A stored record, of whichever kind.
pub fn records(bytes: &[u8]) {
    store::fuzzing::read_records(bytes);
}

/// The API of a daemon that sends nothing, without a connection.
pub struct Api {
    service: Service,
    runtime: tokio::runtime::Runtime,
    store: Store,
    writer: Option<WriterThread>,
}

const APIS: &str = "[service]\nauth = \"none\"\n[storage]\nreserve_bytes = \"0\"\n[delivery]\nconnect_timeout = \"100ms\"\n\
    [dialects]\nperidio.enabled = true\npdk.enabled = true\nblynk.enabled = true\nferriskey.enabled = true\n";

/// What bodies are sent to; the vendors' own among them. Peridio's alone asks the URL
/// whether it is one, and gets no answer.
const BODIES: &[(Method, &str)] = &[
    (Method::POST, "/v1/events"),
    (Method::POST, "/v1/events/batch"),
    (Method::POST, "/v1/subscriptions"),
    (Method::PUT, "/v1/event-types/a.b"),
    (Method::PUT, "/v1/organizations/acme"),
    (Method::PUT, "/v1/sources/door"),
    (Method::POST, "/peridio/webhooks"),
    (Method::POST, "/pdk/api/ous/default/hooks"),
    (Method::POST, "/blynk/api/v1/organization/webhook/create"),
    (Method::POST, "/ferriskey/realms/default/webhooks"),
    (Method::PATCH, "/v1/subscriptions/SUBSCRIPTION"),
    (Method::PUT, "/v1/subscriptions/SUBSCRIPTION"),
    (Method::POST, "/v1/subscriptions/SUBSCRIPTION/replay"),
    (Method::POST, "/v1/subscriptions/SUBSCRIPTION/cancel"),
    (Method::POST, "/v1/subscriptions/SUBSCRIPTION/secret/rotate"),
];

/// Lists that go on from a cursor.
const LISTS: &[&str] = &[
    "/v1/events",
    "/v1/deliveries",
    "/v1/subscriptions",
    "/v1/organizations",
    "/v1/sources",
    "/v1/event-types",
    "/v1/audit",
    "/v1/subscriptions/SUBSCRIPTION/deliveries",
    "/peridio/webhooks",
];

impl Api {
    /// A new one, its store in `folder`.
    pub fn new(folder: &Path) -> Api {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config::parse(APIS, []).unwrap_or_else(|faults| panic!("{faults:?}"));
        let options = store::Options {
            path: folder.to_owned(),
            bytes_max: 1 << 26,
            reserve_bytes: 0,
            cache_bytes: config.storage.cache_bytes,
            compact_above_bytes: 0,
            retention: config.retention.clone(),
            secrecy: config.secrecy.clone(),
            keyring: Arc::default(),
        };
        let clock = Clock::manual(Timestamp::from_millis(NOW_MS));
        let (store, writer, mut notices) = Store::open(options, clock.clone(), [7; 32]).unwrap();
        let authority = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
        let client = Client::new((&config.delivery).into(), &Roots::Pem(authority.cert.pem())).unwrap();
        let live = Live::new(config);
        let state = api::State {
            store: store.clone(),
            performer: Performer::new(client, live.clone(), clock.clone()),
            config: live,
            clock,
            metrics: Arc::new(Metrics::new(store.commit_items())),
            bodies: BodyRoom::new(1 << 26),
            quotas: Quotas::default(),
        };
        runtime.spawn(async move { while notices.recv().await.is_some() {} });
        Api { service: api::service(Arc::new(state)), runtime, store, writer: Some(writer) }
    }

    /// A body: of which route, its first byte says. Nothing is answered with a fault of ours.
    /// The status, where it was a request.
    pub fn bodies(&self, bytes: &[u8]) -> Option<u16> {
        let (choice, body) = bytes.split_first()?;
        let (method, path) = &BODIES[usize::from(*choice) % BODIES.len()];
        self.ask(method.clone(), path, Bytes::copy_from_slice(body))
    }

    /// The query of a list: of which, its first byte says.
    /// The status, where it was a request.
    pub fn queries(&self, bytes: &[u8]) -> Option<u16> {
        let (choice, query) = bytes.split_first()?;
        let path = LISTS[usize::from(*choice) % LISTS.len()];
        let query = std::str::from_utf8(query).ok()?;
        self.ask(Method::GET, &format!("{path}?{query}"), Bytes::new())
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Option<u16> {
        let is_native = |subscription: &&Arc<Subscription>| subscription.settings.format == Format::Standard;
        let first = self.store.registry().subscriptions().find(is_native).map(|found| found.id.to_string());
        let path = path.replace("SUBSCRIPTION", &first.unwrap_or_default());
        let request = Request::builder().method(method).uri(&path).body(Body::Whole(body)).ok()?;
        let answer = self.runtime.block_on((self.service)(request, Link::Unix));
        let status = answer.status().as_u16();
        assert!(status < 500 || status == 507, "{path}: {status}");
        Some(status)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.store.close();
        self.writer.take().map(WriterThread::join);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::{RngSeed, TestRunner};

    use super::*;

    /// Every file of a target's corpus.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has no corpus");
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// Runs the corpus, and neighbours of it: a few bytes changed, cut out or repeated.
    fn run(target: &str, changed: u32, harness: &dyn Fn(&[u8])) {
        run_from(7, target, changed, harness);
    }

    fn run_from(seed: u64, target: &str, changed: u32, harness: &dyn Fn(&[u8])) {
        let corpus = corpus(target);
        corpus.iter().for_each(|bytes| harness(bytes));
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8);
        let config = ProptestConfig { cases: changed, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() };
        let outcome = TestRunner::new(config).run(&(prop::sample::select(corpus), edits), |(mut bytes, edits)| {
            for (place, byte, kind) in edits {
                let at = place.index(bytes.len() + 1);
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte % 8)))),
                    _ => {
                        let again = bytes[at..bytes.len().min(at + usize::from(byte))].to_vec();
                        bytes.extend_from_slice(&again);
                    }
                }
            }
            harness(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{target}: {failure}"));
    }

    #[test]
    fn what_is_read_by_functions_alone_holds_for_the_corpus_and_its_neighbours() {
        run("configuration", 100, &configuration);
        run("templates", 1000, &templates);
        run("url_policy", 1000, &url_policy);
        run("retry_after", 1000, &retry_after);
        run("answers", 1000, &answers);
        run("records", 1000, &records);
    }

    #[test]
    fn the_api_answers_the_corpus_and_its_neighbours_without_a_fault_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::new(folder.path());
        // Begun from nothing but refusals, it would find little.
        let corpus = corpus("bodies");
        let accepted = |bytes: &&Vec<u8>| api.bodies(bytes).is_some_and(|status| status < 300);
        let routes: BTreeSet<u8> = corpus.iter().filter(accepted).map(|bytes| bytes[0]).collect();
        let refused: Vec<&str> =
            (0_u8..).zip(BODIES).filter(|(route, _)| !routes.contains(route)).map(|(_, (_, path))| *path).collect();
        assert_eq!(refused, ["/peridio/webhooks"]);
        run("bodies", 300, &|bytes| _ = api.bodies(bytes));
        run("queries", 300, &|bytes| _ = api.queries(bytes));
    }

    /// Where there is no nightly toolchain for `fuzz/`: new neighbours of the corpus, for so long.
    #[test]
    #[ignore = "takes as long as POSTHASTE_FUZZING_MINUTES says"]
    #[allow(clippy::disallowed_methods)]
    fn long_run() {
        let minutes: u64 = std::env::var("POSTHASTE_FUZZING_MINUTES").map_or(1, |text| text.parse().unwrap());
        let until = std::time::Instant::now() + Duration::from_secs(60 * minutes);
        let mut rounds = 0_u64;
        while std::time::Instant::now() < until {
            let seed = getrandom::u64().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let api = Api::new(folder.path());
            run_from(seed, "configuration", 200, &configuration);
            run_from(seed, "templates", 5000, &templates);
            run_from(seed, "url_policy", 5000, &url_policy);
            run_from(seed, "retry_after", 5000, &retry_after);
            run_from(seed, "answers", 5000, &answers);
            run_from(seed, "records", 5000, &records);
            run_from(seed, "bodies", 1000, &|bytes| _ = api.bodies(bytes));
            run_from(seed, "queries", 1000, &|bytes| _ = api.queries(bytes));
            rounds += 1;
        }
        println!("{rounds} rounds");
    }
}

//! Who may what: every route, by every role, on what is the key's own, below it, above
//! it and foreign. **A route that the table here does not have fails the test.** What
//! a key does not reach is answered as what is not there.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, Receiver};
use crate::{call_as, daemon_with_keys, key, sorted, token};

/// What a route is about, and so who reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Nothing that is anybody's: no key is needed.
    Nobody,
    /// Everything: keys for all organizations alone.
    Everything,
    /// The catalog, the same for all.
    Catalog,
    /// What the key reaches, and nothing else.
    List,
    /// One thing of an organization, by an id that is one for all organizations.
    Thing,
    /// The same, where an id that nobody has makes a new thing.
    NewThing,
    /// An organization that the path, the query or the body names.
    Organization,
    /// One thing of an organization that is named beside it.
    ThingOfOrganization,
}
use About::*;

/// Every route: method, path, the role it needs, what it is about.
const MATRIX: &[(&str, &str, &str, About)] = &[
    ("GET", "/healthz", "", Nobody),
    ("GET", "/readyz", "", Nobody),
    ("GET", "/openapi.json", "", Nobody),
    ("GET", "/metrics", "read", Everything),
    ("GET", "/v1/stats", "read", Everything),
    ("POST", "/v1/declarations/plan", "read", Everything),
    ("GET", "/v1/backup", "admin", Everything),
    ("POST", "/v1/resume", "admin", Everything),
    ("GET", "/v1/audit", "admin", List),
    ("GET", "/v1/organizations", "read", List),
    ("GET", "/v1/organizations/{id}", "read", Thing),
    ("PUT", "/v1/organizations/{id}", "manage", NewThing),
    ("DELETE", "/v1/organizations/{id}", "manage", Thing),
    ("GET", "/v1/sources", "read", List),
    ("GET", "/v1/sources/{id}", "read", Thing),
    ("PUT", "/v1/sources/{id}", "manage", NewThing),
    ("DELETE", "/v1/sources/{id}", "manage", Thing),
    ("GET", "/v1/event-types", "read", Catalog),
    ("GET", "/v1/event-types/{name}", "read", Catalog),
    ("PUT", "/v1/event-types/{name}", "manage", Everything),
    ("DELETE", "/v1/event-types/{name}", "manage", Everything),
    ("POST", "/v1/events", "publish", Organization),
    ("POST", "/v1/events/batch", "publish", Organization),
    ("GET", "/v1/events", "read", List),
    ("GET", "/v1/events/{id}", "read", Thing),
    ("POST", "/v1/subscriptions", "manage", Organization),
    ("GET", "/v1/subscriptions", "read", List),
    ("GET", "/v1/subscriptions/{id}", "read", Thing),
    ("PUT", "/v1/subscriptions/{id}", "manage", Thing),
    ("PATCH", "/v1/subscriptions/{id}", "manage", Thing),
    ("DELETE", "/v1/subscriptions/{id}", "manage", Thing),
    ("POST", "/v1/subscriptions/{id}/test", "manage", Thing),
    ("POST", "/v1/subscriptions/{id}/enable", "manage", Thing),
    ("POST", "/v1/subscriptions/{id}/disable", "manage", Thing),
    ("GET", "/v1/subscriptions/{id}/secret", "secrets", Thing),
    ("POST", "/v1/subscriptions/{id}/secret/rotate", "manage", Thing),
    ("POST", "/v1/subscriptions/{id}/replay", "manage", Thing),
    ("POST", "/v1/subscriptions/{id}/cancel", "manage", Thing),
    ("GET", "/v1/subscriptions/{id}/deliveries", "read", Thing),
    ("GET", "/v1/deliveries", "read", List),
    ("GET", "/v1/deliveries/{id}", "read", Thing),
    ("POST", "/v1/deliveries/{id}/retry", "manage", Thing),
    ("POST", "/v1/deliveries/{id}/cancel", "manage", Thing),
    ("GET", "/peridio/webhooks", "read", List),
    ("POST", "/peridio/webhooks", "manage", Organization),
    ("GET", "/peridio/webhooks/{prn}", "read", Thing),
    ("PATCH", "/peridio/webhooks/{prn}", "manage", Thing),
    ("DELETE", "/peridio/webhooks/{prn}", "manage", Thing),
    ("POST", "/peridio/webhooks/{prn}/roll_secret", "manage", Thing),
    ("POST", "/peridio/webhooks/{prn}/test_fire", "manage", Thing),
    ("GET", "/pdk/api/ous/{organization}/hooks", "read", Organization),
    ("POST", "/pdk/api/ous/{organization}/hooks", "manage", Organization),
    ("GET", "/pdk/api/ous/{organization}/hooks/{id}", "read", ThingOfOrganization),
    ("PUT", "/pdk/api/ous/{organization}/hooks/{id}", "manage", ThingOfOrganization),
    ("DELETE", "/pdk/api/ous/{organization}/hooks/{id}", "manage", ThingOfOrganization),
    ("GET", "/blynk/api/v1/organization/webhooks", "read", Organization),
    ("POST", "/blynk/api/v1/organization/webhook/create", "manage", Organization),
    ("GET", "/blynk/api/v1/organization/webhook", "read", Thing),
    ("PUT", "/blynk/api/v1/organization/webhook", "manage", Thing),
    ("DELETE", "/blynk/api/v1/organization/webhook", "manage", Thing),
    ("GET", "/ferriskey/realms/{realm}/webhooks", "read", Organization),
    ("POST", "/ferriskey/realms/{realm}/webhooks", "manage", Organization),
    ("GET", "/ferriskey/realms/{realm}/webhooks/{id}", "read", ThingOfOrganization),
    ("PUT", "/ferriskey/realms/{realm}/webhooks/{id}", "manage", ThingOfOrganization),
    ("DELETE", "/ferriskey/realms/{realm}/webhooks/{id}", "manage", ThingOfOrganization),
];

const ROLES: [&str; 5] = ["publish", "read", "manage", "secrets", "admin"];

/// Organizations, and how the keys for `acme` stand to them.
const ORGANIZATIONS: [(&str, bool); 4] = [("acme", true), ("unit", true), ("top", false), ("other", false)];

const PARENTS: [(&str, Option<&str>); 4] =
    [("top", None), ("acme", Some("top")), ("unit", Some("acme")), ("other", None)];

#[test]
fn every_route_is_in_the_matrix() {
    let routes = posthaste::api::every_route();
    let routes = routes.iter().map(|(method, path)| format!("{method} {path}")).collect();
    let matrix = MATRIX.iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    assert_eq!(sorted::<String>(routes), sorted::<String>(matrix), "left: the routes, right: the matrix");
}

/// An organization, and something of everything that it can own.
#[derive(Clone)]
struct Things {
    organization: String,
    source: String,
    /// Of the format that the route is about.
    subscription: String,
    number: String,
    event: String,
    delivery: String,
}

impl Things {
    /// What nobody has, of no organization.
    fn missing() -> Things {
        let id = "01a1fd85-09f5-7859-a070-44eb00000000".to_owned();
        let delivery = "01a1fd85-09f5-7859-a070-44eb00000001".to_owned();
        Things {
            organization: "nowhere".to_owned(),
            source: "source-nowhere".to_owned(),
            subscription: id.clone(),
            number: "99999".to_owned(),
            event: id,
            delivery,
        }
    }

    /// The text without what names these very things.
    fn anonymous(&self, text: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(text).into_owned();
        for name in [&self.delivery, &self.event, &self.subscription, &self.source, &self.organization] {
            text = text.replace(name.as_str(), "X");
        }
        text
    }
}

struct World {
    daemon: Daemon,
    receiver: Receiver,
    made: std::cell::Cell<u32>,
}

impl World {
    async fn new() -> World {
        let mut text = String::new();
        for vendor in ["peridio", "pdk", "blynk", "ferriskey"] {
            text += &format!("[dialects.{vendor}]\nenabled = true\n");
        }
        let mut keys = vec![text, key("all", &["admin"], &["*"])];
        keys.extend(ROLES.iter().map(|role| key(role, &[role], &["acme"])));
        keys.push(format!("{}expires_at = \"2027-01-15T07:59:59Z\"\n", key("expired", &["admin"], &["*"])));
        let world = World {
            daemon: daemon_with_keys(&keys).await,
            receiver: Receiver::start().await,
            made: std::cell::Cell::new(0),
        };
        for (organization, parent) in PARENTS {
            let path = format!("/v1/organizations/{organization}");
            world.all("PUT", &path, json!({"parent": parent})).await.expect(201);
        }
        let described = json!({"description": "", "category": "", "example": {}});
        world.all("PUT", "/v1/event-types/custom.type", described).await.expect(201);
        world
    }

    async fn all(&self, method: &str, path: &str, body: Value) -> Answer {
        call_as(&self.daemon, "all", method, path, body).await
    }

    /// New things of an organization, with a subscription of that format.
    async fn things(&self, organization: &str, format: &str) -> Things {
        self.made.set(self.made.get() + 1);
        let source = format!("source-{organization}-{}", self.made.get());
        let body = json!({"organization": organization});
        self.all("PUT", &format!("/v1/sources/{source}"), body).await.expect(201);
        // What is not verified goes nowhere, so that its deliveries stay pending.
        let url = if format == "peridio" { self.receiver.url.as_str() } else { "https://127.0.0.1:1/" };
        let event_type = format!("a.of-{organization}");
        let events = if format == "standard" { json!([event_type]) } else { json!([]) };
        let body = json!({"organization": organization, "url": url, "events": events, "format": format});
        let subscription = self.all("POST", "/v1/subscriptions", body).await.expect(201);
        let body = json!({"type": event_type, "organization": organization, "data": organization});
        let event = self.all("POST", "/v1/events", body).await.expect(202);
        let event = event["id"].as_str().unwrap().to_owned();
        let shown = self.all("GET", &format!("/v1/events/{event}"), Value::Null).await.expect(200);
        let delivery = shown["deliveries"].as_array().unwrap().last().map(|it| it["id"].as_str().unwrap().to_owned());
        Things {
            organization: organization.to_owned(),
            source,
            subscription: subscription["id"].as_str().unwrap().to_owned(),
            number: subscription["number"].to_string(),
            event,
            delivery: delivery.unwrap_or_default(),
        }
    }

    /// The path and body of a call of a route about these things.
    fn call(&self, method: &str, path: &str, things: &Things) -> (String, Value) {
        let Things { organization, source, subscription, number, event, delivery } = things;
        let prn = format!("prn:1:{organization}:webhook:{subscription}");
        let thing = match path.split('/').nth(2) {
            Some("organizations") => organization,
            Some("sources") => source,
            Some("events") => event,
            Some("deliveries") => delivery,
            _ => subscription,
        };
        let mut filled = path.replace("{id}", thing).replace("{name}", "custom.type").replace("{prn}", &prn);
        filled = filled.replace("{organization}", organization).replace("{realm}", organization);
        if path.starts_with("/blynk/") {
            let chosen = if path.ends_with("/webhook") { ("webhookId", number) } else { ("orgId", organization) };
            filled += &format!("?{}={}", chosen.0, chosen.1);
        }
        let parent = PARENTS.iter().find(|(id, _)| id == organization).and_then(|(_, parent)| *parent).or(Some("acme"));
        let url = self.receiver.url.as_str();
        let body = match (method, path) {
            ("GET" | "DELETE", _) => Value::Null,
            (_, "/v1/organizations/{id}") => json!({"name": "renamed", "parent": parent}),
            (_, "/v1/sources/{id}") => json!({"organization": "acme"}),
            (_, "/v1/event-types/{name}") => json!({"description": "", "category": "", "example": {}}),
            (_, "/v1/events") => json!({"type": "a.b", "organization": organization, "data": 1}),
            (_, "/v1/events/batch") => json!([{"type": "a.b", "organization": organization, "data": 1}]),
            ("POST", "/v1/subscriptions") => json!({"organization": organization, "url": url, "events": []}),
            ("PUT", "/v1/subscriptions/{id}") => json!({"organization": organization, "url": url, "events": []}),
            (_, "/v1/subscriptions/{id}/replay") => json!({"since": "2026-01-01T00:00:00Z", "states": ["failed"]}),
            ("POST", "/peridio/webhooks") => json!({"url": url, "organization_prn": format!("prn:1:{organization}")}),
            _ if path.starts_with("/pdk/") => json!({
                "name": "n", "url": "https://example.com", "scope": "ou", "authentication": {"type": "None"},
                "events": ["door.request.allowed"], "active": true, "sslVerification": true, "secrecyLevel": 1,
            }),
            _ if path.starts_with("/blynk/") => json!({
                "name": "n", "trigger": "DEVICE_ADDED", "url": "https://example.com", "method": "POST",
                "contentType": "JSON", "authType": "NONE",
            }),
            _ if path.starts_with("/ferriskey/") => json!({"endpoint": url, "subscribers": ["user.created"]}),
            _ => json!({}),
        };
        (filled, body)
    }

    async fn ask(&self, caller: &str, method: &str, path: &str, things: &Things) -> Answer {
        // The vendors' limits are of a second.
        self.daemon.pass(Duration::from_secs(1));
        let (path, body) = self.call(method, path, things);
        call_as(&self.daemon, caller, method, &path, body).await
    }
}

fn format_of(path: &str) -> &str {
    match path.split('/').nth(1) {
        Some(vendor @ ("peridio" | "pdk" | "blynk" | "ferriskey")) => vendor,
        _ => "standard",
    }
}

fn is_done(answer: &Answer) -> bool {
    // A conflict is of who may: the organization is in use, the delivery has ended.
    (200..300).contains(&answer.status) || answer.status == 409
}

#[tokio::test]
async fn each_role_does_what_it_may_to_what_it_reaches_and_nothing_else() {
    let world = World::new().await;
    let missing = Things::missing();
    // What is refused changes nothing, so that one of each kind will do.
    let mut kept: HashMap<&str, Vec<(Things, bool)>> = HashMap::new();
    for (method, path, role, about) in MATRIX.iter().filter(|(_, _, _, about)| *about != Nobody) {
        let format = format_of(path);
        if !kept.contains_key(format) {
            let mut things = Vec::new();
            for (organization, is_reached) in ORGANIZATIONS {
                things.push((world.things(organization, format).await, is_reached));
            }
            kept.insert(format, things);
        }
        let things = &kept[format];
        for caller in ROLES {
            let is_let_in = caller == *role || caller == "admin";
            for (kept, is_reached) in things {
                let cell = format!("{caller}: {method} {path} of {}", kept.organization);
                if !is_let_in || *about == Everything {
                    let answer = world.ask(caller, method, path, kept).await;
                    assert_eq!(answer.status, 403, "{cell}: {answer:?}");
                    continue;
                }
                if matches!(about, List | Catalog) {
                    let answer = world.ask(caller, method, path, kept).await;
                    assert_eq!(answer.status, 200, "{cell}: {answer:?}");
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    // By the organization, by its source and by the type of its events.
                    let is_foreign = text.contains("\"other\"") || text.contains("\"top\"") || text.contains("of-top");
                    let is_foreign = is_foreign || text.contains("-other");
                    // An organization that the key reaches says what its parent is.
                    let is_foreign = is_foreign && !(path.ends_with("/organizations") || path.ends_with("/audit"));
                    assert!(!is_foreign, "{cell} shows what is not its own: {text}");
                    continue;
                }
                if *is_reached {
                    let own = world.things(&kept.organization, format_of(path)).await;
                    let answer = world.ask(caller, method, path, &own).await;
                    assert!(is_done(&answer), "{cell}: {answer:?}");
                    if *about == ThingOfOrganization {
                        // Its own organization does not lead to what is another's.
                        let stray = Things { subscription: things[3].0.subscription.clone(), ..own.clone() };
                        let stray = world.ask(caller, method, path, &stray).await;
                        let nothing = Things { subscription: missing.subscription.clone(), ..own };
                        let nothing = world.ask(caller, method, path, &nothing).await;
                        assert_eq!((stray.status, stray.body), (nothing.status, nothing.body), "{cell}");
                    }
                    continue;
                }
                let answer = world.ask(caller, method, path, kept).await;
                if *about == NewThing {
                    assert_eq!(answer.status, 404, "{cell}: {answer:?}");
                    continue;
                }
                let nothing = world.ask(caller, method, path, &missing).await;
                assert_eq!(answer.status, nothing.status, "{cell}: {answer:?} {nothing:?}");
                assert_eq!(kept.anonymous(&answer.body), missing.anonymous(&nothing.body), "{cell}");
                let is_refused = answer.status >= 400 || path.ends_with("/batch") && answer.json()["errors"] != 0;
                assert!(is_refused, "{cell}: {answer:?}");
                if matches!(about, Thing | ThingOfOrganization) {
                    assert_eq!(answer.status, 404, "{cell}");
                }
            }
        }
        // Whoever reaches all reaches these, and they are as they were: nothing was done to what is foreign.
        for (kept, is_reached) in things {
            if !is_reached && !matches!(about, List | Catalog | Everything) {
                let shown = format!("/v1/subscriptions/{}", kept.subscription);
                let shown = world.all("GET", &shown, Value::Null).await.expect(200);
                assert_eq!((&shown["status"], &shown["name"]), (&json!("enabled"), &json!("")), "{method} {path}");
                assert_eq!(shown["created_at"], shown["updated_at"], "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_key_or_with_one_whose_time_is_over_nothing_is_done() {
    let world = World::new().await;
    let things = world.things("acme", "standard").await;
    for (method, path, _, about) in MATRIX {
        let (filled, body) = world.call(method, path, &things);
        if *about == Nobody {
            world.daemon.call(method, &filled, body).await.expect(200);
            continue;
        }
        // Blynk says so of both.
        let refused = if path.starts_with("/blynk/") { 403 } else { 401 };
        let unknown = format!("Bearer {}", token("nobody"));
        for authorization in [None, Some(unknown.as_str())] {
            let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", *value)).collect();
            let answer = world.daemon.call_with(method, &filled, body.clone(), &headers).await;
            assert_eq!(answer.status, refused, "{method} {path}: {answer:?}");
        }
        let answer = call_as(&world.daemon, "expired", method, &filled, body).await;
        assert_eq!(answer.status, refused, "{method} {path}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains("expired"), "{method} {path}: {answer:?}");
    }
}

//! The API's own description, held against what the API takes and answers.

use serde_json::{Value, json};

use crate::support::{Daemon, Receiver};
use crate::{path_of, publish_for_delivery};

/// The routes of the contract.
const ROUTES: &str = "
    GET /healthz /readyz /openapi.json /metrics /v1/backup /v1/organizations /v1/sources /v1/event-types
    PUT,GET,DELETE /v1/organizations/{id} /v1/sources/{id} /v1/event-types/{name}
    POST /v1/resume /v1/declarations/plan /v1/events /v1/events/batch /v1/subscriptions
    GET /v1/events /v1/events/{id} /v1/subscriptions /v1/audit /v1/stats /v1/deliveries /v1/deliveries/{id}
    GET,PUT,PATCH,DELETE /v1/subscriptions/{id}
    GET /v1/subscriptions/{id}/secret /v1/subscriptions/{id}/deliveries
    POST /v1/subscriptions/{id}/test /v1/subscriptions/{id}/enable /v1/subscriptions/{id}/disable
    POST /v1/subscriptions/{id}/secret/rotate /v1/subscriptions/{id}/replay /v1/subscriptions/{id}/cancel
    POST /v1/deliveries/{id}/retry /v1/deliveries/{id}/cancel";

/// Where `value` is not what `schema` says. Knows the part of JSON Schema that the
/// description uses, and fails on what it does not know.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else { return };
    for (rule, wanted) in rules {
        let mut fault = |what: &str| found.push(format!("{at}: {what} {wanted}, not {value}"));
        match rule.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{wanted} leads nowhere"));
                faults(document, schema, value, at, found);
            }
            "type" => {
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                let is = |name: &Value| name == kind || name == "number" && kind == "integer";
                if !wanted.as_array().map_or_else(|| is(wanted), |names| names.iter().any(is)) {
                    fault("must be");
                }
            }
            "enum" => {
                if !wanted.as_array().unwrap().contains(value) {
                    fault("must be one of");
                }
            }
            "const" => {
                if value != wanted {
                    fault("must be");
                }
            }
            "required" => {
                for name in wanted.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        fault("must have");
                    }
                }
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    match wanted.get(name) {
                        Some(schema) => faults(document, schema, member, &format!("{at}.{name}"), found),
                        None if rules.contains_key("additionalProperties") => {}
                        None => found.push(format!("{at}.{name} is not described")),
                    }
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if rules.get("properties").is_none_or(|known| known.get(name).is_none()) {
                        if wanted == false {
                            found.push(format!("{at}.{name} is not described"));
                        }
                        faults(document, wanted, member, &format!("{at}.{name}"), found);
                    }
                }
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    faults(document, wanted, &json!(name), &format!("{at}.{name}"), found);
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults(document, wanted, item, &format!("{at}[{index}]"), found);
                }
            }
            "oneOf" | "anyOf" => {
                let fits = |schema: &&Value| {
                    let mut found = Vec::new();
                    faults(document, schema, value, at, &mut found);
                    found.is_empty()
                };
                if !wanted.as_array().unwrap().iter().any(|schema| fits(&schema)) {
                    fault("must be any of");
                }
            }
            "allOf" => {
                // As one object, so that what one part describes is known to the others.
                let mut whole = json!({"properties": {}, "required": []});
                for part in wanted.as_array().unwrap() {
                    let pointer = part.get("$ref").and_then(Value::as_str);
                    let part = pointer.map_or(part, |pointer| document.pointer(&pointer[1..]).expect(pointer));
                    let properties = part["properties"].as_object().unwrap().clone();
                    whole["properties"].as_object_mut().unwrap().extend(properties);
                    let required = part.get("required").and_then(Value::as_array).cloned();
                    whole["required"].as_array_mut().unwrap().extend(required.unwrap_or_default());
                }
                faults(document, &whole, value, at, found);
            }
            "maxLength" => {
                if value.as_str().is_some_and(|text| text.chars().count() as u64 > wanted.as_u64().unwrap()) {
                    fault("may have at most");
                }
            }
            "minimum" => {
                if value.as_f64().is_some_and(|number| number < wanted.as_f64().unwrap()) {
                    fault("must be at least");
                }
            }
            "maximum" => {
                if value.as_f64().is_some_and(|number| number > wanted.as_f64().unwrap()) {
                    fault("must be at most");
                }
            }
            "description" | "format" | "default" | "readOnly" | "writeOnly" | "examples" | "title" | "pattern"
            | "maxItems" | "minItems" | "maxProperties" | "minLength" | "uniqueItems" | "exclusiveMinimum"
            | "discriminator" => {}
            other => panic!("{at}: the rule {other} is not known here"),
        }
    }
}

#[tokio::test]
async fn every_route_of_the_contract_is_described_and_no_other() {
    let daemon = Daemon::start().await;
    let answer = daemon.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described: Vec<String> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.push(format!("{} {path}", method.to_uppercase()));
            let named = |place: &str| {
                let parameters = operation["parameters"].as_array().unwrap().iter();
                parameters.filter(|parameter| parameter["in"] == place).count()
            };
            assert_eq!(named("path"), path.matches('{').count(), "{method} {path}");
            assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default") && responses.len() > 1, "{method} {path}");
        }
    }
    let mut contract = Vec::new();
    for line in ROUTES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let methods: Vec<&str> = words.next().unwrap().split(',').collect();
        for path in words {
            contract.extend(methods.iter().map(|method| format!("{method} {path}")));
        }
    }
    assert_eq!(crate::sorted(described), crate::sorted(contract));
}

#[tokio::test]
async fn what_is_taken_and_answered_is_what_is_described() {
    let daemon = Daemon::start().await;
    let document = daemon.get("/openapi.json").await.expect(200);
    let receiver = Receiver::start().await;
    let organization = json!({"name": "Acme", "parent": null});
    let entry = json!({"description": "d", "category": "c", "example": {"a": 1}, "fields": ["a"]});
    let event = json!({"type": "a", "source": "s", "subject": "x", "event_id": "e", "data": {"a": [1]},
                       "occurred_at": "2026-01-01T00:00:00Z", "organization": "default"});
    let subscription = json!({
        "url": receiver.url, "events": ["a"], "metadata": {"a": 1}, "headers": {"x-api-key": "k", "x-a": "b"},
        "authentication": {"type": "basic", "user": "u", "password": "p"}, "scope": ["s"],
        "filter": [{"path": "/data/a", "op": "exists", "value": true}], "query": {"q": "{id}"}, "notify": ["u"],
        "delivery": {"timeout": "5s", "rate_per_second": 100.5, "retry": {"on": "any", "factor": 2}},
        "expires_at": "2028-01-01T00:00:00Z", "failure_limit": 9,
    });
    let replay = json!({"since": "2026-01-01T00:00:00Z", "states": ["missed"], "events": ["a"]});
    let mut found = Vec::new();
    let mut check = async |method: &str, pattern: &str, path: &str, body: Value, status: u16| {
        let operation = &document["paths"][pattern][method.to_lowercase()];
        let at = format!("{method} {pattern}");
        if !body.is_null() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{at} takes a body");
            faults(&document, schema, &body, &format!("{at} takes"), &mut found);
        }
        let answer = daemon.call(method, path, body).await.expect(status);
        let response = match operation["responses"].get(status.to_string()) {
            Some(response) => response,
            None => document.pointer("/components/responses/Problem").unwrap(),
        };
        for media in response["content"].as_object().into_iter().flatten().map(|(_, media)| media) {
            faults(&document, &media["schema"], &answer, &format!("{at} answers"), &mut found);
        }
        assert_eq!(answer.is_null(), response.get("content").is_none(), "{at}");
        answer
    };
    check("PUT", "/v1/organizations/{id}", "/v1/organizations/acme", organization, 201).await;
    check("PUT", "/v1/sources/{id}", "/v1/sources/s", json!({"name": "n", "organization": "default"}), 201).await;
    check("PUT", "/v1/event-types/{name}", "/v1/event-types/a", entry, 201).await;
    let made = check("POST", "/v1/subscriptions", "/v1/subscriptions", subscription, 201).await;
    let path = path_of(&made);
    check("POST", "/v1/events", "/v1/events", event.clone(), 202).await;
    check("POST", "/v1/events", "/v1/events", event.clone(), 200).await;
    check("POST", "/v1/events/batch", "/v1/events/batch", json!([event, {"type": "b", "data": null}]), 200).await;
    check("POST", "/v1/events", "/v1/events", json!({"type": "a..", "data": 1}), 422).await;
    let listed = check("GET", "/v1/deliveries", "/v1/deliveries", Value::Null, 200).await;
    let delivery = format!("/v1/deliveries/{}", listed["data"][0]["id"].as_str().unwrap());
    daemon.until(&delivery, |delivery| delivery["state"] == "delivered").await;
    let event = format!("/v1/events/{}", listed["data"][0]["event"]["id"].as_str().unwrap());
    for (method, pattern, path, body, status) in [
        ("GET", "/healthz", "/healthz".to_owned(), Value::Null, 200),
        ("GET", "/readyz", "/readyz".to_owned(), Value::Null, 200),
        ("GET", "/v1/stats", "/v1/stats".to_owned(), Value::Null, 200),
        ("GET", "/v1/audit", "/v1/audit".to_owned(), Value::Null, 200),
        ("GET", "/v1/organizations", "/v1/organizations".to_owned(), Value::Null, 200),
        ("GET", "/v1/sources", "/v1/sources".to_owned(), Value::Null, 200),
        ("GET", "/v1/event-types", "/v1/event-types".to_owned(), Value::Null, 200),
        ("GET", "/v1/events", "/v1/events".to_owned(), Value::Null, 200),
        ("GET", "/v1/events/{id}", event, Value::Null, 200),
        ("GET", "/v1/subscriptions", "/v1/subscriptions".to_owned(), Value::Null, 200),
        ("GET", "/v1/subscriptions/{id}", path.clone(), Value::Null, 200),
        ("PATCH", "/v1/subscriptions/{id}", path.clone(), json!({"name": null, "events": ["a", "b"]}), 200),
        ("GET", "/v1/subscriptions/{id}/deliveries", format!("{path}/deliveries"), Value::Null, 200),
        ("POST", "/v1/subscriptions/{id}/test", format!("{path}/test"), json!({"type": "a"}), 200),
        ("GET", "/v1/subscriptions/{id}/secret", format!("{path}/secret"), Value::Null, 200),
        (
            "POST",
            "/v1/subscriptions/{id}/secret/rotate",
            format!("{path}/secret/rotate"),
            json!({"overlap": "1h"}),
            200,
        ),
        ("POST", "/v1/subscriptions/{id}/replay", format!("{path}/replay"), replay, 202),
        ("POST", "/v1/subscriptions/{id}/cancel", format!("{path}/cancel"), json!({"events": ["z"]}), 202),
        ("GET", "/v1/deliveries/{id}", delivery.clone(), Value::Null, 200),
        ("POST", "/v1/deliveries/{id}/retry", format!("{delivery}/retry"), Value::Null, 202),
        ("POST", "/v1/subscriptions/{id}/disable", format!("{path}/disable"), Value::Null, 200),
        ("POST", "/v1/deliveries/{id}/retry", format!("{delivery}/retry"), Value::Null, 409),
        ("POST", "/v1/subscriptions/{id}/enable", format!("{path}/enable"), Value::Null, 200),
        ("DELETE", "/v1/subscriptions/{id}", path.clone(), Value::Null, 204),
    ] {
        check(method, pattern, &path, body, status).await;
    }
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_read_fits_the_description_of_what_may_be_written() {
    let daemon = Daemon::start().await;
    let document = daemon.get("/openapi.json").await.expect(200);
    let receiver = crate::failing_receiver().await;
    let made = daemon.subscribe(json!({"url": receiver.url})).await;
    publish_for_delivery(&daemon, "a").await;
    let read = daemon.get(&path_of(&made)).await.expect(200);
    let mut found = Vec::new();
    faults(&document, &json!({"$ref": "#/components/schemas/Subscription"}), &read, "read", &mut found);
    assert_eq!(found, Vec::<String>::new());
}

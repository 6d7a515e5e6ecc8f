//! `/openapi.json`: the table of routes, the schemas beside this file and the
//! table of problems, put together as OpenAPI 3.1.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::http::Code;
use crate::limits::{NAME_CHARS_MAX, PAGE_DEFAULT, PAGE_MAX, URL_CHARS_MAX};

use super::route::{Accepted, Access, Kind, Parameter, Route, Shape};
use super::routes;

const SCHEMAS: &str = include_str!("openapi/schemas.json");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(describe(&routes::table()).to_string()));

/// The description, made once.
pub(super) fn document() -> Bytes {
    DOCUMENT.clone()
}

fn describe(table: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in table {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let mut schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    schemas["Problem"] = problem();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Posthaste",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Delivers webhooks. Times are RFC 3339 in UTC with milliseconds; errors are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": {
                "description": "a problem",
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            }},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = path_names(route.path).map(|name| path_parameter(route.path, name)).collect();
    parameters.extend(route.parameters.iter().map(parameter));
    let mut responses = Map::new();
    for (status, description, shape) in route.answers {
        responses.insert(status.to_string(), response(description, *shape));
    }
    for (status, codes) in refusals(route) {
        responses.insert(status.to_string(), refusal(&codes));
    }
    responses.insert("default".to_owned(), json!({"$ref": "#/components/responses/Problem"}));
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = &route.body {
        operation["requestBody"] = request_body(body);
    }
    match route.access {
        Access::Open => {}
        Access::Role(role) => {
            operation["security"] = json!([{"key": []}]);
            operation["description"] = json!(format!("Needs a key with the role `{role}`."));
        }
        Access::RoleOnAll(role) => {
            operation["security"] = json!([{"key": []}]);
            operation["description"] = json!(format!("Needs a key with the role `{role}` for all organizations."));
        }
    }
    operation
}

/// The group of routes: the first segment after the version.
fn tag(path: &str) -> &str {
    path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("service")
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(path: &str, name: &str) -> Value {
    let schema = match tag(path) {
        "organizations" | "sources" => reference("Id"),
        "event-types" => reference("EventTypeName"),
        _ => json!({"type": "string", "format": "uuid"}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn parameter(parameter: &Parameter) -> Value {
    let (place, schema) = match parameter.kind {
        Kind::Limit => {
            ("query", json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}))
        }
        Kind::Time => ("query", json!({"type": "string", "format": "date-time"})),
        Kind::Boolean => ("query", json!({"type": "boolean", "default": false})),
        Kind::Choice(names) => ("query", json!({"type": "string", "enum": names().split(", ").collect::<Vec<&str>>()})),
        Kind::Pattern => ("query", reference("EventPattern")),
        Kind::Cursor => ("query", json!({"type": "string", "maxLength": NAME_CHARS_MAX})),
        Kind::Text => ("query", json!({"type": "string", "maxLength": URL_CHARS_MAX})),
        // Spaces around a header's value are none of it.
        Kind::Header => {
            ("header", json!({"type": "string", "maxLength": NAME_CHARS_MAX, "pattern": r"^[!-~]([\t -~]*[!-~])?$"}))
        }
    };
    json!({"name": parameter.name, "in": place, "description": parameter.description, "schema": schema})
}

fn request_body(body: &Accepted) -> Value {
    let content: Map<String, Value> = body
        .content_types
        .iter()
        .map(|content_type| ((*content_type).to_owned(), json!({"schema": reference(body.schema)})))
        .collect();
    let description = format!("at most {} bytes", body.bytes_max);
    json!({"required": body.required, "description": description, "content": content})
}

fn response(description: &str, shape: Shape) -> Value {
    let (content_types, schema) = match shape {
        Shape::Empty => return json!({"description": description}),
        Shape::Json(name) => (&["application/json"][..], reference(name)),
        Shape::Page(name) => (
            &["application/json"][..],
            json!({
                "type": "object",
                "required": ["data", "next_cursor"],
                "properties": {
                    "data": {"type": "array", "items": reference(name)},
                    "next_cursor": {"type": ["string", "null"]},
                },
            }),
        ),
        Shape::Text(content_types) => (content_types, json!({"type": "string"})),
        Shape::Bytes(content_type) => (&[content_type][..], json!({})),
    };
    let content: Map<String, Value> =
        content_types.iter().map(|it| ((*it).to_owned(), json!({"schema": schema}))).collect();
    json!({"description": description, "content": content})
}

/// The problems that it may answer with, by status.
fn refusals(route: &Route) -> BTreeMap<u16, Vec<&'static str>> {
    let mut refusals: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in Code::ALL.iter().filter(|code| route.may_refuse(**code)) {
        refusals.entry(code.status()).or_default().push(code.name());
    }
    refusals
}

fn refusal(codes: &[&str]) -> Value {
    let description = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<String>>().join(", ");
    json!({"description": description, "content": {"application/problem+json": {"schema": reference("Problem")}}})
}

fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    let meanings: Vec<String> =
        Code::ALL.iter().map(|code| format!("`{}` ({}): {}.", code.name(), code.status(), code.title())).collect();
    json!({
        "type": "object",
        "description": "RFC 9457. `errors` tells all faults of the input at once.",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": codes, "description": meanings.join(" ")},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            }},
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::subscription_json::tests::example;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn document() -> Value {
        serde_json::from_slice(&super::document()).expect("JSON")
    }

    #[test]
    fn every_route_is_described() {
        let document = document();
        for route in routes::table() {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["operationId"], route.name, "{} {}", route.method, route.path);
            assert!(!route.answers.is_empty(), "{} {}", route.method, route.path);
            let is_open = route.access == Access::Open;
            assert_eq!(operation.get("security").is_none(), is_open, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn every_schema_is_there_and_used() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').expect("of this document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().expect("an object").keys() {
            assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} is used nowhere");
        }
    }

    #[test]
    fn the_schema_of_subscriptions_names_what_is_shown() {
        let document = document();
        let shown = crate::api::subscription_json::show(&example(), &Default::default(), None);
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
        let schemas = &document["components"]["schemas"];
        assert_eq!(names(&schemas["Subscription"]["properties"]), names(&shown));
        let writable: BTreeSet<String> = schemas["Subscription"]["properties"]
            .as_object()
            .expect("an object")
            .iter()
            .filter(|(_, schema)| schema.get("readOnly").is_none())
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(names(&schemas["SubscriptionInput"]["properties"]), writable);
    }
}

//! `docs/api.md`, made from `/openapi.json` of a running daemon.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::Daemon;

const HEAD: &str = "# The API

<!-- Made from /openapi.json by: cargo test --test documents write -- --ignored -->

JSON in and out, at `[service] listen` (`127.0.0.1:8470`; in the packages the socket `/run/posthaste/api.sock`). The same as
OpenAPI 3.1: `GET /openapi.json` of a running daemon. The APIs of four vendors, where `[dialects]` switches them on, have
documents of their own: [Peridio](dialects/peridio.md), [PDK.io](dialects/pdk.md), [Blynk](dialects/blynk.md), [FerrisKey](dialects/ferriskey.md).

- **Keys**: `Authorization: Bearer TOKEN`; `posthaste key new` makes one. A key has roles (`publish`, `read`, `manage`, `secrets`,
  `admin`, which is all of them) and reaches its organizations with all below them. What it does not reach is `not_found`.
- **Lists** answer `{\"data\": [...], \"next_cursor\": ...}`. The next page is the same with `cursor`; `null`: there is none. A
  page may be short and still have a next one.
- **Times** are RFC 3339 in UTC with milliseconds; **durations** name their unit: `\"10s\"`, `\"24h\"`, `\"1h30m\"`.
- **Fields that are not known** are refused; those marked *read only* are passed over, so that what was read can be written back.
- **Secrets** show as `***`. Written back, `***` keeps what is stored, while it goes to the same scheme, host and port.
- Every answer has `x-request-id`.

";

const ERRORS: &str = "## Errors

`application/problem+json` (RFC 9457) with a stable `code`, and `errors` with all faults of the input at once:

";

const WAITING: &str = "With 429, 503 and 507 comes `Retry-After` where waiting helps.";

/// The members of an object; none of anything else.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The schema's name as a link, where the document shows it.
fn link(schema: &Value) -> Option<String> {
    match schema["$ref"].as_str()?.rsplit('/').next()? {
        "Any" => None,
        "Problem" => Some("[problem](#errors)".to_owned()),
        name => Some(format!("[{name}](#{})", name.to_ascii_lowercase())),
    }
}

/// Text as Markdown, in a table too.
fn prose(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

/// What a value may be, in words.
fn kind(schema: &Value) -> String {
    if let Some(link) = link(schema) {
        return link;
    }
    if let Some(choices) = schema["enum"].as_array() {
        let choices =
            choices.iter().map(|choice| choice.as_str().map_or("null".to_owned(), |name| format!("`{name}`")));
        return choices.collect::<Vec<String>>().join(", ");
    }
    for (rule, joint) in [("anyOf", " or "), ("oneOf", " or "), ("allOf", " with ")] {
        if let Some(parts) = schema[rule].as_array() {
            let named = |part: &Value| match part["properties"].as_object() {
                Some(members) => members.keys().map(|name| format!("`{name}`")).collect::<Vec<String>>().join(", "),
                None => kind(part),
            };
            return parts.iter().map(named).collect::<Vec<String>>().join(joint);
        }
    }
    let named = |name: &str| match (name, schema["format"].as_str()) {
        ("string", Some("date-time")) => "time".to_owned(),
        ("string", Some(format)) => format.to_owned(),
        ("array", _) => format!("list of {}", kind(&schema["items"])),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        _ => name.to_owned(),
    };
    let names: Vec<String> = match &schema["type"] {
        Value::String(name) => vec![named(name)],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(named).collect(),
        _ => vec!["any JSON".to_owned()],
    };
    names.join(" or ")
}

/// What else there is to say of a value.
fn remarks(schema: &Value, is_required: bool) -> String {
    let mut said: Vec<String> = Vec::new();
    if is_required {
        said.push("**required**".to_owned());
    }
    if schema["readOnly"] == true {
        said.push("*read only*".to_owned());
    }
    for (value, of) in [(schema, ""), (&schema["items"], "each: ")] {
        said.extend(value["description"].as_str().map(|text| format!("{of}{}", prose(text))));
        for (rule, words) in [("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "members")] {
            said.extend(value[rule].as_u64().map(|most| format!("{of}at most {most} {words}")));
        }
    }
    let bounds = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    said.extend(match bounds {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, most) => most.map(|most| format!("at most {most}")),
    });
    said.extend(schema.get("default").map(|default| format!("default `{default}`")));
    said.extend(schema["examples"].as_array().map(|examples| format!("such as `{}`", examples[0])));
    said.join("; ")
}

/// A row for each member, and for those of members that are objects.
fn rows(schema: &Value, path: &str, text: &mut String) {
    let required: Vec<&str> = texts(&schema["required"]).collect();
    for (name, member) in members(&schema["properties"]) {
        let is_required = required.contains(&name.as_str());
        writeln!(text, "| `{path}{name}` | {} | {} |", kind(member), remarks(member, is_required)).unwrap();
        rows(member, &format!("{path}{name}."), text);
        rows(&member["items"], &format!("{path}{name}[]."), text);
    }
}

/// The codes of every problem that an operation may answer, with their statuses.
fn refusals(operation: &Value) -> Vec<(String, String)> {
    let problems = members(&operation["responses"]).filter(|(status, _)| status.parse().is_ok_and(|it: u16| it >= 400));
    let codes = problems.flat_map(|(status, response)| {
        let codes = response["description"].as_str().unwrap().split('`').skip(1).step_by(2);
        codes.map(move |code| (code.to_owned(), status.clone()))
    });
    codes.collect()
}

fn spell(refusals: impl IntoIterator<Item = (String, String)>) -> String {
    refusals.into_iter().map(|(code, status)| format!("`{code}` ({status})")).collect::<Vec<String>>().join(", ")
}

fn operation(method: &str, path: &str, operation: &Value, general: &BTreeSet<(String, String)>, text: &mut String) {
    writeln!(text, "### `{} {path}`\n", method.to_ascii_uppercase()).unwrap();
    let access = operation["description"].as_str().unwrap_or("Needs no key.");
    writeln!(text, "{}. {access}\n", operation["summary"].as_str().unwrap()).unwrap();
    let parameters: Vec<&Value> =
        operation["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] != "path").collect();
    if !parameters.is_empty() {
        writeln!(text, "| parameter | in | | |\n|---|---|---|---|").unwrap();
    }
    for parameter in &parameters {
        let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
        let said = [parameter["description"].as_str().unwrap().to_owned(), remarks(&parameter["schema"], false)];
        let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
        writeln!(text, "| `{name}` | {place} | {} | {} |", kind(&parameter["schema"]), said.join("; ")).unwrap();
    }
    if !parameters.is_empty() {
        writeln!(text).unwrap();
    }
    let body = &operation["requestBody"];
    if let Some((_, first)) = members(&body["content"]).next() {
        let types: Vec<String> = members(&body["content"]).map(|(name, _)| format!("`{name}`")).collect();
        let presence = if body["required"] == true { "" } else { ", may be missing" };
        let most = body["description"].as_str().unwrap();
        writeln!(text, "Takes {} as {}, {most}{presence}.\n", kind(&first["schema"]), types.join(" or ")).unwrap();
    }
    for (status, response) in members(&operation["responses"]).filter(|(status, _)| status.starts_with('2')) {
        let types: Vec<String> = members(&response["content"]).map(|(name, _)| format!("`{name}`")).collect();
        let content = members(&response["content"]).next().map(|(_, media)| {
            let schema = &media["schema"];
            match link(schema).or(link(&schema["properties"]["data"]["items"]).map(|link| format!("a page of {link}")))
            {
                Some(link) => format!(": {link}"),
                None => format!(": {}", types.join(" or ")),
            }
        });
        let description = response["description"].as_str().unwrap();
        writeln!(text, "- **{status}** {description}{}", content.unwrap_or_default()).unwrap();
    }
    let own = refusals(operation).into_iter().filter(|refusal| !general.contains(refusal));
    let own = spell(own);
    if !own.is_empty() {
        writeln!(text, "- or {own}").unwrap();
    }
    writeln!(text).unwrap();
}

/// The document.
pub(crate) async fn document() -> String {
    let daemon = Daemon::start().await;
    let description = daemon.get("/openapi.json").await.expect(200);
    let wrong = json!({"url": "ftp://receiver.example", "evnets": ["door.*"]});
    let problem = daemon.post("/v1/subscriptions", wrong).await.expect(422);
    let operations: Vec<(&String, &String, &Value)> = members(&description["paths"])
        .flat_map(|(path, operations)| members(operations).map(move |(method, operation)| (method, path, operation)))
        .collect();
    // What every route that needs a key may answer is said once.
    let general: BTreeSet<(String, String)> = operations
        .iter()
        .filter(|(_, _, operation)| operation.get("security").is_some())
        .map(|(_, _, operation)| refusals(operation).into_iter().collect::<BTreeSet<_>>())
        .reduce(|general, other| &general & &other)
        .unwrap();

    let mut text = HEAD.to_owned() + ERRORS;
    writeln!(text, "```json\n{problem:#}\n```\n\n{WAITING}").unwrap();
    let in_order: BTreeSet<(String, String)> =
        general.iter().map(|(code, status)| (status.clone(), code.clone())).collect();
    let all = spell(in_order.into_iter().map(|(status, code)| (code, status)));
    writeln!(text, "Every route that needs a key may answer {all}.\nThe others stand with their routes.\n").unwrap();
    writeln!(text, "| code | status | means |\n|---|---|---|").unwrap();
    for code in posthaste::http::Code::ALL {
        writeln!(text, "| `{}` | {} | {} |", code.name(), code.status(), code.title()).unwrap();
    }
    writeln!(text).unwrap();

    let mut tags: Vec<&str> = Vec::new();
    for (_, _, operation) in &operations {
        let tag = operation["tags"][0].as_str().unwrap();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    for tag in tags {
        writeln!(text, "## {tag}\n").unwrap();
        for (method, path, each) in operations.iter().filter(|(_, _, operation)| operation["tags"][0] == tag) {
            operation(method, path, each, &general, &mut text);
        }
    }

    writeln!(text, "## Objects\n").unwrap();
    for (name, schema) in members(&description["components"]["schemas"]) {
        // The codes of problems have their table above.
        if name == "Any" || name == "Problem" {
            continue;
        }
        writeln!(text, "### {name}\n").unwrap();
        if let Some(said) = schema["description"].as_str() {
            writeln!(text, "{}\n", prose(said)).unwrap();
        }
        let mut fields = String::new();
        rows(schema, "", &mut fields);
        match fields.is_empty() {
            true => writeln!(
                text,
                "{}\n",
                [kind(schema), remarks(&without_description(schema), false)].join(" ").trim_end()
            )
            .unwrap(),
            false => writeln!(text, "| field | | |\n|---|---|---|\n{fields}").unwrap(),
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn without_description(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema.as_object_mut().unwrap().remove("description");
    schema
}

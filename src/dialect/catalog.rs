//! The event types that come with the formats: what [`super::Dialect::catalog`]
//! lists, read once. Fields are those of the example.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::json::Json;
use crate::model::{EventType, ManagedBy, Name};
use crate::time::Timestamp;

#[derive(Deserialize)]
struct Entry {
    name: String,
    category: String,
    description: String,
    example: Value,
}

static CATALOG: LazyLock<Vec<EventType>> = LazyLock::new(|| {
    let read = |dialect: &dyn super::Dialect| {
        // Tests read every list; one that could not be read would be empty.
        let entries: Vec<Entry> = serde_json::from_str(dialect.catalog()).unwrap_or_default();
        let format = dialect.format();
        entries.into_iter().map(move |entry| EventType {
            name: Name::from(entry.name),
            description: entry.description,
            category: entry.category,
            fields: entry.example.as_object().map(fields),
            example: Json::from(&entry.example),
            format: Some(format),
            built_in: true,
            managed_by: ManagedBy::Api,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        })
    };
    super::all().flat_map(read).collect()
});

/// Every built-in event type, vendor by vendor.
pub fn catalog() -> &'static [EventType] {
    &CATALOG
}

/// The dotted paths of an example, through objects and lists of objects.
fn fields(example: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    collect("", example, &mut found);
    found
}

fn collect(prefix: &str, members: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in members {
        let path = format!("{prefix}{key}");
        let below = match value {
            Value::Array(items) => items.first().unwrap_or(&Value::Null),
            other => other,
        };
        if let Value::Object(members) = below {
            collect(&format!("{path}."), members, found);
        }
        found.push(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use crate::pattern::is_event_type;
    use std::collections::HashSet;

    #[test]
    fn every_vendors_types_are_there_once() {
        let of = |format| catalog().iter().filter(|entry| entry.format == Some(format)).count();
        let counts = [Format::Peridio, Format::Pdk, Format::Blynk, Format::Ferriskey].map(of);
        assert_eq!(counts, [9, 70, 9, 35]);
        let mut seen = HashSet::new();
        for entry in catalog() {
            assert!(is_event_type(&entry.name) && seen.insert(&entry.name), "{}", entry.name);
            assert!(!entry.description.is_empty() && !entry.category.is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn fields_are_those_of_the_example() {
        let entry = catalog().iter().find(|entry| *entry.name == *"ou.deleted").expect("is there");
        let fields = entry.fields.as_deref().expect("are known");
        for field in ["id", "intercoms", "intercoms.manufacturer", "user.firstName"] {
            assert!(fields.iter().any(|known| known == field), "{field}");
        }
    }
}

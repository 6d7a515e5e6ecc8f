//! Reads what people hand us, field by field, and tells **all faults at once**.
//! Serves the API's bodies and the configuration alike: both are trees of JSON
//! values by the time they get here.

use std::cell::{Cell, RefCell};
#[cfg(test)]
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::Fault;
use crate::time::{Timestamp, parse_duration};

/// What most objects have no more fields than.
const FIELDS_MOSTLY: usize = 16;

/// The faults found so far, shared by all readers of one input.
#[derive(Default)]
pub struct Faults {
    found: RefCell<Vec<Fault>>,
    /// Every path that a reader asked for: shows tests what is read.
    #[cfg(test)]
    pub asked: RefCell<BTreeSet<String>>,
}

impl Faults {
    /// No faults.
    pub fn new() -> Faults {
        Faults::default()
    }

    /// One more.
    pub fn add(&self, field: impl Into<String>, message: impl Into<String>) {
        self.found.borrow_mut().push(Fault::new(field, message));
    }

    /// Many more.
    pub fn extend(&self, faults: impl IntoIterator<Item = Fault>) {
        self.found.borrow_mut().extend(faults);
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, in the order they were found.
    pub fn into_vec(self) -> Vec<Fault> {
        self.found.into_inner()
    }
}

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The known name nearest to `unknown`, where one is near enough to be meant.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min()
        .map(|(_, name)| name)
}

/// A reader of one object. Each method names a field, adds a fault where its
/// value has the wrong type, and answers `None` both then and when it is absent;
/// `null` counts as absent unless the method says otherwise.
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    faults: &'a Faults,
    known: RefCell<Vec<&'static str>>,
    finished: Cell<bool>,
}

impl<'a> Fields<'a> {
    /// Reads `map`, which stands at `path` (empty at the top).
    pub fn new(path: impl Into<String>, map: &'a Map<String, Value>, faults: &'a Faults) -> Fields<'a> {
        Fields {
            path: path.into(),
            map,
            faults,
            known: RefCell::new(Vec::with_capacity(FIELDS_MOSTLY)),
            finished: Cell::new(false),
        }
    }

    /// The dotted path of `name` below this object.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Adds a fault of the field `name`.
    pub fn fault(&self, name: &str, message: impl Into<String>) {
        self.faults.add(self.path(name), message);
    }

    /// The faults this reader adds to.
    pub fn faults(&self) -> &'a Faults {
        self.faults
    }

    /// The field's value as it is, `null` included; marks the name as known.
    pub fn raw(&self, name: &'static str) -> Option<&'a Value> {
        #[cfg(test)]
        self.faults.asked.borrow_mut().insert(self.path(name));
        self.known.borrow_mut().push(name);
        self.map.get(name)
    }

    /// Whether the field is there, `null` included.
    pub fn has(&self, name: &'static str) -> bool {
        self.raw(name).is_some()
    }

    /// Whether the field is there and `null`.
    pub fn is_null(&self, name: &'static str) -> bool {
        self.raw(name) == Some(&Value::Null)
    }

    fn read<T>(&self, name: &'static str, what: &str, take: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.raw(name)?;
        if value.is_null() {
            return None;
        }
        let taken = take(value);
        if taken.is_none() {
            self.fault(name, format!("must be {what}, not {}", kind(value)));
        }
        taken
    }

    /// A string.
    pub fn string(&self, name: &'static str) -> Option<&'a str> {
        self.read(name, "a string", Value::as_str)
    }

    /// A boolean.
    pub fn bool(&self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A whole number within `range`.
    pub fn integer(&self, name: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let value = self.read(name, &what, |value| value.as_number())?;
        let whole = value.as_u64().filter(|number| range.contains(number));
        if whole.is_none() {
            self.fault(name, format!("must be {what}"));
        }
        whole
    }

    /// A number within `range`.
    pub fn number(&self, name: &'static str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let what = format!("a number from {} to {}", range.start(), range.end());
        let value = self.read(name, &what, Value::as_f64)?;
        if !range.contains(&value) {
            self.fault(name, format!("must be {what}"));
            return None;
        }
        Some(value)
    }

    /// A span such as `"10s"`, within `range`.
    pub fn duration(&self, name: &'static str, range: std::ops::RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.string(name)?;
        match parse_duration(text) {
            Ok(span) if range.contains(&span) => Some(span),
            Ok(_) => {
                let (from, to) = (range.start(), range.end());
                let show = crate::time::format_duration;
                self.fault(name, format!("must be from {} to {}", show(*from), show(*to)));
                None
            }
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// An RFC 3339 time.
    pub fn timestamp(&self, name: &'static str) -> Option<Timestamp> {
        let text = self.string(name)?;
        let time = text.parse();
        if time.is_err() {
            self.fault(name, crate::time::NotATime.to_string());
        }
        time.ok()
    }

    /// One of a set of names, read by `from_name`; `names` says which there are.
    pub fn one_of<T>(&self, name: &'static str, names: &str, from_name: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.string(name)?;
        let value = from_name(text);
        if value.is_none() {
            self.fault(name, format!("must be one of {names}"));
        }
        value
    }

    /// A list.
    pub fn list(&self, name: &'static str) -> Option<&'a [Value]> {
        self.read(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A list of strings; items that are none are faults, and `None` in their place:
    /// what stands behind them keeps its index.
    pub fn strings(&self, name: &'static str) -> Option<Vec<Option<&'a str>>> {
        let items = self.list(name)?;
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if !item.is_string() {
                self.fault(&format!("{name}[{index}]"), format!("must be a string, not {}", kind(item)));
            }
            strings.push(item.as_str());
        }
        Some(strings)
    }

    /// An object, as it is.
    pub fn map(&self, name: &'static str) -> Option<&'a Map<String, Value>> {
        self.read(name, "an object", Value::as_object)
    }

    /// An object whose values are strings, in its order.
    pub fn string_map(&self, name: &'static str) -> Option<Vec<(String, String)>> {
        let map = self.map(name)?;
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map {
            match value.as_str() {
                Some(text) => entries.push((key.clone(), text.to_owned())),
                None => self.fault(&format!("{name}.{key}"), format!("must be a string, not {}", kind(value))),
            }
        }
        Some(entries)
    }

    /// An object, to be read in turn.
    pub fn object(&self, name: &'static str) -> Option<Fields<'a>> {
        let map = self.map(name)?;
        Some(Fields::new(self.path(name), map, self.faults))
    }

    /// A list of objects, each to be read in turn; items that are none as for
    /// [`Fields::strings`].
    pub fn objects(&self, name: &'static str) -> Option<Vec<Option<Fields<'a>>>> {
        let items = self.list(name)?;
        let mut objects = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{name}[{index}]");
            if !item.is_object() {
                self.fault(&path, format!("must be an object, not {}", kind(item)));
            }
            objects.push(item.as_object().map(|map| Fields::new(self.path(&path), map, self.faults)));
        }
        Some(objects)
    }

    /// Says that these fields are known though nobody reads them here.
    pub fn ignore(&self, names: &[&'static str]) {
        self.known.borrow_mut().extend(names);
    }

    /// Lets every field pass that was not asked for. To be called last, in [`Fields::finish`]'s place.
    pub fn ignore_others(self) {
        self.finished.set(true);
    }

    /// Refuses every field that was not asked for. To be called last.
    pub fn finish(self) {
        self.finished.set(true);
        let known = self.known.borrow();
        for name in self.map.keys().filter(|name| !known.contains(&name.as_str())) {
            match nearest(name, known.iter().copied()) {
                Some(near) => self.fault(name, format!("is not known; did you mean \"{near}\"?")),
                None => self.fault(name, "is not known"),
            }
        }
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        debug_assert!(self.finished.get() || std::thread::panicking(), "{:?} was read without finish()", self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_faults_are_told_at_once_and_unknown_fields_named() {
        let value =
            json!({"name": 1, "on": "yes", "count": 11, "wait": "soon", "inner": {"urls": 1}, "tags": ["a", 2]});
        let faults = Faults::new();
        let fields = Fields::new("", value.as_object().expect("an object"), &faults);
        assert_eq!(fields.string("name"), None);
        assert_eq!(fields.bool("on"), None);
        assert_eq!(fields.integer("count", 1..=10), None);
        assert_eq!(fields.duration("wait", Duration::ZERO..=Duration::MAX), None);
        assert_eq!(fields.strings("tags"), Some(vec![Some("a"), None]));
        let inner = fields.object("inner").expect("an object");
        assert_eq!(inner.string("url"), None);
        inner.finish();
        fields.finish();
        let faults = faults.into_vec();
        let told: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(told, ["name", "on", "count", "wait", "tags[1]", "inner.urls"]);
        assert_eq!(faults[5].message, "is not known; did you mean \"url\"?");
    }
}

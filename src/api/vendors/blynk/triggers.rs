//! Blynk's triggers: which native events, filter and scope each is, and the way
//! back. **What is read back is what was written**; what no trigger can say, such as
//! a filter of another kind, has none.

use serde_json::{Map, Value, json};

use crate::filter;
use crate::input::{Fields, kind};
use crate::model::{Condition, Operator, Scope, Settings};
use crate::pattern::Pattern;

use super::chosen;

/// A member of `dataTrigger`, and where its value stands in an event.
type Member = (&'static str, &'static str);

const DEVICE: Member = (chosen::DEVICE, "/data/device/id");
const TEMPLATE: Member = (chosen::TEMPLATE, "/data/device/templateId");
const STREAM: Member = (chosen::STREAM, "/data/datastream/id");
const CODE: Member = (chosen::CODE, "/data/event/code");

/// What a datastream's `condition` looks at.
const STREAM_VALUE: &str = "/data/datastream/value";

struct Trigger {
    name: &'static str,
    event_type: &'static str,
    /// The members that `dataTrigger` may have, the first of which it must have. None: it has no `dataTrigger`.
    members: &'static [Member],
    has_condition: bool,
    /// Whether it is for all organizations below, too.
    is_global: bool,
}

const fn plain(name: &'static str, event_type: &'static str) -> Trigger {
    Trigger { name, event_type, members: &[], has_condition: false, is_global: false }
}

const fn update(name: &'static str, members: &'static [Member], is_global: bool) -> Trigger {
    Trigger { name, event_type: "blynk.datastream.updated", members, has_condition: true, is_global }
}

const fn log_event(name: &'static str, members: &'static [Member], is_global: bool) -> Trigger {
    Trigger { name, event_type: "blynk.log_event", members, has_condition: false, is_global }
}

const TRIGGERS: &[Trigger] = &[
    plain("NEW_USER", "blynk.user.created"),
    plain("DELETED_USER", "blynk.user.deleted"),
    plain("UPDATED_USER", "blynk.user.updated"),
    plain("DEVICE_ADDED", "blynk.device.added"),
    plain("DEVICE_DELETED", "blynk.device.deleted"),
    plain("FIRST_DEVICE_CONNECTION_IN_ORG", "blynk.device.first_connected"),
    plain("ORGANIZATION_ADDED", "blynk.organization.added"),
    update("DEVICE_DATASTREAM_UPDATE", &[DEVICE, STREAM], false),
    update("PRODUCT_DATASTREAM_UPDATE", &[TEMPLATE, STREAM], false),
    update("GLOBAL_PRODUCT_DATASTREAM_UPDATE", &[TEMPLATE, STREAM], true),
    log_event("DEVICE_LOG_EVENT", &[DEVICE, CODE], false),
    log_event("PRODUCT_LOG_EVENT", &[TEMPLATE, CODE], false),
    log_event("GLOBAL_PRODUCT_LOG_EVENT", &[TEMPLATE, CODE], true),
];

/// The trigger that settings are, and its `dataTrigger`.
pub(super) fn show(settings: &Settings) -> Option<(&'static str, Option<Value>)> {
    TRIGGERS.iter().find_map(|trigger| trigger.invert(settings).map(|data| (trigger.name, data)))
}

/// What the body makes of the native events, scope and filter; none: they stay.
pub(super) fn read(fields: &Fields<'_>, previous: Option<&Settings>) -> Option<Map<String, Value>> {
    let all = TRIGGERS.iter().map(|trigger| trigger.name).collect::<Vec<_>>().join(", ");
    let before = previous.and_then(show);
    let find = |name: &str| TRIGGERS.iter().find(|trigger| trigger.name == name);
    let given = fields.one_of("trigger", &all, find);
    if given.is_none() && fields.raw("trigger").is_some_and(|value| !value.is_null()) {
        return None;
    }
    let data = fields.raw("dataTrigger");
    if given.is_none() && data.is_none_or(Value::is_null) && previous.is_some() {
        return None;
    }
    let Some(trigger) = given.or_else(|| before.as_ref().and_then(|(name, _)| find(name))) else {
        fields.fault("trigger", "is required");
        return None;
    };
    // Absent, it stays where the trigger has one; a trigger that has none drops it.
    let data = match data {
        None if !trigger.members.is_empty() => before.as_ref().and_then(|(_, data)| data.clone()),
        other => other.cloned(),
    };
    let data = data.filter(|data| !data.is_null());
    if before.as_ref().is_some_and(|(name, stored)| *name == trigger.name && *stored == data) {
        return None;
    }
    let mut native = Map::new();
    native.insert("events".to_owned(), json!([trigger.event_type]));
    native.insert("scope".to_owned(), json!(if trigger.is_global { "recursive" } else { "own" }));
    native.insert("filter".to_owned(), trigger.filter(fields, data.as_ref()).into());
    Some(native)
}

impl Trigger {
    /// The native filter of a `dataTrigger`, which may have faults.
    fn filter(&self, fields: &Fields<'_>, data: Option<&Value>) -> Vec<Value> {
        let fault = |member: &str, message: String| {
            let dot = if member.is_empty() { "" } else { "." };
            fields.fault(&format!("dataTrigger{dot}{member}"), message);
        };
        let Some((required, _)) = self.members.first() else {
            if data.is_some() {
                fault("", format!("is not for the trigger {}", self.name));
            }
            return Vec::new();
        };
        let data = match data {
            Some(Value::Object(data)) => data,
            Some(other) => {
                fault("", format!("must be an object, not {}", kind(other)));
                return Vec::new();
            }
            None => {
                fault("", format!("is required for the trigger {}", self.name));
                return Vec::new();
            }
        };
        let mut filter = Vec::new();
        for (member, path) in self.members {
            match data.get(*member) {
                Some(value @ (Value::Number(_) | Value::String(_))) => {
                    filter.push(json!({"path": path, "op": Operator::Eq.as_str(), "value": value}));
                }
                None | Some(Value::Null) if member != required => {}
                None | Some(Value::Null) => fault(member, format!("is required for the trigger {}", self.name)),
                Some(other) => fault(member, format!("must be a number or a string, not {}", kind(other))),
            }
        }
        if let Some(condition) = data.get(chosen::CONDITION).filter(|it| self.has_condition && !it.is_null()) {
            match read_condition(condition) {
                Ok((op, value)) => filter.push(json!({"path": STREAM_VALUE, "op": op.as_str(), "value": value})),
                Err((member, message)) => fault(&format!("{}{member}", chosen::CONDITION), message),
            }
        }
        for (member, value) in data {
            let is_own =
                self.members.iter().any(|(own, _)| own == member) || self.has_condition && member == chosen::CONDITION;
            if !value.is_null() && !is_own {
                fault(member, format!("is not for the trigger {}", self.name));
            }
        }
        filter
    }

    /// The `dataTrigger` that makes these settings; none: nothing of this trigger does.
    fn invert(&self, settings: &Settings) -> Option<Option<Value>> {
        let [Pattern::Exact(event_type)] = settings.events.as_slice() else { return None };
        let is_recursive = settings.scope == Scope::Recursive;
        // Of a product, the scope tells apart; the others may have any by the native API.
        let is_of_product = self.members.first() == Some(&TEMPLATE);
        if **event_type != *self.event_type || is_of_product && is_recursive != self.is_global {
            return None;
        }
        let mut data = Map::new();
        for condition in &settings.filter {
            let (member, value) = self.member_of(condition)?;
            if data.insert(member.to_owned(), value).is_some() {
                return None;
            }
        }
        match self.members.first() {
            None => data.is_empty().then_some(None),
            Some((required, _)) => data.contains_key(*required).then_some(Some(Value::Object(data))),
        }
    }

    /// What a condition is in a `dataTrigger`.
    fn member_of(&self, condition: &Condition) -> Option<(&'static str, Value)> {
        let Condition { path, op, value } = condition;
        if self.has_condition && path == STREAM_VALUE {
            return Some((chosen::CONDITION, json!({chosen::OPERATOR: op.as_str(), chosen::VALUE: value})));
        }
        let is_one = *op == Operator::Eq && (value.is_number() || value.is_string());
        let (member, _) = self.members.iter().find(|(_, own)| is_one && own == path)?;
        Some((member, value.clone()))
    }
}

/// `{op, value}`; otherwise which part is wrong, and how.
fn read_condition(condition: &Value) -> Result<(Operator, &Value), (String, String)> {
    let wrong = |part: &str, message: String| (format!(".{part}"), message);
    let Some(condition) = condition.as_object() else {
        return Err((String::new(), format!("must be an object, not {}", kind(condition))));
    };
    let op = condition.get(chosen::OPERATOR).and_then(Value::as_str).and_then(Operator::from_name);
    let op = op.ok_or_else(|| wrong(chosen::OPERATOR, format!("must be one of {}", Operator::names())))?;
    let value = condition.get(chosen::VALUE).ok_or_else(|| wrong(chosen::VALUE, "is required".to_owned()))?;
    filter::check_value(op, value).map_err(|message| wrong(chosen::VALUE, message))?;
    Ok((op, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Faults;
    use crate::model::Format;

    /// Settings as `body` makes them, by the native names.
    fn written(body: Value) -> Option<Settings> {
        let faults = Faults::new();
        let fields = Fields::new("", body.as_object()?, &faults);
        let native = read(&fields, None);
        fields.ignore_others();
        let native = native.filter(|_| faults.is_empty())?;
        let mut settings = Settings::new("acme".into(), String::new(), Format::Blynk);
        settings.events = vec![Pattern::parse(native["events"][0].as_str()?).ok()?];
        settings.scope = if native["scope"] == "recursive" { Scope::Recursive } else { Scope::Own };
        let condition = |it: &Value| {
            let op = Operator::from_name(it["op"].as_str()?)?;
            Some(Condition { path: it["path"].as_str()?.to_owned(), op, value: it["value"].clone() })
        };
        settings.filter = native["filter"].as_array()?.iter().map(condition).collect::<Option<_>>()?;
        Some(settings)
    }

    #[test]
    fn every_trigger_is_read_back_as_it_was_written() {
        for trigger in TRIGGERS {
            let mut data = Map::new();
            for (index, (member, _)) in trigger.members.iter().enumerate() {
                data.insert((*member).to_owned(), if index == 0 { json!(42) } else { json!("x") });
                let settings = written(json!({"trigger": trigger.name, "dataTrigger": data})).expect("written");
                assert_eq!(show(&settings), Some((trigger.name, Some(Value::from(data.clone())))));
            }
            if trigger.has_condition {
                data.insert("condition".to_owned(), json!({"op": "gt", "value": 30}));
            }
            let body = json!({"trigger": trigger.name, "dataTrigger": (!data.is_empty()).then_some(data.clone())});
            let settings = written(body).expect("written");
            let read_back = (!data.is_empty()).then(|| Value::from(data));
            assert_eq!(show(&settings), Some((trigger.name, read_back)), "{}", trigger.name);
        }
    }

    #[test]
    fn what_no_trigger_says_has_none() {
        let settings = |trigger: Value| written(trigger).expect("written");
        let device = || settings(json!({"trigger": "DEVICE_LOG_EVENT", "dataTrigger": {"deviceId": 1}}));
        let condition = |path: &str, op, value| Condition { path: path.to_owned(), op, value };
        let mut several = device();
        several.events.push(Pattern::All);
        let mut other_path = device();
        other_path.filter.push(condition("/data/user/id", Operator::Eq, json!(1)));
        let mut other_operator = device();
        other_operator.filter = vec![condition("/data/device/id", Operator::Ne, json!(1))];
        let mut twice = device();
        twice.filter.push(condition("/data/device/id", Operator::Eq, json!(2)));
        let mut no_filter = device();
        no_filter.filter.clear();
        let mut filtered = settings(json!({"trigger": "NEW_USER"}));
        filtered.filter.push(condition("/data/user/id", Operator::Eq, json!(1)));
        for settings in [several, other_path, other_operator, twice, no_filter, filtered] {
            assert_eq!(show(&settings), None);
        }
    }
}

//! RFC 7396 merge patch, with one exception.

use serde_json::{Map, Value};

/// The one object whose members depend on its `type`.
const TYPED: &str = "authentication";

/// Applies `patch` to `target`, the subscription as shown. **Where the
/// authentication's `type` changes, the object is replaced whole**: what belongs
/// to the old type would be unknown in the new one.
pub(super) fn apply(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        if name == TYPED && changes_type(target.get(&name), &value) {
            target.remove(&name);
        }
        merge_member(target, name, value);
    }
}

fn changes_type(target: Option<&Value>, patch: &Value) -> bool {
    let wanted = patch.get("type");
    wanted.is_some() && target.and_then(|target| target.get("type")) != wanted
}

fn merge_member(target: &mut Map<String, Value>, name: String, value: Value) {
    match value {
        Value::Null => {
            target.shift_remove(&name);
        }
        Value::Object(patch) => {
            let mut inner = match target.get_mut(&name).map(Value::take) {
                Some(Value::Object(inner)) => inner,
                _ => Map::new(),
            };
            for (name, value) in patch {
                merge_member(&mut inner, name, value);
            }
            target.insert(name, Value::Object(inner));
        }
        other => {
            target.insert(name, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(target: Value, patch: Value, merged: Value) {
        let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else { panic!("two objects") };
        apply(&mut target, patch.clone());
        assert_eq!(Value::Object(target), merged, "{patch:?}");
    }

    #[test]
    fn patches_merge_as_the_rfc_says() {
        // The objects of RFC 7396, appendix A.
        for (target, patch, merged) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
            (json!({"a":{"b":"c"}}), json!({"a":{}}), json!({"a":{"b":"c"}})),
        ] {
            check(target, patch, merged);
        }
    }

    #[test]
    fn an_authentication_of_another_type_is_replaced_whole() {
        let basic = json!({"authentication":{"type":"basic","user":"u","password":"***"}});
        for (patch, merged) in [
            (json!({"type":"bearer","token":"t"}), json!({"type":"bearer","token":"t"})),
            (json!({"type":"basic","user":"v"}), json!({"type":"basic","user":"v","password":"***"})),
            (json!({"password":"p"}), json!({"type":"basic","user":"u","password":"p"})),
            (json!({"type":"none","token":null}), json!({"type":"none"})),
        ] {
            check(basic.clone(), json!({"authentication": patch}), json!({"authentication": merged}));
        }
        // The caller's own data has no types of ours.
        let metadata = json!({"metadata":{"type":"a","x":1}});
        check(metadata, json!({"metadata":{"type":"b"}}), json!({"metadata":{"type":"b","x":1}}));
    }
}

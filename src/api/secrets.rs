//! Signing secrets: shown to who may see them, and rotated. **No answer of this
//! file is kept by a cache.**

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::http::{self, Problem, Response, StatusCode};
use crate::input::{Faults, Fields};
use crate::limits::ROTATION_OVERLAP_MAX;
use crate::model::{SigningSecret, Subscription};
use crate::secret::{MASK, Secret};
use crate::time::Timestamp;

use super::call::Call;
use super::manage;
use super::no_store;
use super::values::judged;

/// How long the older secrets stay valid where a rotation does not say.
const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// `GET /v1/subscriptions/{id}/secret`
pub(super) async fn get(call: Box<Call>) -> Result<Response, Problem> {
    let subscription = call.subscription()?;
    Ok(answer(&subscription, call.now(), true))
}

/// `POST /v1/subscriptions/{id}/secret/rotate`: shows the new secret; the older
/// ones only to who may see them anyway.
pub(super) async fn rotate(call: Box<Call>) -> Result<Response, Problem> {
    let subscription = call.subscription()?;
    let wanted = read(&call.object()?)?;
    let rotated = manage::rotate(&call, &subscription, wanted.secret, wanted.overlap).await?;
    Ok(answer(&rotated, call.now(), call.caller.may(Role::Secrets)))
}

struct Rotation {
    overlap: Duration,
    secret: Option<Secret>,
}

fn read(body: &Map<String, Value>) -> Result<Rotation, Problem> {
    let faults = Faults::new();
    let fields = Fields::new("", body, &faults);
    let overlap = fields.duration("overlap", Duration::ZERO..=ROTATION_OVERLAP_MAX).unwrap_or(OVERLAP_DEFAULT);
    let secret = fields.string("secret").map(|text| Secret::new(text.to_owned()));
    if secret.as_ref().is_some_and(Secret::is_mask) {
        fields.fault("secret", "must be a secret, or left out to have one generated");
    }
    fields.finish();
    judged(faults, Rotation { overlap, secret })
}

fn answer(subscription: &Subscription, now: Timestamp, with_older: bool) -> Response {
    no_store(http::json(StatusCode::OK, &show(subscription, now, with_older)))
}

/// The secrets valid at `now`, oldest first; the older ones masked unless `with_older`.
fn show(subscription: &Subscription, now: Timestamp, with_older: bool) -> Value {
    let show = |held: &SigningSecret| {
        let is_current = held.valid_until.is_none();
        json!({
            "secret": if is_current || with_older { held.secret.expose() } else { MASK },
            "created_at": held.created_at.to_string(),
            "valid_until": held.valid_until.map(|until| until.to_string()),
        })
    };
    json!({"secrets": subscription.valid_secrets(now).map(show).collect::<Vec<Value>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::subscription_json::tests::example;

    #[test]
    fn a_rotation_overlaps_by_a_day_unless_it_says_otherwise() {
        for (body, overlap) in [
            (json!({}), Some(OVERLAP_DEFAULT)),
            (json!({"overlap": "0s"}), Some(Duration::ZERO)),
            (json!({"overlap": "7d"}), Some(ROTATION_OVERLAP_MAX)),
            (json!({"overlap": "8d"}), None),
            (json!({"overlap": 5}), None),
            (json!({"secret": "***"}), None),
            (json!({"ttl": "1h"}), None),
        ] {
            let read = read(body.as_object().expect("an object"));
            assert_eq!(read.ok().map(|rotation| rotation.overlap), overlap, "{body}");
        }
    }

    #[test]
    fn older_secrets_are_shown_only_to_who_may_see_them() {
        let mut subscription = example();
        let held = |text: &str, valid_until| SigningSecret {
            secret: Secret::new(text.to_owned()),
            created_at: Timestamp::ZERO,
            valid_until,
        };
        let at = |millis| Some(Timestamp::from_millis(millis));
        subscription.secrets = vec![held("past", at(5)), held("old", at(50)), held("new", None)];
        for (with_older, shown) in [(true, ["old", "new"]), (false, ["***", "new"])] {
            let value = show(&subscription, Timestamp::from_millis(10), with_older);
            let texts: Vec<&str> = value["secrets"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|held| held["secret"].as_str())
                .collect();
            assert_eq!(texts, shown);
        }
    }
}

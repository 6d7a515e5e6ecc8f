//! Blynk. Facts: its API page "Webhooks" and its documented placeholders. It has no
//! envelope of its own and signs nothing: what is sent is what templates say.

use std::borrow::Cow;

use crate::json;
use crate::model::{Event, Format, Header};
use crate::secret::Secret;
use crate::template::{Placeholder, Value};

use super::{Dialect, Envelope, Limits, RenderError, Sending, Signing};

/// The format.
pub(super) struct Blynk;

/// The vendor's limit of ten requests a minute to one webhook: here they wait.
const RATE_PER_SECOND: f64 = 10.0 / 60.0;

/// The vendor's limits.
const LIMITS: Limits = Limits {
    url_chars_max: 512,
    body_template_bytes_max: 1024,
    rendered_url_bytes_max: 1024,
    rendered_body_bytes_max: 5 * 1024,
    response_read_bytes_max: 16 * 1024,
};

/// Every placeholder; `X` stands for a name of the user's.
const PLACEHOLDERS: &[&str] = &[
    "device_id",
    "device_name",
    "device_authToken",
    "device_templateId",
    "device_productName",
    "device_orgName",
    "device_dataStream_X",
    "device_dataStreamId",
    "device_dateCreated",
    "device_pin",
    "device_pinValue",
    "device_clientType",
    "device_country",
    "device_state",
    "device_zipCode",
    "device_metadata_X",
    "device_tags",
    "timestamp_unix",
    "timestamp_iso8601",
    "user_id",
    "user_object",
    "user_email",
    "user_name",
    "user_orgName",
    "user_dateCreated",
    "user_roleName",
    "user_title",
    "user_nickname",
    "user_phoneNumber",
    "user_country",
    "user_state",
    "user_zipCode",
    "user_assignedTags",
    "user_ownDevicesCount",
    "user_devicesCountByProductName",
];

/// Where in the data a placeholder's value stands; none: it is none of Blynk's, or
/// not in the data.
fn path(name: &str) -> Option<Vec<&str>> {
    let below = |path: &[&'static str], rest| Some(path.iter().copied().chain([rest]).collect());
    if let Some(stream) = name.strip_prefix("device_dataStream_") {
        return below(&["device", "dataStreams"], stream);
    }
    if let Some(key) = name.strip_prefix("device_metadata_") {
        return below(&["device", "metadata"], key);
    }
    if !PLACEHOLDERS.contains(&name) {
        return None;
    }
    match name {
        "device_dataStreamId" => below(&["datastream"], "id"),
        "device_pin" => below(&["datastream"], "pin"),
        "device_pinValue" => below(&["datastream"], "value"),
        "user_object" => Some(vec!["user"]),
        _ => {
            let (whose, field) = name.split_once('_')?;
            (whose != "timestamp").then(|| vec![whose, field])
        }
    }
}

impl Dialect for Blynk {
    fn format(&self) -> Format {
        Format::Blynk
    }

    fn envelope(&self, _: &Sending<'_>) -> Result<Envelope, RenderError> {
        Ok(Envelope::json(Vec::new()))
    }

    fn signature_headers(&self, _: &Signing<'_>) -> Vec<Header> {
        Vec::new()
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &[]
    }

    fn generate_secret(&self, _: &[u8; 32]) -> Option<Secret> {
        None
    }

    fn check_secret(&self, _: &Secret) -> Result<(), String> {
        Err("must be null or left out: the format blynk signs nothing".to_owned())
    }

    fn allows_unsigned(&self) -> bool {
        true
    }

    fn rate_per_second(&self) -> Option<f64> {
        Some(RATE_PER_SECOND)
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn placeholder<'v>(
        &self,
        event: &'v Event,
        data: &'v str,
        placeholder: &Placeholder<'_>,
    ) -> Option<Option<Value<'v>>> {
        let Placeholder { name, index } = *placeholder;
        let text = |text: String| Some(Some(Value::Text(Cow::Owned(text))).filter(|_| index.is_none()));
        match name {
            "timestamp_unix" => return text(event.occurred_at.as_secs().to_string()),
            "timestamp_iso8601" => return text(event.occurred_at.to_string()),
            _ => {}
        }
        let mut path: Vec<Cow<'_, str>> = path(name)?.into_iter().map(Cow::Borrowed).collect();
        path.extend(index.map(|index| Cow::Owned(index.to_string())));
        Some(json::find(data, &path).map(|found| Value::Json(Cow::Borrowed(found))))
    }

    fn is_own_placeholder(&self, name: &str) -> bool {
        matches!(name, "timestamp_unix" | "timestamp_iso8601") || path(name).is_some()
    }

    fn placeholders(&self) -> &'static [&'static str] {
        PLACEHOLDERS
    }

    fn catalog(&self) -> &'static str {
        include_str!("catalog/blynk.json")
    }
}

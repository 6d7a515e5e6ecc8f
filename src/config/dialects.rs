//! `[dialects]`: a vendor a table.

use crate::dialect::{ApiOptions, EventMode, NameSpelling, Options, Signature};
use crate::input::Fields;
use crate::limits::{NAME_CHARS_MAX, PERIDIO_WEBHOOKS_MAX};
use crate::model::Name;

pub(super) fn read(fields: Fields<'_>) -> Option<Options> {
    let peridio = fields.object("peridio").and_then(|table| {
        let names = table.one_of("event_names", &NameSpelling::names(), NameSpelling::from_name);
        let signature = table.one_of("signature", &Signature::names(), Signature::from_name);
        let webhooks_max = table.integer("webhooks_max", 1..=PERIDIO_WEBHOOKS_MAX);
        let webhooks_max = webhooks_max.and_then(|webhooks| usize::try_from(webhooks).ok());
        Some((api(table)?, webhooks_max?, names?, signature?))
    });
    let pdk_enabled = fields.object("pdk").and_then(|table| {
        let enabled = table.bool("enabled");
        table.finish();
        enabled
    });
    let blynk = fields.object("blynk").and_then(api);
    let ferriskey = fields.object("ferriskey").and_then(|table| {
        let (enabled, hides_headers) = (table.bool("enabled"), table.bool("hide_headers"));
        table.finish();
        Some((enabled?, hides_headers?))
    });
    let cloudevents_mode = fields.object("cloudevents").and_then(|table| {
        let mode = table.one_of("mode", &EventMode::names(), EventMode::from_name);
        table.finish();
        mode
    });
    fields.finish();
    let (peridio, peridio_webhooks_max, peridio_event_names, peridio_signature) = peridio?;
    let (ferriskey_enabled, ferriskey_hides_headers) = ferriskey?;
    Some(Options {
        peridio,
        peridio_webhooks_max,
        peridio_event_names,
        peridio_signature,
        pdk_enabled: pdk_enabled?,
        blynk: blynk?,
        ferriskey_enabled,
        ferriskey_hides_headers,
        cloudevents_mode: cloudevents_mode?,
    })
}

/// What the tables of vendors whose API's paths name no organization have.
fn api(table: Fields<'_>) -> Option<ApiOptions> {
    let enabled = table.bool("enabled");
    let organization = table.string("organization").filter(|id| {
        let fits = (1..=NAME_CHARS_MAX).contains(&id.chars().count());
        if !fits {
            table.fault("organization", format!("must have 1 to {NAME_CHARS_MAX} characters"));
        }
        fits
    });
    table.finish();
    Some(ApiOptions { enabled: enabled?, organization: Name::from(organization?) })
}

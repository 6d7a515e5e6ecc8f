//! One attempt's request: secrecy, then templates or the format's envelope, then
//! signatures. **What is signed is what is sent.**

use std::sync::Arc;

use bytes::Bytes;
use url::Url;

use crate::id::DeliveryId;
use crate::model::{ContentType, Event, Header, Method, Outgoing, Settings, Subscription, Target};
use crate::secrecy::{self, Rule};
use crate::secret::Secret;
use crate::template::{Context, Placeholder, Template, event_value, percent_encode};
use crate::time::Timestamp;

use super::{Dialect, Envelope, Limits, Options, Sending, Signing, find};

/// Why an event cannot be made into a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The format has no way to say this event.
    #[error("{0}")]
    Envelope(String),
    /// The URL is none once its placeholders are filled in.
    #[error("the URL is not valid once its placeholders are filled in: {0}")]
    Url(String),
    /// The URL or the body is over its limit once rendered.
    #[error("{what} has more than the {bytes_max} bytes that are sent at most")]
    TooLarge {
        /// `the URL` or `the body`.
        what: &'static str,
        /// How large it may be.
        bytes_max: usize,
    },
}

/// Headers of most formats: what the content is, and its signature.
const USUAL_HEADERS: usize = 4;

/// Makes the request for one attempt: applies secrecy, fills templates in, signs.
/// Authentication is added where it is sent, because it may need a token.
pub fn render(
    subscription: &Subscription,
    event: &Event,
    delivery: DeliveryId,
    rules: &[Rule],
    options: &Options,
    now: Timestamp,
) -> Result<Outgoing, RenderError> {
    let settings = &subscription.settings;
    let dialect = find(settings.format);
    let data = secrecy::redact(&event.data, &event.event_type, settings.secrecy_level, rules);
    let sending = Sending { subscription, event, data: data.as_str(), options };
    let mut filler = Filler { sending: &sending, dialect, limits: dialect.limits(), missing: Vec::new() };

    let target = filler.target(subscription)?;
    let Envelope { content_type, headers: told, body } = filler.body(settings)?;
    let secrets: Vec<&Secret> = subscription.valid_secrets(now).map(|valid| &valid.secret).collect();

    let mut headers: Vec<Header> = Vec::with_capacity(told.len() + settings.headers.len() + USUAL_HEADERS);
    if !body.is_empty() {
        headers.push(("content-type".into(), content_type.to_owned()));
    }
    headers.extend(told);
    let signing = Signing { event, delivery, now, body: &body, secrets: &secrets, options };
    headers.extend(dialect.signature_headers(&signing));
    headers.extend(settings.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())));
    Ok(Outgoing { method: settings.method, target, headers, body: Bytes::from(body), missing: filler.missing })
}

/// The `content-type` of a body that a template made.
fn content_type(settings: &Settings) -> &'static str {
    match settings.content_type {
        ContentType::Json => "application/json",
        ContentType::Form => "application/x-www-form-urlencoded",
        ContentType::Text => "text/plain; charset=utf-8",
    }
}

/// How values are written into a `body` template.
pub(crate) fn body_context(content_type: ContentType) -> Context {
    match content_type {
        ContentType::Json => Context::Json,
        ContentType::Form => Context::Encoded,
        ContentType::Text => Context::Plain,
    }
}

/// Whether a segment of the path of `url` is `.` or `..`, encoded or not: such a
/// segment would take others away. A backslash parts segments too, as the URL
/// standard has it.
pub(crate) fn has_dot_segment(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let longest = "%2e%2e".len();
    let is_dots = |segment: &str| {
        segment.len() <= longest && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
    };
    path.split(['/', '\\']).any(is_dots)
}

/// Fills templates in and remembers what had no value.
struct Filler<'a> {
    sending: &'a Sending<'a>,
    dialect: &'static dyn Dialect,
    limits: Limits,
    missing: Vec<String>,
}

impl Filler<'_> {
    fn fill(
        &mut self,
        template: &str,
        context: Context,
        what: &'static str,
        bytes_max: usize,
    ) -> Result<String, RenderError> {
        let (Sending { event, data, .. }, dialect) = (*self.sending, self.dialect);
        let lookup = |placeholder: &Placeholder<'_>| match dialect.placeholder(event, data, placeholder) {
            Some(own) => own,
            None => event_value(event, data, placeholder),
        };
        let rendered = Template::parse(template, context).render(bytes_max, &lookup);
        let rendered = rendered.map_err(|_| RenderError::TooLarge { what, bytes_max })?;
        for name in rendered.missing {
            if !self.missing.contains(&name) {
                self.missing.push(name);
            }
        }
        Ok(rendered.text)
    }

    /// `name=value&…`, at most `bytes_max` in all. What stands around placeholders is
    /// a value too: it is encoded as they are.
    fn pairs(
        &mut self,
        entries: &[(String, String)],
        what: &'static str,
        bytes_max: usize,
    ) -> Result<String, RenderError> {
        let mut text = String::new();
        for (name, template) in entries {
            if !text.is_empty() {
                text.push('&');
            }
            text.extend(percent_encode(name));
            text.push('=');
            text.extend(percent_encode(&self.fill(template, Context::Plain, what, bytes_max)?));
            check_size(what, text.len(), bytes_max)?;
        }
        Ok(text)
    }

    fn target(&mut self, subscription: &Subscription) -> Result<Arc<Target>, RenderError> {
        let settings = &subscription.settings;
        let fixed = subscription.fixed_target.get_or_make(|| {
            let is_filled = Template::parse(&settings.url, Context::Encoded).placeholders().next().is_some();
            let is_fixed = !is_filled && settings.query.as_ref().is_none_or(Vec::is_empty);
            if is_fixed { self.make_target(settings).ok() } else { None }
        });
        fixed.map_or_else(|| self.make_target(settings), |target| Ok(target.clone()))
    }

    fn make_target(&mut self, settings: &Settings) -> Result<Arc<Target>, RenderError> {
        let (what, bytes_max) = ("the URL", self.limits.rendered_url_bytes_max);
        let text = self.fill(&settings.url, Context::Encoded, what, bytes_max)?;
        if has_dot_segment(&text) {
            return Err(RenderError::Url("a segment of its path became . or ..".to_owned()));
        }
        let mut url = Url::parse(&text).map_err(|error| RenderError::Url(error.to_string()))?;
        let added = self.pairs(settings.query.as_deref().unwrap_or_default(), what, bytes_max)?;
        if !added.is_empty() {
            let query = match url.query() {
                Some(query) if !query.is_empty() => format!("{query}&{added}"),
                _ => added,
            };
            url.set_query(Some(&query));
        }
        check_size(what, url.as_str().len(), bytes_max)?;
        Target::new(url).map(Arc::new).map_err(|error| RenderError::Url(error.to_string()))
    }

    fn body(&mut self, settings: &Settings) -> Result<Envelope, RenderError> {
        let (what, bytes_max) = ("the body", self.limits.rendered_body_bytes_max);
        let templated = |body: String| Envelope {
            content_type: content_type(settings),
            headers: Vec::new(),
            body: body.into_bytes(),
        };
        if let Some(template) = &settings.body {
            return self.fill(template, body_context(settings.content_type), what, bytes_max).map(templated);
        }
        if matches!(settings.method, Method::Get | Method::Delete) {
            return Ok(templated(String::new()));
        }
        if let Some(form) = &settings.form {
            return self.pairs(form, what, bytes_max).map(templated);
        }
        let mut envelope = self.dialect.envelope(self.sending)?;
        if settings.content_type != ContentType::Json {
            envelope.content_type = content_type(settings);
        }
        check_size(what, envelope.body.len(), bytes_max)?;
        Ok(envelope)
    }
}

fn check_size(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), RenderError> {
    if bytes <= bytes_max { Ok(()) } else { Err(RenderError::TooLarge { what, bytes_max }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lane;
    use crate::limits::{RENDERED_BODY_BYTES_MAX, RENDERED_URL_BYTES_MAX};
    use crate::pattern::Pattern;
    use crate::secrecy::Target;
    use crate::sign::{Received, StandardKey, TOLERANCE, verify};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::ZERO;

    fn render_with(data: &str, change: impl FnOnce(&mut Settings)) -> Result<Outgoing, RenderError> {
        let mut subscription = Subscription::sample(1);
        change(&mut subscription.settings);
        let event = Event::sample("door.opened", data);
        render(&subscription, &event, event.id.delivery(Lane(1)), &[], &Options::default(), NOW)
    }

    fn header<'a>(outgoing: &'a Outgoing, name: &str) -> Option<&'a str> {
        outgoing.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let mut subscription = Subscription::sample(1);
        subscription.settings.body = Some(r#"{"door":"{door}","who":{person.name},"x":{nope}}"#.to_owned());
        subscription.settings.headers = pairs(&[("X-Tenant", "{type}")]);
        let event = Event::sample("door.opened", r#"{"door":"A \"1\"","person":{"name":"Ann"}}"#);
        let outgoing =
            render(&subscription, &event, event.id.delivery(Lane(1)), &[], &Options::default(), NOW).expect("renders");
        assert_eq!(outgoing.body, r#"{"door":"A \"1\"","who":"Ann","x":null}"#);
        assert_eq!(outgoing.missing, ["nope"]);
        assert_eq!(header(&outgoing, "content-type"), Some("application/json"));
        assert_eq!(outgoing.headers.last(), Some(&("X-Tenant".into(), "{type}".to_owned())));
        let keys = [StandardKey::read(&subscription.secrets[0].secret).expect("a secret")];
        let received = Received {
            id: header(&outgoing, "webhook-id").expect("an id"),
            timestamp: header(&outgoing, "webhook-timestamp").expect("a time"),
            signature: header(&outgoing, "webhook-signature").expect("a signature"),
            body: &outgoing.body,
        };
        assert_eq!(verify(&keys, &received, NOW, TOLERANCE), Ok(()));
    }

    #[test]
    fn bodies_follow_method_and_content_type() {
        type Change = fn(&mut Settings);
        let envelope = r#"{"type":"door.opened","timestamp":"2026-03-17T14:30:00.000Z","data":{"a":"x&y"}}"#;
        let cases: [(Change, &str, Option<&str>); 8] = [
            (|_| {}, envelope, Some("application/json")),
            (|it| it.method = Method::Patch, envelope, Some("application/json")),
            (|it| it.content_type = ContentType::Text, envelope, Some("text/plain; charset=utf-8")),
            (|it| it.method = Method::Get, "", None),
            (
                |it| (it.method, it.body) = (Method::Delete, Some("[{a}]".into())),
                r#"["x&y"]"#,
                Some("application/json"),
            ),
            (
                |it| (it.content_type, it.body) = (ContentType::Text, Some("<{a}>".into())),
                "<x&y>",
                Some("text/plain; charset=utf-8"),
            ),
            (
                |it| (it.content_type, it.body) = (ContentType::Form, Some("a={a}&b=1".into())),
                "a=x%26y&b=1",
                Some("application/x-www-form-urlencoded"),
            ),
            (
                |it| (it.content_type, it.form) = (ContentType::Form, Some(pairs(&[("a b", "{a}"), ("c", "1 & 2")]))),
                "a%20b=x%26y&c=1%20%26%202",
                Some("application/x-www-form-urlencoded"),
            ),
        ];
        for (index, (change, body, content_type)) in cases.into_iter().enumerate() {
            let outgoing = render_with(r#"{"a":"x&y"}"#, change).expect("renders");
            assert_eq!(outgoing.body, body, "case {index}");
            assert_eq!(header(&outgoing, "content-type"), content_type, "case {index}");
        }
    }

    #[test]
    fn urls_take_values_and_parameters() {
        for (url, query, data, expected) in [
            ("https://h.example/a/{x}?k={x}", None, r#"{"x":"b/c?d#e f"}"#, "/a/b%2Fc%3Fd%23e%20f?k=b%2Fc%3Fd%23e%20f"),
            (
                "https://h.example/a",
                Some(vec![("q 1", "{x}"), ("z", "1")]),
                r#"{"x":"&=é"}"#,
                "/a?q%201=%26%3D%C3%A9&z=1",
            ),
            ("https://h.example/a?b=1", Some(vec![("c", "{x}")]), "{}", "/a?b=1&c="),
            ("https://h.example/a?", Some(vec![("c", "2&d=#{x}")]), r#"{"x":3}"#, "/a?c=2%26d%3D%233"),
            ("https://h.example/a/{x}/b", None, "{}", "/a//b"),
            ("https://h.example/a/x{x}", None, r#"{"x":".."}"#, "/a/x.."),
        ] {
            let outgoing = render_with(data, |settings| {
                settings.url = url.to_owned();
                settings.query = query.as_deref().map(pairs);
            });
            assert_eq!(outgoing.expect("renders").target.url.as_str(), format!("https://h.example{expected}"), "{url}");
        }
        for (url, value) in [("/a/{x}", ".."), ("/a/{x}/b", "."), ("/.{x}", "."), ("/%2E{x}", ".")] {
            let outgoing =
                render_with(&format!("{{\"x\":\"{value}\"}}"), |it| it.url = format!("https://h.example{url}"));
            assert!(matches!(outgoing, Err(RenderError::Url(_))), "{url}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let large = format!("{{\"x\":\"{}\"}}", "\u{e9}".repeat(RENDERED_URL_BYTES_MAX / 6));
        let in_path = render_with(&large, |it| it.url.push_str("/{x}"));
        let in_query = render_with(&large, |it| it.query = Some(pairs(&[("x", "{x}")])));
        for outgoing in [in_path, in_query] {
            let expected = RenderError::TooLarge { what: "the URL", bytes_max: RENDERED_URL_BYTES_MAX };
            assert_eq!(outgoing.err(), Some(expected));
        }
        let large = format!("\"{}\"", "x".repeat(RENDERED_BODY_BYTES_MAX / 4));
        let template = render_with(&large, |it| it.body = Some("[{data},{data},{data},{data}]".to_owned()));
        let form = render_with(&large, |it| it.form = Some(pairs(&[("a", "{data}{data}"), ("b", "{data}{data}")])));
        let envelope = render_with(&format!("\"{}\"", "x".repeat(RENDERED_BODY_BYTES_MAX)), |_| {});
        for outgoing in [template, form, envelope] {
            let expected = RenderError::TooLarge { what: "the body", bytes_max: RENDERED_BODY_BYTES_MAX };
            assert_eq!(outgoing.err(), Some(expected));
        }
    }

    #[test]
    fn templates_see_what_secrecy_leaves() {
        let mut subscription = Subscription::sample(1);
        subscription.settings.secrecy_level = 1;
        subscription.settings.body = Some(r#"[{data},"{pin}"]"#.to_owned());
        let rules = [Rule { level: 1, events: Pattern::All, target: Target::Key("pin".to_owned()) }];
        let event = Event::sample("door.opened", r#"{"pin":"1234","x":1}"#);
        let outgoing = render(&subscription, &event, event.id.delivery(Lane(1)), &rules, &Options::default(), NOW)
            .expect("renders");
        assert_eq!(outgoing.body, r#"[{"x":1},""]"#);
        assert_eq!(outgoing.missing, ["pin"]);
    }

    proptest! {
        #[test]
        fn a_value_stays_in_its_part_of_the_url(value in "(.|[/?#%.\\\\:@ \t\n]){0,12}") {
            let template = "https://h.example:8443/a/{x}/b?k={x}&l=1";
            let data = format!("{{\"x\":{}}}", crate::json::quote(&value));
            match render_with(&data, |settings| settings.url = template.to_owned()) {
                Ok(outgoing) => {
                    let url = &outgoing.target.url;
                    prop_assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("h.example"), Some(8443)));
                    prop_assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
                    prop_assert_eq!(url.path_segments().map(Iterator::count), Some(3));
                    let keys: Vec<_> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
                    prop_assert_eq!(keys, ["k", "l"]);
                    let first = url.query_pairs().next().map(|(_, value)| value.into_owned());
                    prop_assert_eq!(first, Some(value));
                }
                Err(error) => prop_assert!(matches!(value.as_str(), "." | ".."), "{error}"),
            }
        }
    }
}

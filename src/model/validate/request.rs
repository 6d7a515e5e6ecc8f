//! What the request's own parts must be: URL, body, headers, authentication, TLS.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore};
use url::Url;

use crate::dialect::{self, body_context, has_dot_segment};
use crate::input::Faults;
use crate::json;
use crate::limits::{
    CREDENTIAL_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, NAME_CHARS_MAX, PEM_BYTES_MAX, PLACEHOLDERS_MAX,
    TEMPLATE_ENTRIES_MAX, TEMPLATE_VALUE_BYTES_MAX, URL_CHARS_MAX,
};
use crate::model::{Authentication, ContentType, Method, Settings, TlsSettings};
use crate::template::{Context, Placeholder, Template, Value, is_known};

use super::{Surroundings, check_name};

pub(super) fn check(settings: &Settings, surroundings: &Surroundings, faults: &Faults) {
    let url_chars_max = dialect::find(settings.format).limits().url_chars_max;
    check_url(&settings.url, url_chars_max, surroundings.allow_http, faults);
    check_body(settings, faults);
    check_entries("form", settings.form.as_deref(), faults);
    check_entries("query", settings.query.as_deref(), faults);
    check_placeholders(settings, surroundings, faults);
    check_headers(settings, faults);
    check_authentication(&settings.authentication, surroundings.allow_http, faults);
    check_tls(&settings.tls, faults);
}

/// Rules that are looked at in the text as written hold for what is rendered too:
/// values are percent-encoded, so they never add what parts a URL.
fn check_url(url: &str, chars_max: usize, allow_http: bool, faults: &Faults) {
    if url.chars().count() > chars_max {
        faults.add("url", format!("must have at most {chars_max} characters"));
    }
    if url.contains('#') {
        faults.add("url", "must not have a fragment (#): it is never sent");
    }
    let origin = url.find("://").map(|colon| {
        let authority = colon + "://".len();
        let length = url[authority..].find(['/', '?', '#', '\\']).unwrap_or(url.len() - authority);
        &url[..authority + length]
    });
    if origin.is_some_and(|origin| Template::parse(origin, Context::Encoded).placeholders().next().is_some()) {
        faults.add("url", "must have placeholders only in its path and query");
        return;
    }
    // A letter stands for every value.
    let lookup = |_: &Placeholder<'_>| Some(Value::Text("x".into()));
    let filled = Template::parse(url, Context::Encoded).render(usize::MAX, &lookup).unwrap_or_default().text;
    if let Err(message) = check_plain_url(&filled, allow_http) {
        faults.add("url", message);
    } else if has_dot_segment(&filled) {
        faults.add("url", "must not have a segment . or .. in its path");
    }
}

/// An absolute `https` URL (or `http`, where allowed) with a host and without user
/// info, written without what parsers silently drop or change.
fn check_plain_url(url: &str, allow_http: bool) -> Result<(), String> {
    let scheme = if allow_http { "https:// or http://" } else { "https://" };
    if url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("must not have white space, control characters or backslashes".to_owned());
    }
    let parsed = Url::parse(url).map_err(|error| format!("must be a URL that begins with {scheme}: {error}"))?;
    let allowed = parsed.scheme() == "https" || allow_http && parsed.scheme() == "http";
    // Parsers take a host after one slash, or none: what they find would not be what
    // the text shows.
    let begins = url.split_once("://").filter(|(begin, _)| allowed && begin.eq_ignore_ascii_case(parsed.scheme()));
    let Some((_, rest)) = begins else {
        return Err(format!("must begin with {scheme}"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err("must name a host".to_owned());
    }
    if authority.contains('@') || !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("must not hold a user or password; that is what authentication is for".to_owned());
    }
    Ok(())
}

fn check_body(settings: &Settings, faults: &Faults) {
    let may_lack_body = matches!(settings.method, Method::Get | Method::Delete);
    if settings.form.is_some() {
        if settings.body.is_some() {
            faults.add("form", "must not be set beside body");
        } else if may_lack_body {
            faults.add("form", format!("must not be set with method {}, which sends only a body", settings.method));
        }
        if settings.content_type != ContentType::Form {
            faults.add("form", "must be set only with content_type form");
        }
    } else if settings.content_type == ContentType::Form && settings.body.is_none() && !may_lack_body {
        faults.add("content_type", "must not be form without form or body");
    }
    let Some(body) = &settings.body else { return };
    let bytes_max = dialect::find(settings.format).limits().body_template_bytes_max;
    if body.len() > bytes_max {
        faults.add("body", format!("must have at most {bytes_max} bytes"));
    } else if settings.content_type == ContentType::Json {
        let template = Template::parse(body, Context::Json);
        let filled = template.render(usize::MAX, &|_| None).unwrap_or_default().text;
        if json::check_depth(filled.as_bytes()).is_err() || !json::is_valid(&filled) {
            let message = "must be JSON once null stands for each placeholder, and nothing for those inside strings";
            faults.add("body", message);
        }
    }
}

fn check_entries(field: &str, entries: Option<&[(String, String)]>, faults: &Faults) {
    let entries = entries.unwrap_or_default();
    if entries.len() > TEMPLATE_ENTRIES_MAX {
        faults.add(field, format!("must have at most {TEMPLATE_ENTRIES_MAX} entries"));
    }
    for (name, value) in entries {
        check_name(format!("{field}.{name}"), name, faults);
        if value.len() > TEMPLATE_VALUE_BYTES_MAX {
            let message = format!("must have at most {TEMPLATE_VALUE_BYTES_MAX} bytes");
            faults.add(format!("{field}.{name}"), message);
        }
    }
}

fn check_placeholders(settings: &Settings, surroundings: &Surroundings, faults: &Faults) {
    let entries = |field: &'static str, entries: &'_ Option<Vec<(String, String)>>| {
        let entries = entries.clone().unwrap_or_default();
        entries.into_iter().map(move |(name, value)| (format!("{field}.{name}"), value, Context::Encoded))
    };
    let url = ("url".to_owned(), settings.url.clone(), Context::Encoded);
    let body = settings.body.clone().map(|body| ("body".to_owned(), body, body_context(settings.content_type)));
    let templates = std::iter::once(url)
        .chain(body)
        .chain(entries("form", &settings.form))
        .chain(entries("query", &settings.query));
    let mut count = 0;
    for (field, text, context) in templates {
        let template = Template::parse(&text, context);
        let before = count;
        count += template.placeholders().count();
        if before <= PLACEHOLDERS_MAX && count > PLACEHOLDERS_MAX {
            faults.add(
                &field,
                format!("must not bring the placeholders of url, body, form and query beyond {PLACEHOLDERS_MAX}"),
            );
        }
        let Some(known) = &surroundings.known_fields else { continue };
        let dialect = dialect::find(settings.format);
        let mut told = HashSet::new();
        for placeholder in template.placeholders() {
            let is_known = dialect.is_own_placeholder(placeholder.name)
                || is_known(&placeholder, known.iter().map(String::as_str));
            if !is_known && told.insert(placeholder.name) {
                let message = format!("must not use {{{placeholder}}}: events of these types have no such field");
                faults.add(&field, message);
            }
        }
    }
}

/// Headers that frame the request, belong to one connection (RFC 9110, section
/// 7.6.1) or are set from elsewhere.
fn is_reserved(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    RESERVED.contains(&name) || name.starts_with("proxy-")
}

/// Whether `name` is a token (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_headers(settings: &Settings, faults: &Faults) {
    if settings.headers.len() > HEADERS_MAX {
        faults.add("headers", format!("must have at most {HEADERS_MAX} entries"));
    }
    let own_headers = dialect::find(settings.format).own_headers();
    let mut seen = HashSet::new();
    for (name, value) in &settings.headers {
        let fault = |message: String| faults.add(format!("headers.{name}"), message);
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || name.len() > NAME_CHARS_MAX {
            fault(format!("must be named by 1 to {NAME_CHARS_MAX} letters, digits or any of !#$%&'*+-.^_`|~"));
        } else if is_reserved(&lower) {
            fault("must not be set here: it is reserved".to_owned());
        } else if own_headers.contains(&lower.as_str()) {
            fault(format!("must not be set here: the format {} sets it", settings.format));
        } else if lower == "authorization" && settings.authentication != Authentication::None {
            fault("must not be set beside an authentication".to_owned());
        } else if !seen.insert(lower) {
            fault("must not be repeated; upper and lower case are the same".to_owned());
        }
        if value.len() > HEADER_VALUE_BYTES_MAX {
            fault(format!("must have at most {HEADER_VALUE_BYTES_MAX} bytes"));
        }
        if value.contains(|character: char| character.is_control() && character != '\t') {
            fault("must have no control characters but tabs".to_owned());
        }
    }
}

fn check_authentication(authentication: &Authentication, allow_http: bool, faults: &Faults) {
    let check_credential = |name: &str, text: &str, allowed: fn(&str) -> bool, what: &str| {
        if text.is_empty() || text.len() > CREDENTIAL_BYTES_MAX || !allowed(text) {
            let message = format!("must have 1 to {CREDENTIAL_BYTES_MAX} bytes, {what}");
            faults.add(format!("authentication.{name}"), message);
        }
    };
    let no_control: fn(&str) -> bool = |text| !text.contains(char::is_control);
    let without_control = "without control characters";
    match authentication {
        Authentication::None => {}
        Authentication::Basic { user, password } => {
            let no_colon: fn(&str) -> bool = |text| !text.contains(|c: char| c == ':' || c.is_control());
            check_credential("user", user, no_colon, "without colons and control characters");
            if !password.expose().is_empty() {
                check_credential("password", password.expose(), no_control, without_control);
            }
        }
        Authentication::Bearer { token } => {
            check_credential("token", token.expose(), is_visible, "all visible ASCII characters");
        }
        Authentication::OAuth2 { token_url, client_id, client_secret, scope, audience } => {
            if token_url.chars().count() > URL_CHARS_MAX {
                faults.add("authentication.token_url", format!("must have at most {URL_CHARS_MAX} characters"));
            } else if token_url.contains('#') {
                faults.add("authentication.token_url", "must not have a fragment (#)");
            } else if let Err(message) = check_plain_url(token_url, allow_http) {
                faults.add("authentication.token_url", message);
            }
            check_credential("client_id", client_id, no_control, without_control);
            check_credential("client_secret", client_secret.expose(), no_control, without_control);
            for (name, text) in [("scope", scope), ("audience", audience)] {
                if let Some(text) = text {
                    check_credential(name, text, no_control, without_control);
                }
            }
        }
    }
}

fn check_tls(tls: &TlsSettings, faults: &Faults) {
    let fault = |name: &str, message: String| faults.add(format!("tls.{name}"), message);
    let check_chain = |name: &str, pem: &str| {
        let chain = certificates(pem);
        if chain.is_none() {
            fault(name, format!("must be one or more certificates in PEM, at most {PEM_BYTES_MAX} bytes"));
        }
        chain
    };
    if let Some(pem) = &tls.ca_pem {
        check_chain("ca_pem", pem);
    }
    let chain = tls.client_cert_pem.as_ref().map(|pem| check_chain("client_cert_pem", pem));
    let key = tls.client_key_pem.as_ref().map(|pem| {
        let key = private_key(pem.expose());
        if key.is_none() {
            fault("client_key_pem", format!("must be a private key in PEM, at most {PEM_BYTES_MAX} bytes"));
        }
        key
    });
    match (chain, key) {
        (Some(_), None) => fault("client_key_pem", "must be set where client_cert_pem is".to_owned()),
        (None, Some(_)) => fault("client_cert_pem", "must be set where client_key_pem is".to_owned()),
        (Some(Some(chain)), Some(Some(key))) => {
            let fit = CertifiedKey::new(chain, key).keys_match();
            if fit == Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
                fault("client_key_pem", "must be the key of the first certificate in client_cert_pem".to_owned());
            }
        }
        _ => {}
    }
}

/// The certificates of a PEM text; none where it has none, a broken one, or too much.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    let are_read = chain.iter().all(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    (are_read && !chain.is_empty() && pem.len() <= PEM_BYTES_MAX).then_some(chain)
}

/// The key of a PEM text; none where it is of no kind that can sign.
fn private_key(pem: &str) -> Option<Arc<dyn SigningKey>> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok().filter(|_| pem.len() <= PEM_BYTES_MAX)?;
    rustls::crypto::ring::sign::any_supported_type(&key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Subscription};
    use crate::secret::Secret;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    /// The fields at fault once `change` was made to settings without one.
    fn faults_of(allow_http: bool, change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::sample();
        change(&mut settings);
        let surroundings = Surroundings { now: Timestamp::ZERO, allow_http, known_fields: None };
        let faults = Faults::new();
        check(&settings, &surroundings, &faults);
        faults.into_vec().into_iter().map(|fault| fault.field).collect()
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn entries(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn urls() {
        for right in [
            "https://h.example",
            "https://h.example:8443/a/{id}/b{type}?k={data.x}&t={a[1]}",
            "HTTPS://h.example/a{3}/{}",
            "https://192.0.2.1/..a/.../a.",
            "https://[2001:db8::1]/",
            "https://bücher.example/grün?q=größe",
            "https://h.example?{id}",
            "https://h.example/a@b:c",
        ] {
            assert_eq!(faults_of(false, |it| it.url = right.to_owned()), Vec::<String>::new(), "{right}");
        }
        for wrong in [
            "",
            "h.example/a",
            "/a",
            "http://h.example/",
            "ftp://h.example/",
            "https:h.example",
            "https:/h.example",
            "https://",
            "https:///h.example/",
            "https:///{id}/",
            "https://?a",
            "https://user@h.example/",
            "https://user:password@h.example/",
            "https://@h.example/",
            "https://{id}/",
            "https://{id}.example/",
            "https://h.example:{id}/",
            "https://{id}@h.example/",
            "{id}://h.example/",
            "{id}",
            "https://h.example/a#b",
            "https://h.example/a/../b",
            "https://h.example/./b",
            "https://h.example/%2e%2E/b",
            "https://h.example/..",
            "https://h.example/a b",
            "https://h.example/a\nb",
            "https://h.example\\@evil.example/",
            " https://h.example/",
            "https://h.example:99999/",
            // Browsers and parsers read these as hosts too, after one slash or none.
            "https:/user:pw@evil.example/a://b",
            "https:user:pw@evil.example/a://b",
            "https:/evil.example/a://b",
            "https:evil.example?://b",
            "https:///user@evil.example://b",
            &format!("https://h.example/{}", "x".repeat(2048)),
        ] {
            assert_eq!(faults_of(false, |it| it.url = wrong.to_owned()), ["url"], "{wrong}");
        }
        assert!(faults_of(true, |it| it.url = "http://127.0.0.1:8080/x".to_owned()).is_empty());
    }

    #[test]
    fn bodies() {
        type Change = fn(&mut Settings);
        let cases: [(Change, &[&str]); 14] = [
            (|it| it.body = Some(r#"{"a":{x},"b":"{y} {z}"}"#.into()), &[]),
            (|it| it.body = Some("{x}".into()), &[]),
            (|it| it.body = Some(r#"{"a":1{x}}"#.into()), &["body"]),
            (|it| it.body = Some(r#"{"a":"\{x}n"}"#.into()), &["body"]),
            (|it| it.body = Some("hello {x}".into()), &["body"]),
            (|it| (it.body, it.content_type) = (Some("hello {x}".into()), ContentType::Text), &[]),
            (|it| it.body = Some(format!("\"{}\"", "x".repeat(64 * 1024))), &["body"]),
            (|it| (it.form, it.content_type) = (Some(entries(&[("a", "{x}")])), ContentType::Form), &[]),
            (|it| it.form = Some(entries(&[("a", "{x}")])), &["form"]),
            (|it| it.content_type = ContentType::Form, &["content_type"]),
            (|it| (it.content_type, it.method) = (ContentType::Form, Method::Get), &[]),
            (|it| (it.form, it.content_type, it.method) = (Some(vec![]), ContentType::Form, Method::Delete), &["form"]),
            (|it| (it.form, it.body, it.content_type) = (Some(vec![]), Some("a".into()), ContentType::Form), &["form"]),
            (|it| it.query = Some(entries(&[("", "1"), ("a", &"x".repeat(4097))])), &["query.", "query.a"]),
        ];
        for (index, (change, fields)) in cases.into_iter().enumerate() {
            assert_eq!(faults_of(false, change), fields, "case {index}");
        }
        let many = (0..65).map(|n| (format!("n{n}"), String::new())).collect();
        assert_eq!(faults_of(false, |it| it.query = Some(many)), ["query"]);
    }

    #[test]
    fn placeholders() {
        let many = |count: usize| "{a}".repeat(count);
        assert!(faults_of(false, |it| it.url.push_str(&format!("/{}", many(256)))).is_empty());
        let over = |it: &mut Settings| {
            it.url.push_str(&format!("/{}", many(200)));
            it.body = Some(format!("\"{}\"", many(57)));
        };
        assert_eq!(faults_of(false, over), ["body"]);

        let mut settings = Settings::sample();
        settings.url.push_str("/{device.id}/{nope}");
        settings.body = Some(r#"[{id},{data},{data.device},{other},{other}]"#.to_owned());
        settings.query = Some(entries(&[("q", "{device.name}")]));
        let known_fields = Some(["device.id".to_owned()].into());
        let surroundings = Surroundings { now: Timestamp::ZERO, allow_http: false, known_fields };
        let faults = Faults::new();
        check(&settings, &surroundings, &faults);
        let fields: Vec<String> = faults.into_vec().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["url", "body", "query.q"]);
    }

    #[test]
    fn headers() {
        for (headers, fields) in [
            (&[("X-Foo", "a b\tc"), ("x_bar!", ""), ("Authorization", "Bearer x"), ("User-Agent", "me")][..], &[][..]),
            (&[("X-Foo", "1"), ("x-foo", "2")], &["headers.x-foo"]),
            (&[("", "1")], &["headers."]),
            (&[("a b", "1")], &["headers.a b"]),
            (&[("a:", "1")], &["headers.a:"]),
            (&[("Content-Type", "1")], &["headers.Content-Type"]),
            (&[("host", "1")], &["headers.host"]),
            (&[("TRANSFER-ENCODING", "1")], &["headers.TRANSFER-ENCODING"]),
            (&[("Proxy-Authorization", "1")], &["headers.Proxy-Authorization"]),
            (&[("Webhook-Signature", "1")], &["headers.Webhook-Signature"]),
            (&[("a", "1\r\nb: 2")], &["headers.a"]),
            (&[("a", "1\0")], &["headers.a"]),
            (&[("a", "é 東")], &[]),
            (&[("a", "1\u{7f}")], &["headers.a"]),
            (&[("a", "1\u{85}")], &["headers.a"]),
        ] {
            assert_eq!(faults_of(false, |it| it.headers = entries(headers)), fields, "{headers:?}");
        }
        let long = |it: &mut Settings| it.headers = vec![("a".to_owned(), "x".repeat(4097))];
        assert_eq!(faults_of(false, long), ["headers.a"]);
        let many = |it: &mut Settings| it.headers = (0..33).map(|n| (format!("h{n}"), String::new())).collect();
        assert_eq!(faults_of(false, many), ["headers"]);
        let twice = |it: &mut Settings| {
            it.headers = entries(&[("authorization", "x")]);
            it.authentication = Authentication::Bearer { token: secret("x") };
        };
        assert_eq!(faults_of(false, twice), ["headers.authorization"]);
    }

    #[test]
    fn authentications() {
        let basic =
            |user: &str, password: &str| Authentication::Basic { user: user.into(), password: secret(password) };
        let bearer = |token: &str| Authentication::Bearer { token: secret(token) };
        let oauth2 = |token_url: &str, client_id: &str, scope: &str| Authentication::OAuth2 {
            token_url: token_url.into(),
            client_id: client_id.into(),
            client_secret: secret("s"),
            scope: Some(scope.into()),
            audience: None,
        };
        for (authentication, fields) in [
            (basic("ann", "p:é w"), &[][..]),
            (basic("key", ""), &[]),
            (basic("", "p"), &["authentication.user"]),
            (basic("a:b", "p\n"), &["authentication.user", "authentication.password"]),
            (bearer("abc.DEF-1=="), &[]),
            (bearer(""), &["authentication.token"]),
            (bearer("a\r\nb"), &["authentication.token"]),
            (bearer("a b"), &["authentication.token"]),
            (bearer(&"x".repeat(4097)), &["authentication.token"]),
            (oauth2("https://id.example/token", "c", "a b"), &[]),
            (oauth2("http://id.example/token", "c", "a"), &["authentication.token_url"]),
            (oauth2("https://u:p@id.example/token", "c", "a"), &["authentication.token_url"]),
            (oauth2("https:/u:p@id.example/a://b", "c", "a"), &["authentication.token_url"]),
            (
                oauth2("https://id.example/token#x", "", "\n"),
                &["authentication.token_url", "authentication.client_id", "authentication.scope"],
            ),
        ] {
            assert_eq!(faults_of(false, |it| it.authentication = authentication), fields);
        }
    }

    #[test]
    fn certificates_and_keys() {
        let made = rcgen::generate_simple_self_signed(["h.example".to_owned()]).expect("makes one");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let other_key = rcgen::KeyPair::generate().expect("makes one").serialize_pem();
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let tls = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| TlsSettings {
            verify: true,
            ca_pem: ca.map(str::to_owned),
            client_cert_pem: cert.map(str::to_owned),
            client_key_pem: key.map(secret),
        };
        let large = format!("{}{cert}", " \n".repeat(PEM_BYTES_MAX / 2));
        for (tls, fields) in [
            (tls(Some(&format!("{cert}{cert}")), Some(&cert), Some(&key)), &[][..]),
            (tls(Some(""), None, None), &["tls.ca_pem"]),
            (tls(Some(&key), None, None), &["tls.ca_pem"]),
            (tls(Some(&cert[..cert.len() - 30]), None, None), &["tls.ca_pem"]),
            (tls(Some(&large), None, None), &["tls.ca_pem"]),
            (tls(None, Some(&cert), None), &["tls.client_key_pem"]),
            (tls(None, None, Some(&key)), &["tls.client_cert_pem"]),
            (tls(None, Some(&cert), Some(&cert)), &["tls.client_key_pem"]),
            // Each fine by itself: that they do not fit was first told by every attempt.
            (tls(None, Some(&cert), Some(&other_key)), &["tls.client_key_pem"]),
            (tls(Some(no_certificate), Some(no_certificate), Some(&key)), &["tls.ca_pem", "tls.client_cert_pem"]),
        ] {
            assert_eq!(faults_of(false, |it| it.tls = tls), fields);
        }
    }

    proptest! {
        /// Where requests go is settled when a URL is accepted, not by an event.
        #[test]
        fn no_value_leads_an_accepted_url_elsewhere(
            url in "https://(h\\.example|h\\.example:8443|(\\{x\\}|[/@:?#\\\\%.{}x]){1,3})(/|\\{x\\}|[?&=@:%.#\\\\a{}]){0,8}",
            value in "[/?#%@:.\\\\a \t\r\n]{0,6}",
        ) {
            let mut subscription = Subscription::sample(1);
            subscription.settings.url = url;
            let faults = Faults::new();
            check_url(&subscription.settings.url, usize::MAX, false, &faults);
            if !faults.is_empty() {
                return Ok(());
            }
            let render = |value: &str| {
                let event = Event::sample("a", &format!("{{\"x\":{}}}", json::quote(value)));
                let delivery = event.id.delivery(subscription.number);
                dialect::render(&subscription, &event, delivery, &[], &Default::default(), Timestamp::ZERO).map(|outgoing| outgoing.target.url.clone())
            };
            let parts = |url: &Url| {
                let host = url.host_str().map(str::to_owned);
                (url.scheme().to_owned(), url.username().to_owned(), host, url.port(), url.path().matches('/').count())
            };
            let plain = render("x").expect("an accepted URL renders");
            if let Ok(filled) = render(value.as_str()) {
                prop_assert_eq!(parts(&filled), parts(&plain));
            }
        }
    }
}

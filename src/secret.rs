//! Values that must not be seen: signing secrets, passwords, tokens, keys.
//!
//! **No `Debug`, no `Display`, no `Serialize`**, wiped when dropped. Who needs the
//! text asks for it by [`Secret::expose`], which is easy to search for.

use std::borrow::Cow;

use serde_json::Value;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every read shows in a secret's place, and what a write sends to keep it.
pub const MASK: &str = "***";

/// A secret text.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` over.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }

    /// The text itself, for the one place that must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the mask that stands for "keep what is stored".
    pub fn is_mask(&self) -> bool {
        self.0.as_str() == MASK
    }
}

impl PartialEq for Secret {
    /// In constant time for texts of one length.
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Parts of names of headers whose values are credentials.
const CREDENTIAL_PARTS: &[&str] = &[
    "auth",
    "bearer",
    "cookie",
    "credential",
    "hmac",
    "jwt",
    "key",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
];

/// What values begin with that are credentials, whatever their header is called.
const CREDENTIAL_BEGINNINGS: &[&str] = &["basic ", "bearer ", "digest ", "token ", "whsec_", "ph_"];

/// Whether a header's value is masked in reads.
pub fn is_credential(header: &str, value: &str) -> bool {
    let (name, value) = (header.to_ascii_lowercase(), value.trim_start().to_ascii_lowercase());
    CREDENTIAL_PARTS.iter().any(|part| name.contains(part))
        || CREDENTIAL_BEGINNINGS.iter().any(|beginning| value.starts_with(beginning))
}

/// Secrets shorter than this are not looked for: they are words of any text.
const REDACTED_CHARS_MIN: usize = 4;

/// `text` of somebody who was sent `secrets` and may repeat them, with [`MASK`] in their
/// places: as they are, inside a JSON string, percent-encoded, and cut off at the end.
/// Who turns a secret into something else is not found out.
pub fn redact<'a>(text: &'a [u8], secrets: &[&str]) -> Cow<'a, [u8]> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| secret.len() >= REDACTED_CHARS_MIN) {
        let quoted = Zeroizing::new(Value::from(*secret).to_string());
        let encoded = Zeroizing::new(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>());
        for form in [secret, &quoted[1..quoted.len() - 1], encoded.as_str()] {
            if let Some(redacted) = without(&text, form.as_bytes()) {
                text = Cow::Owned(redacted);
            }
        }
    }
    text
}

/// None: `secret` is not in it.
fn without(text: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut redacted = Vec::with_capacity(text.len());
    let (mut at, mut is_found) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        let is_cut_off = rest.len() >= REDACTED_CHARS_MIN && secret.starts_with(rest);
        if rest.starts_with(secret) || is_cut_off {
            redacted.extend_from_slice(MASK.as_bytes());
            at += secret.len().min(rest.len());
            is_found = true;
        } else {
            redacted.push(text[at]);
            at += 1;
        }
    }
    is_found.then_some(redacted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_tell_credentials() {
        for name in [
            "Authorization",
            "x-api-key",
            "Cookie",
            "X-Auth",
            "x-hub-signature",
            "MY-TOKEN",
            "proxy-authorization",
            "X-JWT",
        ] {
            assert!(is_credential(name, ""), "{name}");
        }
        for value in ["Bearer abc", "basic dTpw", " Bearer x", "whsec_AAAA", "ph_abc"] {
            assert!(is_credential("x-partner", value), "{value}");
        }
        for name in ["content-language", "x-tenant", "user-agent", "x-request-id"] {
            for value in ["", "bearers of rings", "basically", "***"] {
                assert!(!is_credential(name, value), "{name}: {value}");
            }
        }
    }

    #[test]
    fn what_was_sent_and_comes_back_is_masked() {
        for (text, secrets, redacted) in [
            ("nothing here", &["hunter2"][..], "nothing here"),
            ("got hunter2, hunter2!", &["hunter2"], "got ***, ***!"),
            ("one two", &["one two", "two"], "***"),
            (r#"{"a":"x\"y\\z"}"#, &[r#"x"y\z"#], r#"{"a":"***"}"#),
            ("q=a+b%26c&d", &["a b&c"], "q=***&d"),
            ("cut off in hunt", &["hunter2"], "cut off in ***"),
            ("no hun", &["hunter2"], "no hun"),
            ("a pin is 123", &["123", ""], "a pin is 123"),
        ] {
            assert_eq!(redact(text.as_bytes(), secrets), redacted.as_bytes(), "{text}");
        }
        assert!(matches!(redact(b"nothing here", &["hunter2"]), Cow::Borrowed(_)));
    }
}

//! What reads do not show, and when a write may keep it unseen.
//!
//! **A kept secret never travels somewhere new**: whoever may change a
//! subscription but not see its secrets must not have them sent to themselves.

use url::Url;

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
pub(super) fn is_credential(header: &str, value: &str) -> bool {
    let (name, value) = (header.to_ascii_lowercase(), value.trim_start().to_ascii_lowercase());
    CREDENTIAL_PARTS.iter().any(|part| name.contains(part))
        || CREDENTIAL_BEGINNINGS.iter().any(|beginning| value.starts_with(beginning))
}

/// Whether two URLs have scheme, host and port in common. Templates are in
/// neither, so what cannot be read as a URL is nowhere.
pub(super) fn is_same_endpoint(one: &str, other: &str) -> bool {
    let endpoint = |text: &str| {
        let url = Url::parse(text).ok()?;
        Some((url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default()))
    };
    endpoint(one).is_some_and(|endpoint_of_one| Some(endpoint_of_one) == endpoint(other))
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
    fn endpoints_are_scheme_host_and_port() {
        for (one, other, same) in [
            ("https://a.example/x", "https://a.example/y?z={device_id}", true),
            ("https://a.example/{event.id}", "https://A.EXAMPLE:443", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://b.example", false),
            ("https://a.example", "https://a.example.evil.example", false),
            ("https://a.example", "https://evil.example#@a.example", false),
            ("", "", false),
            ("nonsense", "nonsense", false),
        ] {
            assert_eq!(is_same_endpoint(one, other), same, "{one} {other}");
        }
    }
}

//! When a write may keep what reads do not show.
//!
//! **A kept secret never travels somewhere new**: whoever may change a
//! subscription but not see its secrets must not have them sent to themselves.

use url::Url;

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

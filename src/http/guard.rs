//! Keeps browsers' foreign pages out: a request must be for a `Host` that is
//! ours (else a name somebody points at this machine would do), and carry no
//! `Origin` but a configured one.

use std::net::{IpAddr, SocketAddr};

use ::http::uri::Authority;

use super::{Code, HeaderValue, Link, Method, Problem, Request, Response, StatusCode, empty, header};

/// What is answered beside our own addresses.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Names that `Host` may have, with any port unless they name one.
    pub hosts: &'a [String],
    /// Values that `Origin` may have.
    pub origins: &'a [String],
}

/// Refuses what must not be answered.
pub fn check(request: &Request, link: Link, allowed: Allowed<'_>) -> Result<(), Problem> {
    if let Link::Tcp(local) = link {
        let host = host(request);
        if !host.is_some_and(|host| is_host_allowed(host, local, allowed.hosts)) {
            return Err(Problem::new(Code::HostRefused)
                .detail("the Host must be an address of this listener, localhost, or one of [service] hosts"));
        }
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let is_allowed = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| allowed.origins.iter().any(|known| known.eq_ignore_ascii_case(origin)))
    };
    if origins.all(is_allowed) {
        return Ok(());
    }
    Err(Problem::new(Code::OriginRefused).detail("the Origin must be one of [service] origins"))
}

/// The answer to a browser that asks whether its page may send a request; none:
/// the request is no such question. To be asked after [`check`].
pub fn preflight(request: &Request) -> Option<Response> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, idempotency-key, if-match, x-request-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Lets the page of `origin`, which [`check`] has passed, read the answer.
pub fn allow_origin(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let exposed = HeaderValue::from_static("etag, location, retry-after, x-request-id");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// Whom the request is for: its URI's authority goes before `Host` (RFC 9112,
/// section 3.2.2), and must not differ from it: somebody on the way may have gone by
/// the other. Two `Host` headers are none.
fn host(request: &Request) -> Option<&str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    let is_told_otherwise = |authority: &Authority| !authority.as_str().eq_ignore_ascii_case(host);
    if hosts.next().is_some() || request.uri().authority().is_some_and(is_told_otherwise) {
        return None;
    }
    Some(host)
}

/// Whether `host` is the address `local` that the request came to, a name of the
/// loopback with its port, or one of `hosts`.
fn is_host_allowed(host: &str, local: SocketAddr, hosts: &[String]) -> bool {
    let (name, port) = split_port(host);
    let is_configured = |known: &String| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name);
    if hosts.iter().any(is_configured) {
        return true;
    }
    let is_port_ours = match port {
        Some(port) => port.parse() == Ok(local.port()),
        None => matches!(local.port(), 80 | 443),
    };
    is_port_ours
        && (["localhost", "127.0.0.1", "[::1]"].iter().any(|known| known.eq_ignore_ascii_case(name))
            || address(name) == Some(local.ip().to_canonical()))
}

/// The address that `name` is: v6 in brackets.
fn address(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    }
}

/// `name:port` or `[v6]:port` in two; a port that is missing is none.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut builder = ::http::Request::builder().uri("/v1/events");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Bytes::new().into()).expect("a request")
    }

    #[test]
    fn hosts_must_be_ours() {
        let local = Link::Tcp("10.1.2.3:8470".parse().expect("an address"));
        let web = Link::Tcp("[2001:db8::1]:443".parse().expect("an address"));
        let mapped = Link::Tcp("[::ffff:10.1.2.3]:8470".parse().expect("an address"));
        let hosts = ["hooks.example".to_owned(), "edge.example:9000".to_owned()];
        for (link, host, answered) in [
            (local, Some("localhost:8470"), true),
            (local, Some("LOCALHOST:8470"), true),
            (local, Some("127.0.0.1:8470"), true),
            (local, Some("[::1]:8470"), true),
            (local, Some("10.1.2.3:8470"), true),
            (mapped, Some("10.1.2.3:8470"), true),
            (local, Some("hooks.example"), true),
            (local, Some("hooks.example:1234"), true),
            (local, Some("edge.example:9000"), true),
            (local, Some("edge.example"), false),
            (local, Some("localhost"), false),
            (local, Some("localhost:80"), false),
            (local, Some("10.1.2.4:8470"), false),
            (local, Some("evil.example:8470"), false),
            (local, Some("localhost.evil.example:8470"), false),
            (local, Some(""), false),
            (local, None, false),
            (web, Some("[2001:db8::1]"), true),
            (web, Some("localhost"), true),
            (web, Some("[2001:db8::2]"), false),
            (Link::Unix, Some("anything"), true),
            (Link::Unix, None, true),
        ] {
            let headers: Vec<(&str, &str)> = host.map(|host| ("host", host)).into_iter().collect();
            let outcome = check(&request(&headers), link, Allowed { hosts: &hosts, origins: &[] });
            assert_eq!(outcome.is_ok(), answered, "{host:?}");
        }
        let twice = request(&[("host", "localhost:8470"), ("host", "localhost:8470")]);
        let refused = check(&twice, local, Allowed { hosts: &hosts, origins: &[] }).expect_err("two hosts");
        assert_eq!(refused.code(), Code::HostRefused);
    }

    #[test]
    fn origins_must_be_configured() {
        let origins = ["https://admin.example".to_owned()];
        for (headers, answered) in [
            (&[][..], true),
            (&[("origin", "https://admin.example")], true),
            (&[("origin", "http://admin.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://admin.example"), ("origin", "https://evil.example")], false),
        ] {
            let outcome = check(&request(headers), Link::Unix, Allowed { hosts: &[], origins: &origins });
            assert_eq!(outcome.is_ok(), answered, "{headers:?}");
        }
    }
}

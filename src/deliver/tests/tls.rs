//! Certificates that are accepted and refused, on both sides.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::secret::Secret;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A receiver whose certificate `authority` signed; it asks for ours where `clients` is set.
async fn receiver(authority: &Authority, params: CertificateParams, clients: Option<&Authority>) -> Receiver {
    receiver_of(rustls::DEFAULT_VERSIONS, authority, params, clients).await
}

async fn receiver_of(
    versions: &[&'static SupportedProtocolVersion],
    authority: &Authority,
    params: CertificateParams,
    clients: Option<&Authority>,
) -> Receiver {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("a server");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Receiver::listening("127.0.0.1:0", Some(acceptor), answer_each(|_| OK.to_owned())).await
}

fn sending(receiver: &Receiver, tls: TlsSettings) -> Sending {
    let mut sending = Sending::to(&format!("https://{}/hook", receiver.address));
    sending.tls = tls;
    sending
}

fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings { ca_pem: Some(authority.pem()), ..TlsSettings::default() }
}

#[tokio::test]
async fn one_more_authority_is_trusted_where_a_subscription_says_so() {
    let authority = authority();
    let receiver = receiver(&authority, params("127.0.0.1"), None).await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(status(sending(&receiver, trusting(&authority)).by(&client).await), 200);
    }
    assert_eq!(receiver.connections(), 1, "connections are kept over TLS too");
    assert_eq!(header(&receiver.requests()[0], "host"), Some(receiver.address.to_string().as_str()));
    let failure = sending(&receiver, TlsSettings::default()).by(&client).await.expect_err("not trusted by others");
    assert_eq!(failure.code, FailureCode::Tls);
    assert_eq!(failure.detail, "the receiver's certificate is from an authority that is not trusted");
}

#[tokio::test]
async fn certificates_that_are_not_valid_are_refused_unless_nothing_is_verified() {
    let authority = authority();
    let mut expired = params("127.0.0.1");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = params("127.0.0.1");
    early.not_before = date_time_ymd(4000, 1, 1);
    for (params, detail) in [
        (expired, "the receiver's certificate has expired"),
        (early, "the receiver's certificate is not valid yet"),
        (params("elsewhere.example"), "the receiver's certificate is for another name"),
    ] {
        let receiver = receiver(&authority, params, None).await;
        let client = client();
        let failure = sending(&receiver, trusting(&authority)).by(&client).await.expect_err(detail);
        assert_eq!((failure.code, &failure.detail[..]), (FailureCode::Tls, detail));
        assert!(receiver.requests().is_empty(), "{detail}");
        let unverified = TlsSettings { verify: false, ..TlsSettings::default() };
        assert_eq!(status(sending(&receiver, unverified).by(&client).await), 200, "{detail}");
    }
}

/// What there is to warn of before deliveries fail: seen where it is accepted, and where it
/// is refused for its age.
#[tokio::test]
async fn it_is_held_until_when_each_endpoints_certificate_is_valid() {
    let authority = authority();
    let client = client();
    let until = |year| {
        let mut params = params("127.0.0.1");
        params.not_after = date_time_ymd(year, 2, 3);
        params
    };
    let valid = receiver_of(&[&rustls::version::TLS12], &authority, until(2050), None).await;
    let expired = receiver(&authority, until(2020), None).await;
    let (valid_url, expired_url) =
        (format!("https://{}/a?{{id}}", valid.address), format!("https://{}", expired.address));
    assert!(client.certificates([valid_url.as_str(), &expired_url]).is_empty(), "none was seen");
    for _ in 0..2 {
        assert_eq!(status(sending(&valid, trusting(&authority)).by(&client).await), 200);
        sending(&expired, trusting(&authority)).by(&client).await.expect_err("expired");
    }
    let seen = |urls: &[&str]| {
        let mut seen = client.certificates(urls.iter().copied());
        seen.sort();
        seen.iter().map(|at| at.to_rfc3339_seconds()).collect::<Vec<String>>()
    };
    assert_eq!(seen(&[&valid_url]), ["2050-02-03T00:00:00Z"]);
    let plain = format!("http://{}", valid.address);
    let twice = [&valid_url[..], &expired_url, &valid_url, &plain, "https://elsewhere.example", "nonsense"];
    assert_eq!(seen(&twice), ["2020-02-03T00:00:00Z", "2050-02-03T00:00:00Z"], "one an endpoint");
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let authority = authority();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let receiver = receiver_of(&[version], &authority, params("127.0.0.1"), None).await;
        let unverified = TlsSettings { verify: false, ..TlsSettings::default() };
        for tls in [trusting(&authority), unverified] {
            assert_eq!(status(sending(&receiver, tls).by(&client()).await), 200, "{version:?}");
        }
    }
}

#[tokio::test]
async fn names_are_checked_as_names() {
    let authority = authority();
    let receiver = receiver(&authority, params("localhost"), None).await;
    let mut sending = sending(&receiver, trusting(&authority));
    assert_eq!(code(sending.by(&client()).await), FailureCode::Tls);
    sending.request.target = target(&format!("https://localhost:{}/", receiver.address.port()));
    assert_eq!(status(sending.by(&client()).await), 200);
}

#[tokio::test]
async fn both_sides_can_show_certificates() {
    let (authority, clients) = (authority(), authority());
    let receiver = receiver(&authority, params("127.0.0.1"), Some(&clients)).await;
    let shown_by = |issuer: &Authority| {
        let key = KeyPair::generate().expect("a key");
        let certificate = params("posthaste").signed_by(&key, issuer).expect("a certificate");
        TlsSettings {
            client_cert_pem: Some(certificate.pem()),
            client_key_pem: Some(Secret::new(key.serialize_pem())),
            ..trusting(&authority)
        }
    };
    assert_eq!(status(sending(&receiver, shown_by(&clients)).by(&client()).await), 200);
    for tls in [trusting(&authority), shown_by(&authority)] {
        let failure = sending(&receiver, tls).by(&client()).await.expect_err("refused");
        assert_eq!(failure.code, FailureCode::Tls, "{}", failure.detail);
        assert!(failure.detail.starts_with("the receiver refused the handshake"), "{}", failure.detail);
    }
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn settings_that_cannot_be_used_say_which() {
    let authority = authority();
    let receiver = receiver(&authority, params("127.0.0.1"), None).await;
    let key = KeyPair::generate().expect("a key");
    let certificate = params("posthaste").signed_by(&key, &authority).expect("a certificate").pem();
    let other_key = KeyPair::generate().expect("a key").serialize_pem();
    let settings = |ca: Option<&str>, certificate: Option<&str>, key: Option<&str>| TlsSettings {
        verify: true,
        ca_pem: ca.map(str::to_owned),
        client_cert_pem: certificate.map(str::to_owned),
        client_key_pem: key.map(|key| Secret::new(key.to_owned())),
    };
    for (tls, field) in [
        (settings(Some("nonsense"), None, None), "tls.ca_pem"),
        (settings(None, Some(&certificate), None), "set together"),
        (settings(None, Some("nonsense"), Some(&other_key)), "tls.client_cert_pem"),
        (settings(None, Some(&certificate), Some("nonsense")), "tls.client_key_pem"),
        (settings(None, Some(&certificate), Some(&other_key)), "cannot be used"),
    ] {
        let failure = sending(&receiver, tls).by(&client()).await.expect_err(field);
        assert_eq!(failure.code, FailureCode::Tls, "{field}");
        assert!(failure.detail.contains(field), "{field}: {}", failure.detail);
    }
}

#[tokio::test]
async fn a_receiver_without_tls_says_so() {
    let receiver = Receiver::scripted(|mut peer| async move {
        peer.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.request().await;
    })
    .await;
    let failure = sending(&receiver, TlsSettings::default()).by(&client()).await.expect_err("no TLS");
    assert_eq!(failure.code, FailureCode::Tls);
    assert_eq!(failure.detail, "the receiver does not speak TLS on this port");
    let closing = Receiver::scripted(|peer| async move { drop(peer) }).await;
    let failure = sending(&closing, TlsSettings::default()).by(&client()).await.expect_err("no TLS");
    assert_eq!(failure.code, FailureCode::Tls, "{}", failure.detail);
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_timeout() {
    let receiver = Receiver::scripted(|mut peer| async move { while peer.request().await.is_some() {} }).await;
    let mut sending = sending(&receiver, TlsSettings::default());
    sending.timeout = Duration::from_millis(100);
    assert_eq!(code(sending.by(&client()).await), FailureCode::Timeout);
}

#[test]
fn the_platform_without_authorities_is_a_warning_and_other_roots_are_checked() {
    assert!(Client::new(options(&[]), &Roots::Platform).is_ok());
    assert!(Client::new(options(&[]), &Roots::Pem("nonsense".to_owned())).is_err());
}

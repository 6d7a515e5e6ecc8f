//! TLS towards receivers: trusted authorities, one configuration for each way a
//! subscription asks for, and what went wrong in words. TLS 1.2 and 1.3.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::cache::Cache;
use super::certificates::Certificates;
use super::{Failure, Roots};
use crate::limits::TLS_CONFIGS_MAX;
use crate::model::{FailureCode, TlsSettings};
use crate::secret::Secret;

/// Tells settings apart without keeping their secrets: SHA-256 of all of them.
pub(super) type Fingerprint = [u8; 32];

/// Why there is no TLS at all.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The given authorities are not PEM certificates.
    #[error("the trusted authorities are not certificates in PEM")]
    Roots,
    /// The cryptography and the TLS versions do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// Why a subscription's TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error("tls.ca_pem is not a certificate in PEM")]
    Authority,
    #[error("tls.client_cert_pem is not a certificate in PEM")]
    ClientCertificate,
    #[error("tls.client_key_pem is not a private key in PEM")]
    ClientKey,
    #[error("tls.client_cert_pem and tls.client_key_pem must be set together")]
    ClientHalf,
    #[error("tls.client_cert_pem and tls.client_key_pem cannot be used: {0}")]
    ClientPair(rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Provider(rustls::Error),
}

/// What every connection has in common.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    configs: Mutex<Cache<Fingerprint, Arc<ClientConfig>>>,
    /// Until when the certificates are valid that were shown.
    pub(super) certificates: Certificates,
}

impl Tls {
    /// Loads the authorities; beside them, what there is to warn of. A platform
    /// without any is no error: hosts at the edge may only use `ca_pem`.
    pub(super) fn new(from: &Roots) -> Result<(Tls, Vec<String>), TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?;
        let mut roots = RootCertStore::empty();
        let mut warnings = Vec::new();
        match from {
            Roots::Pem(pem) => add_authorities(&mut roots, pem).map_err(|_| TlsError::Roots)?,
            Roots::Platform => {
                let found = rustls_native_certs::load_native_certs();
                warnings.extend(found.errors.iter().map(|error| format!("certificate authorities: {error}")));
                if roots.add_parsable_certificates(found.certs).0 == 0 {
                    warnings.push(
                        "the platform has no certificate authorities: \
                         https works only with tls.ca_pem or without tls.verify"
                            .to_owned(),
                    );
                }
            }
        }
        let configs = Mutex::new(Cache::new(TLS_CONFIGS_MAX));
        Ok((Tls { provider, roots, configs, certificates: Certificates::new() }, warnings))
    }

    /// Speaks TLS on `stream` with the receiver that is called `host` and has that port.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        host: Host<&str>,
        port: u16,
        settings: &TlsSettings,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let failure = |detail: String| Failure::new(FailureCode::Tls, detail);
        let config = self.config(settings).map_err(|error| failure(error.to_string()))?;
        let name = match &host {
            Host::Domain(name) => ServerName::try_from((*name).to_owned())
                .map_err(|_| failure("the host's name is none that a certificate can have".to_owned()))?,
            Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::V4((*ip).into())),
            Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::V6((*ip).into())),
        };
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let Some(error) = find(&error) else {
                return failure(format!("the connection broke during the handshake: {}", error.kind()));
            };
            self.certificates.refused(host.clone(), port, error);
            failure(explain(error))
        })?;
        let session = stream.get_ref().1;
        // A resumed one shows none: what is told of it was shown when the session began.
        if let (Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest), Some([shown, ..])) =
            (session.handshake_kind(), session.peer_certificates())
        {
            self.certificates.shown(host, port, shown);
        }
        Ok(stream)
    }

    /// The configuration for `settings`, made once.
    fn config(&self, settings: &TlsSettings) -> Result<Arc<ClientConfig>, SettingsError> {
        let configs = || self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = fingerprint(settings);
        if let Some(config) = configs().get(&fingerprint) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.build(settings)?);
        configs().insert(fingerprint, config.clone());
        Ok(config)
    }

    fn build(&self, settings: &TlsSettings) -> Result<ClientConfig, SettingsError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(SettingsError::Provider)?;
        let builder = if settings.verify {
            let mut roots = self.roots.clone();
            if let Some(pem) = &settings.ca_pem {
                add_authorities(&mut roots, pem)?;
            }
            builder.with_root_certificates(roots)
        } else {
            let algorithms = self.provider.signature_verification_algorithms;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        };
        let mut config = match (&settings.client_cert_pem, &settings.client_key_pem) {
            (None, None) => builder.with_no_client_auth(),
            (Some(chain), Some(key)) => {
                let chain = certificates(chain).ok_or(SettingsError::ClientCertificate)?;
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
                let key = key.map_err(|_| SettingsError::ClientKey)?;
                builder.with_client_auth_cert(chain, key).map_err(SettingsError::ClientPair)?
            }
            _ => return Err(SettingsError::ClientHalf),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What tells these settings from others.
pub(super) fn fingerprint(settings: &TlsSettings) -> Fingerprint {
    let TlsSettings { verify, ca_pem, client_cert_pem, client_key_pem } = settings;
    digest(&[
        Some(if *verify { "verify" } else { "any" }),
        ca_pem.as_deref(),
        client_cert_pem.as_deref(),
        client_key_pem.as_ref().map(Secret::expose),
    ])
}

/// SHA-256 over `parts`, each with its length, so that no two lists look the same.
pub(super) fn digest(parts: &[Option<&str>]) -> Fingerprint {
    let mut sha256 = Sha256::new();
    for part in parts {
        let length = part.map_or(u64::MAX, |text| text.len() as u64);
        sha256.update(length.to_be_bytes());
        sha256.update(part.unwrap_or_default());
    }
    sha256.finalize().into()
}

fn add_authorities(roots: &mut RootCertStore, pem: &str) -> Result<(), SettingsError> {
    for certificate in certificates(pem).ok_or(SettingsError::Authority)? {
        roots.add(certificate).map_err(|_| SettingsError::Authority)?;
    }
    Ok(())
}

/// The certificates of a PEM text; none where it has none, or a broken one.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

/// The TLS error that `error` was caused by.
pub(super) fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn std::error::Error + 'static));
        if let Some(found) = inner.unwrap_or(current).downcast_ref() {
            return Some(found);
        }
        error = inner.or(current.source());
    }
    None
}

/// What a TLS error means, for whoever owns the subscription.
pub(super) fn explain(error: &rustls::Error) -> String {
    use CertificateError as Certificate;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, NoCertificatesPresented, PeerIncompatible};
    let known = match error {
        InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the receiver's certificate has expired"
        }
        InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the receiver's certificate is not valid yet"
        }
        InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the receiver's certificate is for another name"
        }
        InvalidCertificate(Certificate::UnknownIssuer) => {
            "the receiver's certificate is from an authority that is not trusted"
        }
        InvalidCertificate(Certificate::BadSignature) => "the receiver's certificate is not signed by its issuer",
        InvalidCertificate(Certificate::Revoked) => "the receiver's certificate is revoked",
        InvalidCertificate(Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. }) => {
            "the receiver's certificate is not for servers"
        }
        NoCertificatesPresented => "the receiver has no certificate",
        InvalidMessage(_) => "the receiver does not speak TLS on this port",
        AlertReceived(alert) => return format!("the receiver refused the handshake: {alert:?}"),
        InvalidCertificate(_) => return format!("the receiver's certificate is not accepted: {error}"),
        PeerIncompatible(_) => return format!("the receiver's TLS is too old or too different: {error}"),
        _ => return format!("the handshake failed: {error}"),
    };
    known.to_owned()
}

/// Accepts any certificate, as `tls.verify = false` asks for: the receiver must
/// still prove that it has the certificate's key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

//! A self-made authority and a server certificate by it, for receivers that are
//! here for development and demonstration. Kept in memory only.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::Failure;

/// What a receiver shows, and what its callers are to trust.
pub(super) struct Certificates {
    /// The authority, in PEM.
    pub(super) ca_pem: String,
    /// Shows the server's certificate.
    pub(super) acceptor: TlsAcceptor,
}

/// Makes an authority and a certificate for `names`: host names or addresses.
pub(super) fn make(names: Vec<String>) -> Result<Certificates, Failure> {
    let failed = |error: rcgen::Error| Failure::failed(format!("no certificate can be made: {error}"));

    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Posthaste development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate().map_err(failed)?;
    let ca_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(names).map_err(failed)?;
    server.distinguished_name.push(DnType::CommonName, "Posthaste development receiver");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate().map_err(failed)?;
    let certificate = server.signed_by(&server_key, &issuer).map_err(failed)?;

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
        .map_err(|error| Failure::failed(format!("no TLS server can be made: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Certificates { ca_pem, acceptor: TlsAcceptor::from(Arc::new(config)) })
}

//! The certificate that our own listeners show.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Whether listeners can show this certificate, by the files of its chain and key.
///
/// # Errors
/// What is wrong, and with which file.
pub fn check_certificate(cert_file: &Path, key_file: &Path) -> Result<(), String> {
    acceptor(cert_file, key_file).map(|_| ())
}

/// The certificate in force, which can be renewed while listeners show it: open
/// connections keep theirs.
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<TlsAcceptor>>);

impl Certificate {
    /// Reads it.
    pub(super) fn read(cert_file: &Path, key_file: &Path) -> Result<Certificate, String> {
        acceptor(cert_file, key_file).map(|acceptor| Certificate(Arc::new(RwLock::new(acceptor))))
    }

    /// Reads it anew, perhaps from other files. What it answers puts it in force.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn renew(&self, cert_file: &Path, key_file: &Path) -> Result<impl FnOnce() + use<>, String> {
        let (renewed, in_force) = (acceptor(cert_file, key_file)?, self.0.clone());
        Ok(move || *in_force.write().unwrap_or_else(PoisonError::into_inner) = renewed)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a chain and its key from PEM files. The error says which file, and why.
fn acceptor(cert_file: &Path, key_file: &Path) -> Result<TlsAcceptor, String> {
    let of = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert_file)
        .and_then(|certificates| certificates.collect())
        .map_err(|error| of(cert_file, &error))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| of(key_file, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| of(cert_file, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

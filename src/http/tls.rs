//! The certificate that our own listeners show, and those that callers show them.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::ServerTls;

/// Whether listeners can show the certificate of these files.
///
/// # Errors
/// What is wrong, and with which file.
pub fn check_certificate(files: &ServerTls) -> Result<(), String> {
    acceptor(files).map(|_| ())
}

/// The certificate in force, which can be renewed while listeners show it: open
/// connections keep theirs.
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<TlsAcceptor>>);

impl Certificate {
    /// Reads it.
    pub(super) fn read(files: &ServerTls) -> Result<Certificate, String> {
        acceptor(files).map(|acceptor| Certificate(Arc::new(RwLock::new(acceptor))))
    }

    /// Reads it anew, perhaps from other files. What it answers puts it in force.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn renew(&self, files: &ServerTls) -> Result<impl FnOnce() + use<>, String> {
        let (renewed, in_force) = (acceptor(files)?, self.0.clone());
        Ok(move || *in_force.write().unwrap_or_else(PoisonError::into_inner) = renewed)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a chain, its key and the authorities of callers from PEM files. The error says
/// which file, and why.
fn acceptor(files: &ServerTls) -> Result<TlsAcceptor, String> {
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| of(&files.key_file, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|error| of(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| of(path, &error))?)
        }
    };
    let mut config =
        builder.with_single_cert(certificates(&files.cert_file)?, key).map_err(|error| of(&files.cert_file, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    certificates.map_err(|error| of(path, &error))
}

fn of(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

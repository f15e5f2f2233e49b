//! The certificate that is made at start where none is configured. Nobody can verify it: gateways that take it (Istio,
//! Envoy Gateway for endpoint pickers) encrypt without knowing to whom, as with llm-d's picker.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;

use crate::tls::{Texts, TlsError, server_config};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be made.
    #[error("self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("self-signed certificate: {0}")]
    Use(#[from] TlsError),
}

/// A TLS server with a certificate of its own making.
///
/// # Errors
/// When the system has no randomness.
pub fn self_signed() -> Result<Arc<ServerConfig>, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["kvasir".to_owned(), "localhost".to_owned()])?;
    let (cert, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
    Ok(server_config(&Texts { cert, key, client_ca: None })?)
}

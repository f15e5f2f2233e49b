//! PEM texts → what a TLS server needs, pure. Keys and certificates come from files that are replaced while we run: a
//! pair that does not fit together (half of it replaced so far) is refused here and the one before stays in use.

pub mod serve;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The texts of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Our certificate and those between it and its root.
    pub cert: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Who signs clients' certificates; `None`: they need none.
    pub client_ca: Option<Vec<u8>>,
}

/// Why files are refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate is not PEM, or there is none.
    #[error("certificate: {0}")]
    Cert(pem::Error),
    /// The private key is not PEM, or there is none.
    #[error("private key: {0}")]
    Key(pem::Error),
    /// The clients' authority is not PEM, or there is none.
    #[error("client authority: {0}")]
    ClientCa(pem::Error),
    /// The clients' authority cannot be used.
    #[error("client authority: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// The certificate cannot be used, or is not the key's.
    #[error("certificate and key: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What a server of HTTP/2 needs.
///
/// # Errors
/// When a text is not what it should be, or key and certificate do not fit.
pub fn server_config(texts: &Texts) -> Result<Arc<ServerConfig>, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let certs = certificates(&texts.cert).map_err(TlsError::Cert)?;
    let key = PrivateKeyDer::from_pem_slice(&texts.key).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &texts.client_ca {
        None => builder.with_no_client_auth(),
        Some(text) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(text).map_err(TlsError::ClientCa)? {
                roots.add(authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// At least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Texts {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Texts {
            cert: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            client_ca: None,
        }
    }

    #[test]
    fn a_pair_that_fits_is_taken_with_and_without_client_authority() {
        let pair = pair();
        assert!(server_config(&pair).is_ok());
        assert!(server_config(&Texts { client_ca: Some(pair.cert.clone()), ..pair }).is_ok());
    }

    #[test]
    fn what_does_not_fit_or_is_no_pem_is_refused_and_named() {
        let (one, other) = (pair(), pair());
        let told = |texts: Texts| server_config(&texts).unwrap_err().to_string();
        assert!(told(Texts { key: other.key, ..one.clone() }).starts_with("certificate and key: "));
        assert!(told(Texts { cert: b"nothing".to_vec(), ..one.clone() }).starts_with("certificate: "));
        assert!(told(Texts { key: Vec::new(), ..one.clone() }).starts_with("private key: "));
        assert!(told(Texts { client_ca: Some(one.key.clone()), ..one }).starts_with("client authority: "));
    }
}

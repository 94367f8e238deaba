//! TLS: certificate and key from files, which can be read anew while the service runs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring as ring_provider};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::TlsFiles;

/// Why certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate can't be read.
    #[error("TLS_CERT is {path:?}, allowed is a readable certificate chain in PEM: {source}")]
    Cert {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PemError,
    },
    /// The key can't be read.
    #[error("TLS_KEY is {path:?}, allowed is a readable private key in PEM: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PemError,
    },
    /// They are not usable, or not of one another.
    #[error("cannot use TLS_CERT with TLS_KEY: {0}")]
    Pair(#[from] rustls::Error),
}

/// What a server presents, now and after each [`reload`](Self::reload).
#[derive(Clone, Debug)]
pub struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring_provider::default_provider());
        let current = Arc::new(Current(RwLock::new(read(&files, &provider)?)));
        Ok(Self { files, provider, current })
    }

    /// Reads the files anew; connections made from now on see what is in them.
    ///
    /// # Errors
    /// [`TlsError`]; what was presented before is presented still.
    pub fn reload(&self) -> Result<(), TlsError> {
        let renewed = read(&self.files, &self.provider)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// # Errors
    /// [`TlsError`].
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        Ok(builder.with_cert_resolver(Arc::clone(&self.current) as _))
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Cert { path: files.cert.clone(), source })?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Key { path: files.key.clone(), source })?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

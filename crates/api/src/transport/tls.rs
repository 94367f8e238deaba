//! TLS: certificate and key from files, which can be reloaded while the service runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring as ring_provider};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::small_file;

/// The first byte of a certificate or key in DER: a sequence of ASN.1.
const DER_SEQUENCE: &[u8] = b"\x30";

/// In the first line of a private key that wants a password (RFC 7468, section 11).
const ENCRYPTED_KEY: &[u8] = b"ENCRYPTED PRIVATE KEY";

/// Files of certificate and key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Reason why certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not contain what it should. The text says which file, and what it contains.
    #[error("{0}")]
    File(String),
    /// The certificate and the key are not usable, or do not belong together.
    #[error("cannot use TLS_CERT {} with TLS_KEY {}: {source}", .files.cert.display(), .files.key.display())]
    Pair {
        /// The files.
        files: TlsFiles,
        /// Reason.
        source: rustls::Error,
    },
    /// The library can't be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Certificate that a server presents, now and after each [`reload`](Self::reload).
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

    /// Reloads the files. Connections made from now on get the new certificate.
    ///
    /// # Errors
    /// [`TlsError`]; the previous certificate is still presented.
    pub fn reload(&self) -> Result<(), TlsError> {
        let renewed = read(&self.files, &self.provider)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The file of the certificate that is presented, and the Unix time at which that ends.
    #[must_use]
    pub fn expiry(&self) -> Option<(&Path, i64)> {
        let current = self.current.0.read().unwrap_or_else(PoisonError::into_inner);
        let (_, certificate) = X509Certificate::from_der(current.cert.first()?).ok()?;
        Some((&self.files.cert, certificate.validity().not_after.timestamp()))
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
    let chain = in_pem("TLS_CERT", &files.cert, "certificate", "x509", |pem| {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() { Err(PemError::NoItemsFound) } else { Ok(chain) }
    })?;
    let key = in_pem("TLS_KEY", &files.key, "private key", "pkey", PrivateKeyDer::from_pem_slice)?;
    let pair = CertifiedKey::from_der(chain, key, provider);
    Ok(Arc::new(pair.map_err(|source| TlsError::Pair { files: files.clone(), source })?))
}

/// Parses a PEM file; the error says what is in it instead. `openssl` is the command that converts it.
fn in_pem<T>(
    variable: &str,
    path: &Path,
    what: &str,
    openssl: &str,
    parse: fn(&[u8]) -> Result<T, PemError>,
) -> Result<T, TlsError> {
    let named = |problem: String| TlsError::File(format!("{variable}: {problem}"));
    let bytes = small_file::read(path).map_err(named)?;
    let shown = path.display();
    parse(&bytes).map_err(|e| match e {
        PemError::NoItemsFound if bytes.starts_with(DER_SEQUENCE) => named(format!(
            "{shown} is in DER, not in PEM: `openssl {openssl} -inform der -in {shown}` converts it"
        )),
        PemError::NoItemsFound if contains(&bytes, ENCRYPTED_KEY) => named(format!(
            "{shown} contains an encrypted private key: `openssl pkey -in {shown}` decrypts it"
        )),
        PemError::NoItemsFound => named(format!("{shown} contains no PEM {what}")),
        e => named(format!("{shown} is damaged: {e}")),
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

//! TLS as dockerd has it: a certificate of the server, and with a CA only clients that show a
//! certificate of it. Files that change are read again at the next connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate and those of the authorities between, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority that signs clients' certificates, PEM; without it any client may connect.
    pub authority: Option<PathBuf>,
}

/// Why the files are no TLS.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// A file of certificates cannot be read.
    #[error("cannot read the TLS certificate {path}: {source}")]
    Certificate { path: PathBuf, source: pem::Error },
    /// A file of certificates has none.
    #[error("the file {path} holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    /// The file of the key cannot be read.
    #[error("cannot read the TLS key {path}: {source}")]
    Key { path: PathBuf, source: pem::Error },
    /// The cryptography at hand has no version of TLS.
    #[error("TLS: {0}")]
    Versions(#[source] rustls::Error),
    /// A certificate of the authority cannot sign others.
    #[error("cannot use the TLS authority {path}: {source}")]
    Authority { path: PathBuf, source: rustls::Error },
    /// Clients' certificates cannot be verified with the authority.
    #[error("cannot use the TLS authority {path}: {source}")]
    Verifier { path: PathBuf, source: VerifierBuilderError },
    /// The certificate and the key are not of a kind that fits, or not of each other.
    #[error("the TLS certificate {certificate} and key {key}: {source}")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

/// TLS for a listener.
#[derive(Clone)]
pub struct Tls {
    files: Files,
    current: Arc<Mutex<Current>>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamps: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn load(files: Files) -> Result<Self, Error> {
        let stamps = stamps(&files);
        let current = Current { acceptor: read(&files)?, stamps, looked: Instant::now() };
        Ok(Self { files, current: Arc::new(Mutex::new(current)) })
    }

    /// Whether only clients with a certificate of the authority may connect.
    pub fn verifies_clients(&self) -> bool {
        self.files.authority.is_some()
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            self.refresh(&mut current);
        }
        current.acceptor.clone()
    }

    fn refresh(&self, current: &mut Current) {
        let stamps = stamps(&self.files);
        if stamps == current.stamps {
            return;
        }
        // Files are replaced one after the other: what does not fit yet is tried again.
        match read(&self.files) {
            Ok(acceptor) => {
                tracing::info!("TLS certificates have changed and are read again");
                current.acceptor = acceptor;
                current.stamps = stamps;
            }
            Err(error) => tracing::warn!(%error, "changed TLS certificates are not used"),
        }
    }
}

fn stamps(files: &Files) -> Vec<Option<SystemTime>> {
    let paths = [Some(&files.certificate), Some(&files.key), files.authority.as_ref()];
    paths.into_iter().flatten().map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok()).collect()
}

fn read(files: &Files) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| Error::Key { path: files.key.clone(), source })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::Versions)?;
    let builder = match &files.authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| Error::Authority { path: path.clone(), source })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|source| Error::Verifier { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| Error::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |source| Error::Certificate { path: path.to_owned(), source };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let read = read.map_err(wrong)?;
    if read.is_empty() {
        return Err(Error::NoCertificate { path: path.to_owned() });
    }
    Ok(read)
}

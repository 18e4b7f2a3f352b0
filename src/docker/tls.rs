//! TLS as dockerd has it: a certificate of the server, and with a CA only clients that show a
//! certificate of it. Files that change are read again at the next connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
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
    pub fn load(files: Files) -> Result<Self, String> {
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

fn read(files: &Files) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| format!("cannot read the TLS key {}: {e}", files.key.display()))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?;
    let builder = match &files.authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong =
                |e: &dyn std::fmt::Display| format!("cannot use the TLS authority {}: {e}", path.display());
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| wrong(&e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| wrong(&e))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        format!("the TLS certificate {} and key {}: {e}", files.certificate.display(), files.key.display())
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |e| format!("cannot read the TLS certificate {}: {e}", path.display());
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let read = read.map_err(wrong)?;
    if read.is_empty() {
        return Err(format!("the file {} holds no certificate in PEM", path.display()));
    }
    Ok(read)
}

//! Who may use the API: an authority of the cluster's own, a certificate of the server, one of the
//! administrator, a token for clients without certificates, and the key that signs the tokens of ServiceAccounts. Made at the first
//! start, kept after.

use std::error::Error;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;

use super::tokens::{Key, KeyError};

/// Names under which Pods and people reach the API server.
const NAMES: &[&str] = &[
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];
/// Files that are made together.
const FILES: &[&str] = &["ca.crt", "server.crt", "server.key", "admin.crt", "admin.key", "token"];
/// The key of the authority; clusters of older versions have none.
const AUTHORITY_KEY: &str = "ca.key";
/// The key of the tokens of ServiceAccounts; folders of older versions have none.
const ACCOUNTS_KEY: &str = "sa.key";
/// The addresses and names that the server's certificate is for, one in a line.
const ADDRESSES: &str = "server.addresses";

/// Why the credentials in a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Their folder cannot be made, or one of their files cannot be read.
    #[error("the credentials in {0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// One is missing, and they cannot be made.
    #[error("cannot make the credentials in {0}: {1}")]
    Make(PathBuf, #[source] Box<dyn Error + Send + Sync>),
    /// A file holds no certificate or no key.
    #[error("the credentials in {0}: {1}")]
    Pem(PathBuf, #[source] pem::Error),
    /// The key of ServiceAccounts is none.
    #[error("{0}: {1}")]
    Key(PathBuf, #[source] KeyError),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The kubeconfig has no text.
    #[error(transparent)]
    Text(#[from] serde_yaml_ng::Error),
    /// TLS does not take a certificate or a key.
    #[error("the credentials in {0}: {1}")]
    Tls(PathBuf, #[source] rustls::Error),
    /// Certificates of clients cannot be checked by the authority.
    #[error("the credentials in {0}: {1}")]
    Verifier(PathBuf, #[source] VerifierBuilderError),
}

/// Certificates, keys and the token of one cluster.
pub struct Credentials {
    folder: PathBuf,
    /// The token of the administrator.
    pub token: String,
}

impl Credentials {
    /// Reads them, or makes them if one is missing; the key of ServiceAccounts may be missing alone. `names` are the server's addresses
    /// and DNS names. If they are others than before, the server gets a new certificate of the same authority, so that clients go on
    /// with what they have. A token that is given takes
    /// the place of the one that was made.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn open(folder: &Path, names: &[String], token: Option<&str>) -> Result<Self, CredentialsError> {
        let wrong = |error| CredentialsError::File(folder.to_owned(), error);
        if FILES.iter().any(|file| !folder.join(file).exists()) {
            std::fs::create_dir_all(folder).map_err(wrong)?;
            make(folder, names).map_err(|error| CredentialsError::Make(folder.to_owned(), error))?;
        } else if std::fs::read_to_string(folder.join(ADDRESSES)).ok() != Some(lines(names)) {
            renew(folder, names).map_err(|error| CredentialsError::Make(folder.to_owned(), error))?;
        }
        let key = folder.join(ACCOUNTS_KEY);
        // A crash may have left it empty.
        if !std::fs::metadata(&key).is_ok_and(|file| file.len() > 0) {
            make_key(&key).map_err(|error| CredentialsError::Make(folder.to_owned(), error))?;
        }
        let token = match token {
            Some(token) => token.to_owned(),
            None => std::fs::read_to_string(folder.join("token")).map_err(wrong)?,
        };
        Ok(Self { folder: folder.to_owned(), token: token.trim().to_owned() })
    }

    /// The key that signs the tokens of ServiceAccounts.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn accounts_key(&self) -> Result<Key, CredentialsError> {
        let path = self.folder.join(ACCOUNTS_KEY);
        let text = std::fs::read(&path).map_err(|error| CredentialsError::Read(path.clone(), error))?;
        Key::of_pem(&text).map_err(|error| CredentialsError::Key(path, error))
    }

    /// The certificate of the authority.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn authority(&self) -> Result<String, CredentialsError> {
        let path = self.folder.join("ca.crt");
        std::fs::read_to_string(&path).map_err(|error| CredentialsError::Read(path, error))
    }

    /// What the server shows, and asks of clients that show something.
    ///
    /// # Errors
    /// One line that names what cannot be used.
    pub fn server(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        let file = |error| CredentialsError::File(self.folder.clone(), error);
        let pem = |error| CredentialsError::Pem(self.folder.clone(), error);
        let tls = |error| CredentialsError::Tls(self.folder.clone(), error);
        let read = |name: &str| std::fs::read(self.folder.join(name)).map_err(file);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("server.crt")?).collect();
        let key = PrivateKeyDer::from_pem_slice(&read("server.key")?).map_err(pem)?;
        let authority = CertificateDer::from_pem_slice(&read("ca.crt")?).map_err(pem)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(tls)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| CredentialsError::Verifier(self.folder.clone(), error))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.map_err(pem)?, key)
            .map_err(tls)?;
        Ok(Arc::new(config))
    }

    /// A kubeconfig of the administrator; `name` is that of the cluster, the user and the context.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn kubeconfig(
        &self,
        name: &str,
        server: SocketAddr,
        namespace: &str,
    ) -> Result<String, CredentialsError> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            let bytes = std::fs::read(&path).map_err(|error| CredentialsError::Read(path, error))?;
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
            Ok::<_, CredentialsError>(text)
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name, "preferences": {},
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://{server}"), "certificate-authority-data": read("ca.crt")?,
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": read("admin.crt")?, "client-key-data": read("admin.key")?,
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        });
        Ok(serde_yaml_ng::to_string(&config)?)
    }
}

/// Writes a file that only its owner reads, even if there was one before that others could read.
///
/// # Errors
/// Those of the file system.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

type Made = Result<(), Box<dyn Error + Send + Sync>>;

fn make(folder: &Path, names: &[String]) -> Made {
    let (params, key) = (authority()?, KeyPair::generate()?);
    let certificate = params.self_signed(&key)?.pem();
    write_private(&folder.join("ca.crt"), &certificate)?;
    write_private(&folder.join(AUTHORITY_KEY), &key.serialize_pem())?;
    let issuer = Issuer::new(params, key);
    make_server(folder, names, &issuer)?;
    let mut admin = lasting(Vec::new())?;
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    admin.distinguished_name = name("kubernetes-admin", Some("system:masters"));
    sign(folder, "admin", admin, &issuer)?;
    let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    write_private(&folder.join("token"), &token)?;
    Ok(())
}

fn make_key(path: &Path) -> Made {
    write_private(path, &KeyPair::generate()?.serialize_pem())?;
    Ok(())
}

/// Gives the server a certificate for other names.
fn renew(folder: &Path, names: &[String]) -> Made {
    let key = match std::fs::read_to_string(folder.join(AUTHORITY_KEY)) {
        Ok(key) => KeyPair::from_pem(&key)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = folder.display();
            tracing::warn!(%folder, "the key of the authority is not here: the server keeps its certificate, whatever its address is now");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    make_server(folder, names, &Issuer::new(authority()?, key))
}

/// What all certificates have in common: they are good for longer than any device, and also on a board without a battery for its clock,
/// which begins at 1970.
fn lasting(names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.not_before = date_time_ymd(1970, 1, 1);
    Ok(params)
}

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = lasting(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = name("d2k", None);
    Ok(params)
}

/// Makes certificate and key of the server. What they are for is written last, so that a crash has them made again.
fn make_server(folder: &Path, names: &[String], issuer: &Issuer<'_, KeyPair>) -> Made {
    let known = folder.join(ADDRESSES);
    write_private(&known, "")?;
    let mut server = lasting(NAMES.iter().map(|name| (*name).to_owned()).chain(names.to_vec()).collect())?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.distinguished_name = name("kube-apiserver", None);
    sign(folder, "server", server, issuer)?;
    write_private(&known, &lines(names))?;
    Ok(())
}

/// The text of the file of addresses.
fn lines(names: &[String]) -> String {
    let all: std::collections::BTreeSet<&String> = names.iter().collect();
    all.into_iter().map(|name| format!("{name}\n")).collect()
}

fn name(common: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}

fn sign(folder: &Path, file: &str, params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Made {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write_private(&folder.join(format!("{file}.crt")), &certificate.pem())?;
    write_private(&folder.join(format!("{file}.key")), &key.serialize_pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;

    /// What a board without a battery for its clock believes when it starts, and the year 2100; in seconds.
    const AT_FIRST: u64 = 0;
    const LATE: u64 = 4_102_444_800;

    fn at(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(second))
    }

    #[test]
    fn a_server_with_another_address_has_a_new_certificate_of_the_same_authority() {
        let folder = std::env::temp_dir().join(format!("d2k-credentials-renewed-{}", std::process::id()));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let open = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Credentials::open(&folder, &names, None).unwrap()
        };
        open(&["192.0.2.1"]);
        let files = ["ca.crt", "admin.crt", "token", "server.crt"].map(read);
        open(&["192.0.2.1"]);
        assert_eq!(["ca.crt", "admin.crt", "token", "server.crt"].map(read), files);
        let credentials = open(&["192.0.2.2", "edge.example.com"]);
        assert_eq!(["ca.crt", "admin.crt", "token"].map(read), files[..3]);
        assert_ne!(read("server.crt"), files[3]);
        let authority = CertificateDer::from_pem_slice(files[0].as_bytes()).unwrap();
        let server = CertificateDer::from_pem_slice(read("server.crt").as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::ring::default_provider()),
        );
        let checks_at = |time, name: &str| {
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier.clone().build().unwrap(),
                &server,
                &[],
                &rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap(),
                &[],
                time,
            )
            .is_ok()
        };
        let checks = |name: &str| checks_at(UnixTime::now(), name);
        assert!(checks("192.0.2.2") && checks("edge.example.com") && checks("localhost"));
        assert!(!checks("192.0.2.1") && !checks("other.example.com"));
        assert!([AT_FIRST, LATE].into_iter().all(|time| checks_at(at(time), "192.0.2.2")));
        credentials.server().unwrap();
        // A folder of an older version has no key of the authority.
        std::fs::remove_file(folder.join(AUTHORITY_KEY)).unwrap();
        open(&["192.0.2.3"]).server().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_client_gets_in_whatever_the_clock_says() {
        let folder = std::env::temp_dir().join(format!("d2k-credentials-clock-{}", std::process::id()));
        Credentials::open(&folder, &[], None).unwrap();
        let read =
            |name: &str| CertificateDer::from_pem_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read("ca.crt")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let admin = read("admin.crt");
        for time in [AT_FIRST, LATE] {
            verifier.verify_client_cert(&admin, &[], at(time)).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_key_of_accounts_is_kept_and_made_where_an_older_version_has_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("d2k-credentials-key-{}", std::process::id()));
        let key = folder.join(ACCOUNTS_KEY);
        let open = || {
            Credentials::open(&folder, &[], None).unwrap().accounts_key().unwrap();
            std::fs::read_to_string(&key).unwrap()
        };
        let others = || ["ca.crt", "token"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
        let first = open();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(open(), first);
        let kept = others();
        std::fs::remove_file(&key).unwrap();
        let second = open();
        assert_ne!(second, first);
        std::fs::write(&key, "").unwrap();
        assert_ne!(open(), second);
        assert_eq!(others(), kept);
        std::fs::write(&key, "none").unwrap();
        let error = Credentials::open(&folder, &[], None).unwrap().accounts_key().err().unwrap();
        assert_eq!(error.to_string(), format!("{}: no items found", key.display()));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn words_name_the_folder_and_say_what_is_wrong() {
        let folder = std::env::temp_dir().join(format!("d2k-credentials-{}", std::process::id()));
        let place = folder.display().to_string();
        let credentials = Credentials::open(&folder, &[], None).unwrap();
        credentials.server().unwrap();
        std::fs::write(folder.join("server.key"), "none").unwrap();
        let error = credentials.server().unwrap_err();
        assert_eq!(error.to_string(), format!("the credentials in {place}: no items found"));
        std::fs::write(folder.join("token"), [0xff]).unwrap();
        let error = Credentials::open(&folder, &[], None).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("the credentials in {place}: stream did not contain valid UTF-8")
        );
        let below = folder.join("token/pki");
        let error = Credentials::open(&below, &[], None).err().unwrap();
        let words = "Not a directory (os error 20)";
        assert_eq!(error.to_string(), format!("the credentials in {}: {words}", below.display()));
        std::fs::remove_file(folder.join("ca.crt")).unwrap();
        std::fs::create_dir(folder.join("ca.crt")).unwrap();
        std::fs::remove_file(folder.join("token")).unwrap();
        let error = Credentials::open(&folder, &[], None).err().unwrap();
        let words = "Is a directory (os error 21)";
        assert_eq!(error.to_string(), format!("cannot make the credentials in {place}: {words}"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! Who may use the API: an authority of the cluster's own, a certificate of the server, one of the
//! only user, and a token for clients without certificates. Made at the first start, kept after.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;

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

/// Certificates, keys and the token of one cluster.
pub struct Credentials {
    folder: PathBuf,
    /// The token of the only user.
    pub token: String,
}

impl Credentials {
    /// Reads them, or makes them if one is missing; `addresses` are those of the server. A token that is given takes the
    /// place of the one that was made.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn open(folder: &Path, addresses: &[IpAddr], token: Option<&str>) -> Result<Self, String> {
        let wrong = |e: std::io::Error| format!("the credentials in {}: {e}", folder.display());
        if FILES.iter().any(|file| !folder.join(file).exists()) {
            std::fs::create_dir_all(folder).map_err(wrong)?;
            make(folder, addresses)
                .map_err(|e| format!("cannot make the credentials in {}: {e}", folder.display()))?;
        }
        let token = match token {
            Some(token) => token.to_owned(),
            None => std::fs::read_to_string(folder.join("token")).map_err(wrong)?,
        };
        Ok(Self { folder: folder.to_owned(), token: token.trim().to_owned() })
    }

    /// The certificate of the authority.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn authority(&self) -> Result<String, String> {
        let path = self.folder.join("ca.crt");
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// What the server shows, and asks of clients that show something.
    ///
    /// # Errors
    /// One line that names what cannot be used.
    pub fn server(&self) -> Result<Arc<ServerConfig>, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("the credentials in {}: {e}", self.folder.display());
        let read = |name: &str| std::fs::read(self.folder.join(name)).map_err(|e| wrong(&e));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("server.crt")?).collect();
        let key = PrivateKeyDer::from_pem_slice(&read("server.key")?).map_err(|e| wrong(&e))?;
        let authority = CertificateDer::from_pem_slice(&read("ca.crt")?).map_err(|e| wrong(&e))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(|e| wrong(&e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| wrong(&e))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.map_err(|e| wrong(&e))?, key)
            .map_err(|e| wrong(&e))?;
        Ok(Arc::new(config))
    }

    /// A kubeconfig of the only user; `name` is that of the cluster, the user and the context.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn kubeconfig(&self, name: &str, server: SocketAddr, namespace: &str) -> Result<String, String> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes))
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
        serde_yaml_ng::to_string(&config).map_err(|e| e.to_string())
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

fn make(folder: &Path, addresses: &[IpAddr]) -> Result<(), Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = name("d2k", None);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    write_private(&folder.join("ca.crt"), &authority)?;
    let mut server = CertificateParams::new(NAMES.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
    server.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.distinguished_name = name("kube-apiserver", None);
    sign(folder, "server", server, &issuer)?;
    let mut admin = CertificateParams::new(Vec::new())?;
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    admin.distinguished_name = name("kubernetes-admin", Some("system:masters"));
    sign(folder, "admin", admin, &issuer)?;
    let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    write_private(&folder.join("token"), &token)?;
    Ok(())
}

fn name(common: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}

fn sign(
    folder: &Path,
    file: &str,
    params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write_private(&folder.join(format!("{file}.crt")), &certificate.pem())?;
    write_private(&folder.join(format!("{file}.key")), &key.serialize_pem())?;
    Ok(())
}

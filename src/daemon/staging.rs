//! Files copied into a container that does not run. They lie in a Secret of the container and are
//! mounted one by one, so that they are there before its first instruction.

use std::collections::BTreeMap;
use std::io::Read;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::Container;
use d2k_translate::helper::{self, protocol};
use d2k_translate::keys::{self, role};
use d2k_translate::path::clean;
use d2k_translate::pod::context::StagedFile;
use d2k_translate::record::Record;

/// What a Secret holds, with room for the index (Kubernetes, Secret: 1 MiB).
const LIMIT: usize = 1000 * 1024;
/// The key of the index in the Secret.
const INDEX: &str = "index";

/// A file or directory that was copied before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Absolute path in the container.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// A directory, which holds no bytes of its own.
    pub directory: bool,
    /// Key of its bytes in the Secret; empty for a directory.
    pub key: String,
    /// A symbolic link, whose bytes are what it points to.
    #[serde(default)]
    pub link: bool,
    /// Owner.
    #[serde(default)]
    pub uid: u64,
    /// Group.
    #[serde(default)]
    pub gid: u64,
}

/// The Secret with a container's staged files.
pub(crate) fn secret_name(record: &Record) -> String {
    format!("d2k-files-{}", record.short())
}

/// Staged files with their bytes, by path.
pub(crate) type Files = BTreeMap<String, (Staged, Vec<u8>)>;

impl Daemon {
    /// Whether files were copied into the container before its start.
    pub(crate) fn has_staged_files(&self, record: &Record) -> bool {
        record.staged
    }

    /// The files that are mounted into the container's Pod.
    pub(crate) async fn staged_files(&self, record: &Record) -> Result<Vec<StagedFile>> {
        if !record.staged || helper::unpacks(record) {
            return Ok(Vec::new());
        }
        let secret = secret_name(record);
        let files = self.read_staged(record).await?;
        Ok(files
            .into_values()
            .filter(|(file, _)| !file.directory)
            .map(|(file, _)| StagedFile {
                secret: secret.clone(),
                key: file.key,
                path: file.path,
                mode: i32::try_from(file.mode & 0o777).unwrap_or(0o644),
            })
            .collect())
    }

    pub(crate) async fn read_staged(&self, record: &Record) -> Result<Files> {
        if !record.staged {
            return Ok(Files::new());
        }
        let secret = self.cluster.read::<Secret>(&secret_name(record)).await?;
        let mut data = secret.and_then(|s| s.data).unwrap_or_default();
        let index = data.remove(INDEX).map(|b| b.0).unwrap_or_default();
        let index: Vec<Staged> = serde_json::from_slice(&index).unwrap_or_default();
        Ok(index
            .into_iter()
            .map(|file| {
                let bytes = data.remove(&file.key).map(|b| b.0).unwrap_or_default();
                (file.path.clone(), (file, bytes))
            })
            .collect())
    }

    /// Adds the entries of an archive to the files of a container that does not run.
    ///
    /// # Errors
    /// 400 if it is no archive, holds more than a Secret can, or entries other than files and directories.
    pub(crate) async fn stage(&self, container: &Container, directory: &str, archive: &[u8]) -> Result<()> {
        let record = &container.record;
        let mut files = self.read_staged(record).await?;
        add(&mut files, directory, archive, helper::unpacks(record))?;
        let total: usize = files.values().map(|(_, bytes)| bytes.len()).sum();
        if total > LIMIT {
            return Err(Fault::invalid(format!(
                "the files copied into container {} before its start are {total} bytes; Kubernetes can hold \
                 {LIMIT} bytes until then: start the container first, or copy them into a volume",
                record.name
            )));
        }
        self.write_staged(record, files).await?;
        self.annotate(container, &json!({keys::FILES: "true"})).await?;
        self.renew_created_job(&record.id).await
    }

    async fn write_staged(&self, record: &Record, files: Files) -> Result<()> {
        let mut data = BTreeMap::new();
        let mut index = Vec::new();
        for (at, (mut file, bytes)) in files.into_values().enumerate() {
            file.key = if file.directory { String::new() } else { format!("f{at}") };
            if !file.directory {
                data.insert(file.key.clone(), ByteString(bytes));
            }
            index.push(file);
        }
        data.insert(protocol::LIST.to_owned(), ByteString(list(&index)));
        let index = serde_json::to_vec(&index).map_err(|e| Fault::internal(format!("staged files: {e}")))?;
        data.insert(INDEX.to_owned(), ByteString(index));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(record)),
                labels: Some(record.labels(role::FILES)),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        self.cluster.apply(&secret).await.map(|_| ())
    }
}

/// The list that the helper reads.
fn list(index: &[Staged]) -> Vec<u8> {
    let mut list = Vec::new();
    for file in index {
        let kind = match (file.directory, file.link) {
            (true, _) => protocol::DIRECTORY,
            (_, true) => protocol::LINK,
            _ => protocol::FILE,
        };
        let (mode, mtime) = (format!("{:o}", file.mode & 0o7777), file.mtime.to_string());
        let (uid, gid) = (file.uid.to_string(), file.gid.to_string());
        for field in [kind, &mode, &mtime, &uid, &gid, &file.key, &file.path] {
            list.extend_from_slice(field.as_bytes());
            list.push(0);
        }
    }
    list
}

fn add(files: &mut Files, directory: &str, archive: &[u8], links: bool) -> Result<()> {
    let wrong = |e: std::io::Error| Fault::invalid(format!("the archive cannot be read: {e}"));
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let name = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
        // Cleaned as an absolute path, so that no entry leaves the directory by `..`.
        let path = clean(&format!("{directory}/{}", clean(&format!("/{name}")).trim_start_matches('/')));
        let header = entry.header();
        let kind = header.entry_type();
        let (mode, mtime) = (header.mode().unwrap_or(0o644), header.mtime().unwrap_or(0));
        let (uid, gid) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        let directory = kind.is_dir();
        let link = kind.is_symlink() && links;
        if !directory && !kind.is_file() && !link {
            return Err(Fault::invalid(format!(
                "{path} is neither a file nor a directory; before a container's start Kubernetes can hold those only"
            )));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(wrong)?;
        if link {
            bytes = entry.link_name_bytes().unwrap_or_default().into_owned();
        }
        let staged =
            Staged { path: path.clone(), mode, mtime, directory, key: String::new(), link, uid, gid };
        files.insert(path, (staged, bytes));
    }
    Ok(())
}

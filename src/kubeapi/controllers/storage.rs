//! Where the volumes of claims are: folders of this machine, or what an engine keeps.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::meta;

/// Makes and removes the volumes of claims.
pub trait Storage: Send + Sync + 'static {
    /// Who makes the volumes, as the storage class says.
    fn provisioner(&self) -> &'static str;
    /// Makes the volume of a claim; its source, as the `spec` of a PersistentVolume has it.
    ///
    /// # Errors
    /// Those of the file system.
    fn provision(&self, name: &str, claim: &Value) -> Result<Value>;
    /// Removes a PersistentVolume with all that is in it. One that is not there is no error.
    fn remove(&self, volume: &Value) -> BoxFuture<'static, Result<()>>;
}

/// Folders below this one.
pub struct Folders(pub PathBuf);

impl Storage for Folders {
    fn provisioner(&self) -> &'static str {
        "d2k.io/local"
    }

    fn provision(&self, name: &str, _claim: &Value) -> Result<Value> {
        let folder = self.0.join(name);
        make_folder(&folder)
            .map_err(|error| Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
        Ok(json!({"hostPath": {"path": folder, "type": "Directory"}}))
    }

    fn remove(&self, volume: &Value) -> BoxFuture<'static, Result<()>> {
        let folder = self.0.join(meta::name(volume));
        let remove = move || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::new(error.kind(), format!("{}: {error}", folder.display())))
            }
            _ => Ok(()),
        };
        Box::pin(async { tokio::task::spawn_blocking(remove).await? })
    }
}

/// Anybody may write into a new volume, as into a folder of the usual local provisioners.
fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))
}

//! Volumes of Pods: folders of this machine with what ConfigMaps, Secrets, the Pod itself or a claim
//! hold, and memory. Files that come from objects follow them.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::host_path::HostPathError;
use super::renewal::Renewal;
use super::running::{Running, Volume, Volumes};
use super::{Kubelet, environment, files, places};
use crate::kinds::{self, Kind};
use crate::meta::{self, at, items, number, string};
use crate::status::Status;
use d2k_engine::{Below, Engine, Memory, Mount, Source, Trouble};

/// Objects that files come from: field, kind, where a volume names it.
static SOURCES: &[(&str, &Kind, &str)] =
    &[("configMap", &kinds::CONFIG_MAP, "name"), ("secret", &kinds::SECRET, "secretName")];

/// A volume of a Pod was not made, in the words of the kubelet's event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {name:?} : {reason}")]
pub struct MountError {
    /// The volume.
    name: String,
    /// Why.
    #[source]
    reason: VolumeError,
}

impl MountError {
    /// Of a volume.
    pub fn new(name: &str, reason: VolumeError) -> Self {
        Self { name: name.to_owned(), reason }
    }

    /// Whether another object would help, or a change of one.
    pub fn lacks_object(&self) -> bool {
        use VolumeError::{NoClaim, NoKey, NoObject, Unbound};
        matches!(self.reason, NoClaim(_) | Unbound(_) | NoObject { .. } | NoKey { .. })
    }
}

/// Why a volume was not made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A path of this machine is not as the volume says.
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    /// The same, as an engine elsewhere says it.
    #[error("{}", .0.message)]
    Engine(#[from] Trouble),
    /// Its folder or its files cannot be written.
    #[error(transparent)]
    Files(#[from] std::io::Error),
    /// No such kind of volume is made here.
    #[error("this kind of volume is not supported by this cluster")]
    Kind,
    /// There is no such claim, or its volume is gone; in the words of the API.
    #[error("{0}")]
    NoClaim(String),
    /// The claim has no volume yet, or has lost it.
    #[error("the claim {0} is not bound")]
    Unbound(String),
    /// The claim's folder cannot be given to the Pod's group.
    #[error("{0}: {1}")]
    Group(PathBuf, #[source] std::io::Error),
    /// There is no such ConfigMap or Secret.
    #[error("{kind} {name:?} not found")]
    NoObject { kind: &'static str, name: String },
    /// There is no token for the Pod; in the words of the API.
    #[error("failed to fetch token: {0}")]
    Token(String),
    /// The ConfigMap or Secret has no such key.
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
}

/// What of a Pod's volumes is memory.
pub fn memory(pod: &Value) -> Vec<Memory> {
    let group = number(pod, &["spec", "securityContext", "fsGroup"]).and_then(|g| u32::try_from(g).ok());
    let all = items(pod, &["spec", "volumes"]).iter();
    let of = |volume: &Value| {
        let empty = volume.get("emptyDir").filter(|empty| string(empty, &["medium"]) == "Memory")?;
        let limit = d2k_quantity::units(string(empty, &["sizeLimit"])).and_then(|l| u64::try_from(l).ok());
        Some(Memory { name: string(volume, &["name"]).to_owned(), limit, group })
    };
    all.filter_map(of).collect()
}

impl<E: Engine> Kubelet<E> {
    /// Makes all volumes of a Pod.
    pub(super) async fn volumes(&self, running: &Running, pod: &Value) -> Result<Volumes, MountError> {
        let mut all = Volumes::new();
        let renewal = Renewal::of(pod, Timestamp::now().as_second());
        for volume in items(pod, &["spec", "volumes"]) {
            let name = string(volume, &["name"]);
            let made = match volume.get("hostPath") {
                Some(source) => self.host_path(source).await,
                None => self.volume(pod, volume, name),
            };
            let made = made.map_err(|reason| MountError::new(name, reason))?;
            all.insert(name.to_owned(), made);
        }
        running.renewal.send_replace(renewal);
        Ok(all)
    }

    async fn host_path(&self, source: &Value) -> Result<Volume, VolumeError> {
        let path = PathBuf::from(string(source, &["path"]));
        let kind = string(source, &["type"]);
        match self.engine.check_host_path(&path, kind) {
            Some(checked) => checked.await?,
            None => self.paths.check(&path, kind).await?,
        }
        Ok(match kind {
            "CharDevice" | "BlockDevice" => Volume::Device(path),
            _ => Volume::Host(path),
        })
    }

    /// Makes one volume that is no path of the machine.
    pub(super) fn volume(&self, pod: &Value, volume: &Value, name: &str) -> Result<Volume, VolumeError> {
        let folder = self.options.folder.join(meta::uid(pod)).join("volumes").join(name);
        let group = number(pod, &["spec", "securityContext", "fsGroup"]).and_then(|g| u32::try_from(g).ok());
        if let Some(empty) = volume.get("emptyDir") {
            if string(empty, &["medium"]) == "Memory" {
                return Ok(Volume::Memory(name.to_owned()));
            }
            std::fs::create_dir_all(&folder)?;
            own(&folder, 0o777, group)?;
            return Ok(Volume::Path(folder));
        }
        if let Some(claim) = volume.get("persistentVolumeClaim") {
            return self.claim(pod, string(claim, &["claimName"]), group);
        }
        let mut entries = Vec::new();
        let default =
            [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", ""), ("projected", "")];
        let Some((field, _)) = default.iter().find(|(field, _)| volume.get(*field).is_some()) else {
            return Err(VolumeError::Kind);
        };
        let source = at(volume, &[field]);
        let mode = number(source, &["defaultMode"]).unwrap_or(0o644);
        if *field == "projected" {
            for part in items(source, &["sources"]) {
                self.entries(pod, part, mode, &mut entries)?;
            }
        } else {
            self.entries(pod, volume, mode, &mut entries)?;
        }
        project(&folder, &entries, group)?;
        Ok(Volume::Files(folder))
    }

    fn claim(&self, pod: &Value, name: &str, group: Option<u32>) -> Result<Volume, VolumeError> {
        let wrong = |status: Status| VolumeError::NoClaim(status.message);
        let claim = self.api.get(&kinds::PERSISTENT_VOLUME_CLAIM, meta::namespace(pod), name);
        let claim = claim.map_err(wrong)?;
        let volume = string(&claim, &["spec", "volumeName"]);
        if string(&claim, &["status", "phase"]) != "Bound" {
            return Err(VolumeError::Unbound(name.to_owned()));
        }
        let volume = self.api.get(&kinds::PERSISTENT_VOLUME, "", volume).map_err(wrong)?;
        let kept = string(&volume, &["spec", "csi", "volumeHandle"]);
        if !kept.is_empty() {
            return Ok(Volume::Kept(kept.to_owned()));
        }
        let path = PathBuf::from(string(&volume, &["spec", "hostPath", "path"]));
        if let Some(group) = group {
            own(&path, 0o777, Some(group)).map_err(|error| VolumeError::Group(path.clone(), error))?;
        }
        Ok(Volume::Path(path))
    }

    fn entries(&self, pod: &Value, part: &Value, mode: i64, all: &mut Vec<Entry>) -> Result<(), VolumeError> {
        for (field, of, named) in SOURCES {
            let Some(source) = part.get(*field) else { continue };
            let name = match string(source, &[named]) {
                "" => string(source, &["name"]),
                name => name,
            };
            let optional = at(source, &["optional"]).as_bool() == Some(true);
            let Some(data) = self.data(pod, of, name) else {
                if optional {
                    continue;
                }
                return Err(VolumeError::NoObject { kind: of.singular, name: name.to_owned() });
            };
            select(of, source, data, mode, optional, all)?;
        }
        if let Some(source) = part.get("serviceAccountToken") {
            let bytes = self.token(pod, source)?.into_bytes();
            all.push(Entry { path: string(source, &["path"]).to_owned(), bytes, mode });
        }
        if let Some(source) = part.get("downwardAPI") {
            let running = Running::new(&Arc::new(pod.clone()), |_| None);
            for item in items(source, &["items"]) {
                let text = match item.get("fieldRef") {
                    Some(field) => self.field(&running, pod, string(field, &["fieldPath"])),
                    None => environment::resource(
                        pod,
                        &Value::Null,
                        at(item, &["resourceFieldRef"]),
                        &self.engine.node(),
                    ),
                };
                let mode = number(item, &["mode"]).unwrap_or(mode);
                all.push(Entry { path: string(item, &["path"]).to_owned(), bytes: text.into_bytes(), mode });
            }
        }
        Ok(())
    }

    /// Versions of all that the files of a Pod's volumes come from; empty if none come from objects.
    pub(super) fn sources(&self, pod: &Value) -> Vec<String> {
        let mut all = Vec::new();
        for volume in items(pod, &["spec", "volumes"]) {
            let parts = items(volume, &["projected", "sources"]);
            for part in std::iter::once(volume).chain(parts) {
                for (field, of, named) in SOURCES {
                    let Some(source) = part.get(*field) else { continue };
                    let name = match string(source, &[named]) {
                        "" => string(source, &["name"]),
                        name => name,
                    };
                    let object = self.api.get(of, meta::namespace(pod), name);
                    all.push(
                        object
                            .map_or_else(|_| "none".into(), |o| meta::text(&o, "resourceVersion").to_owned()),
                    );
                }
                if part.get("downwardAPI").is_some() {
                    let metadata = ["labels", "annotations"].map(|field| at(pod, &["metadata", field]));
                    all.push(metadata.map(Value::to_string).concat());
                }
            }
        }
        all
    }

    /// The mounts of a container: those of the Pod's volumes, and the files of the cluster.
    pub(super) async fn mounts(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        volumes: &Volumes,
        message: &Path,
        env: &environment::Variables,
    ) -> Result<Vec<Mount>, Trouble> {
        let wrong = |e: std::io::Error| {
            Trouble::new("CreateContainerConfigError", format!("{}: {e}", message.display()))
        };
        let mut all = Vec::new();
        let shared = self.options.folder.join(meta::uid(pod));
        let (hosts, resolv) = (shared.join("etc-hosts"), shared.join("resolv.conf"));
        files::write(&hosts, files::hosts(pod, &running.ip(), &self.options.domain)).map_err(wrong)?;
        files::write(&resolv, files::resolv_conf(pod, self.options.dns, &self.options.domain))
            .map_err(wrong)?;
        let hostname = shared.join("hostname");
        files::write(&hostname, files::hostname(pod)).map_err(wrong)?;
        files::write(message, "").map_err(wrong)?;
        std::fs::set_permissions(message, std::fs::Permissions::from_mode(0o666)).map_err(wrong)?;
        let mut bind = |target: &str, path: PathBuf| all.push(Mount::new(target, Source::Managed(path)));
        bind("/etc/hosts", hosts);
        bind("/etc/hostname", hostname);
        bind("/etc/resolv.conf", resolv);
        bind(string(container, &["terminationMessagePath"]), message.to_owned());
        for asked in items(container, &["volumeMounts"]) {
            let Some(volume) = volumes.get(string(asked, &["name"])) else { continue };
            let mount = mount(asked, volume, env)?;
            if !places::is_made(&mount)? {
                continue;
            }
            all.retain(|other: &Mount| other.target != mount.target);
            all.push(mount);
        }
        // What is mounted into another mount comes after it.
        all.sort_by_key(|mount| mount.target.components().count());
        Ok(all)
    }

    /// Removes the folder of a Pod.
    pub(super) async fn remove_volumes(&self, uid: &str) {
        let folder = self.options.folder.join(uid);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&folder)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(uid, %error, "the folder of a Pod was not removed");
        }
    }
}

/// A mount of a volume, as a container asks for it.
fn mount(asked: &Value, volume: &Volume, env: &environment::Variables) -> Result<Mount, Trouble> {
    let sub = match string(asked, &["subPathExpr"]) {
        "" => string(asked, &["subPath"]).to_owned(),
        text => environment::expand(text, env),
    };
    let follows = match string(asked, &["mountPropagation"]) {
        "HostToContainer" => true,
        "Bidirectional" => {
            let words = format!(
                "volume mount {:?}: mountPropagation Bidirectional is not supported by this cluster, as what a \
                 container mounts stays in the container; use HostToContainer or None",
                string(asked, &["mountPath"])
            );
            return Err(Trouble::new("CreateContainerConfigError", words));
        }
        _ => false,
    };
    let source = match volume {
        Volume::Memory(name) => Source::Memory(name.clone()),
        Volume::Kept(name) => Source::Volume(name.clone()),
        Volume::Path(path) | Volume::Files(path) => Source::Managed(path.clone()),
        Volume::Host(path) | Volume::Device(path) => Source::Host(path.clone()),
    };
    let read_only = matches!(volume, Volume::Files(_)) || at(asked, &["readOnly"]).as_bool() == Some(true);
    let below = match string(asked, &["recursiveReadOnly"]) {
        "IfPossible" => Below::ReadOnlyIfPossible,
        "Enabled" => Below::ReadOnly,
        // Kubernetes has no word for it, and Docker makes all of such a mount read-only.
        _ if follows && read_only && matches!(source, Source::Host(_)) => Below::ReadOnlyIfPossible,
        _ => Below::AsTheyAre,
    };
    let sub = if sub.is_empty() { sub.into() } else { inner(&sub)? };
    let device = matches!(volume, Volume::Device(_));
    Ok(Mount { target: string(asked, &["mountPath"]).into(), source, sub, read_only, below, follows, device })
}

/// A file of a volume.
struct Entry {
    path: String,
    bytes: Vec<u8>,
    mode: i64,
}

fn select(
    of: &Kind,
    source: &Value,
    data: Vec<(String, Vec<u8>)>,
    mode: i64,
    optional: bool,
    all: &mut Vec<Entry>,
) -> Result<(), VolumeError> {
    let wanted = items(source, &["items"]);
    if wanted.is_empty() {
        all.extend(data.into_iter().map(|(path, bytes)| Entry { path, bytes, mode }));
        return Ok(());
    }
    for item in wanted {
        let key = string(item, &["key"]);
        match data.iter().find(|(known, _)| known == key) {
            Some((_, bytes)) => all.push(Entry {
                path: string(item, &["path"]).to_owned(),
                bytes: bytes.clone(),
                mode: number(item, &["mode"]).unwrap_or(mode),
            }),
            None if optional => {}
            None => {
                let kind = if of.name == kinds::SECRET.name { "secret" } else { "config" };
                return Err(VolumeError::NoKey { kind, key: key.to_owned() });
            }
        }
    }
    Ok(())
}

/// Writes the files into a folder of their own and shows them by links, so that all of them change at
/// once, as the kubelet's atomic writer does.
fn project(folder: &Path, entries: &[Entry], group: Option<u32>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    open_to_all(folder)?;
    let stamp = format!("..{}", environment::stamp());
    for entry in entries {
        let path = clean(&entry.path).ok_or_else(|| {
            std::io::Error::other(format!("the path {:?} is not within the volume", entry.path))
        })?;
        let file = folder.join(&stamp).join(&path);
        files::write(&file, &entry.bytes)?;
        // Every user of a container may look for the file, whatever the umask of d2k is.
        for above in path.ancestors().skip(1) {
            open_to_all(&folder.join(&stamp).join(above))?;
        }
        own(&file, u32::try_from(entry.mode).unwrap_or(0o644), group)?;
        if let Some(first) = path.components().next() {
            let link = folder.join(first);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(first), link)?;
            }
        }
    }
    std::fs::create_dir_all(folder.join(&stamp))?;
    open_to_all(&folder.join(&stamp))?;
    let passing = folder.join("..data_tmp");
    let _ = std::fs::remove_file(&passing);
    symlink(&stamp, &passing)?;
    std::fs::rename(passing, folder.join("..data"))?;
    // What was there before, and links to what is there no more.
    for entry in std::fs::read_dir(folder)?.flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if name.starts_with("..") && name != "..data" && name != stamp {
            std::fs::remove_dir_all(path)?;
        } else if !name.starts_with("..") && !path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn open_to_all(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

/// A relative path that does not leave its folder.
fn clean(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (inside && !path.as_os_str().is_empty()).then(|| path.to_owned())
}

fn inner(sub: &str) -> Result<PathBuf, Trouble> {
    let words = || format!("subPath {sub:?} must not leave the volume");
    clean(sub.trim_matches('/')).ok_or_else(|| Trouble::new("CreateContainerConfigError", words()))
}

fn own(path: &Path, mode: u32, group: Option<u32>) -> std::io::Result<()> {
    let setgid = if group.is_some() && path.is_dir() { 0o2000 } else { 0 };
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    let mode = if group.is_some() && !path.is_dir() { mode | 0o040 } else { mode };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | setgid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_names_the_volume_and_says_what_it_lacks() {
        let mut all = Vec::new();
        let source = json!({"items": [{"key": "k", "path": "p"}]});
        let mut lacks = |of| {
            let reason = select(of, &source, Vec::new(), 0o644, false, &mut all).unwrap_err();
            MountError { name: "v".into(), reason }.to_string()
        };
        let words = "MountVolume.SetUp failed for volume \"v\" : references non-existent";
        assert_eq!(lacks(&kinds::CONFIG_MAP), format!("{words} config key: k"));
        assert_eq!(lacks(&kinds::SECRET), format!("{words} secret key: k"));
        let none = VolumeError::Token("serviceaccounts \"a\" not found".into());
        assert_eq!(none.to_string(), "failed to fetch token: serviceaccounts \"a\" not found");
        let none = VolumeError::NoObject { kind: kinds::CONFIG_MAP.singular, name: "c".into() };
        assert_eq!(none.to_string(), "configmap \"c\" not found");
        let group = VolumeError::Group("/data".into(), std::io::Error::other("refused"));
        assert_eq!(group.to_string(), "/data: refused");
    }
}

//! Pods on this machine: images of `images`, containers and sandboxes of `runtime`, and the network of
//! `network`, put together as one `Engine`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use d2k_engine::{
    Engine, Exec, Exit, Feature, Image, Limits, Login, NodeFacts, Pull, Result, Sandbox, Session, Source,
    Start, Stream, Trouble, Usage,
};
use d2k_registry::Registry;

use d2k_images::{How, Images};
use runtime::{Helper, Runtime};

pub mod outward;
pub mod runtime;

/// Below the data folder: what containers write.
const CONTAINERS: &str = "containers";
/// Below the data folder: what is being deleted.
const DISCARDED: &str = "discarded";

/// The features that it has on every machine; it has no others.
pub const FEATURES: &[Feature] = &[Feature::MemoryLimit, Feature::CpuLimit];

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The threads that talk with the helper.
    #[error("the engine's threads: {0}")]
    Threads(#[source] io::Error),
    /// Images and containers in the data folder.
    #[error("the engine's data in {0} cannot be opened: {1}")]
    Data(PathBuf, #[source] io::Error),
}

/// The engine of this machine. Cheap to clone.
#[derive(Clone)]
pub struct Local {
    runtime: Runtime,
    images: Images,
    data: PathBuf,
    /// Containers that were made and not started yet, by their IDs.
    made: Arc<Mutex<HashMap<String, Start>>>,
}

impl Local {
    /// Takes a helper over and opens the images below its data folder. In a runtime of tokio.
    ///
    /// # Errors
    /// The part that could not be opened.
    pub async fn open(helper: Helper, registry: Registry) -> Result<Self, OpenError> {
        let data = helper.data().to_owned();
        let runtime = Runtime::new(helper).map_err(OpenError::Threads)?;
        let (folder, overlay) = (data.clone(), runtime.facts().overlay);
        let opened = tokio::task::spawn_blocking(move || -> io::Result<Images> {
            // No container outlives its daemon.
            discard(&folder, Path::new(CONTAINERS))?;
            fs::create_dir_all(folder.join(CONTAINERS))?;
            let images = Images::open(folder.join("images"), registry)?;
            Ok(match overlay {
                true => images,
                false => images.without_overlays("the data folder cannot hold what an overlay writes"),
            })
        });
        let opened = opened.await.map_err(io::Error::other).and_then(|opened| opened);
        let images = opened.map_err(|error| OpenError::Data(data.clone(), error))?;
        if let How::Copy(why) = images.how() {
            tracing::warn!(why, "overlayfs cannot be used: every container gets a copy of its image's files");
        }
        let this = Self { runtime, images, data, made: Arc::default() };
        for warning in this.warnings() {
            tracing::warn!("{warning}");
        }
        this.delete_discarded();
        Ok(this)
    }

    /// The features that this machine lacks for containers, or cannot keep from them, in whole sentences.
    pub fn warnings(&self) -> Vec<String> {
        let device_rules = self.runtime.facts().no_device_rules.as_ref().map(|why| {
            format!(
                "device rules cannot be set on this machine ({why}): containers that are not privileged have no \
                 CAP_MKNOD, not even with --cap-add"
            )
        });
        device_rules.into_iter().collect()
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The runtime, which also makes the sockets of the network.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends every container and removes all that this machine has of them.
    pub async fn shutdown(&self) {
        self.runtime.shutdown().await;
        let data = self.data.clone();
        let gone = tokio::task::spawn_blocking(move || {
            let _ = discard(&data, Path::new(CONTAINERS));
            fs::remove_dir_all(data.join(DISCARDED))
        });
        let _ = gone.await;
    }

    fn folder(&self, id: &str) -> Result<PathBuf> {
        // The ID names a folder, so it must not be able to name another one.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Trouble::new(
                "CreateContainerConfigError",
                format!("{id:?} is no ID of a container"),
            ));
        }
        Ok(self.data.join(CONTAINERS).join(id))
    }

    async fn start_now(&self, start: Start) -> Result<()> {
        let (id, folder) = (start.id.clone(), self.folder(&start.id)?);
        let started = async {
            let rootfs = self.images.rootfs(&start.image, &folder).await?;
            self.runtime.start(start, rootfs).await
        };
        let started = started.await;
        if started.is_err() {
            self.discard_container(&id);
        }
        started
    }

    /// Out of the way at once, deleted in its own time.
    fn discard_container(&self, id: &str) {
        if discard(&self.data, &Path::new(CONTAINERS).join(id)).is_ok_and(|there| there) {
            self.delete_discarded();
        }
    }

    fn delete_discarded(&self) {
        let folder = self.data.join(DISCARDED);
        tokio::task::spawn_blocking(move || {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Err(error) = fs::remove_dir_all(entry.path())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(folder = %entry.path().display(), %error, "cannot be deleted");
                }
            }
        });
    }
}

/// Moves a folder of the data folder to where it is deleted; whether it was there.
fn discard(data: &Path, folder: &Path) -> io::Result<bool> {
    let into = data.join(DISCARDED);
    fs::create_dir_all(&into)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    match fs::rename(data.join(folder), into.join(format!("{name}-{now}"))) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Engine for Local {
    fn node(&self) -> NodeFacts {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        NodeFacts {
            runtime: concat!("d2k://", env!("CARGO_PKG_VERSION")).to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: name.unwrap_or("Linux").trim_matches('"').to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory: memory(),
            storage: rustix::fs::statvfs(&self.data).map_or(0, |about| about.f_blocks * about.f_frsize),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
        }
    }

    fn has(&self, feature: Feature) -> bool {
        FEATURES.contains(&feature)
    }

    fn image<'a>(
        &'a self,
        reference: &'a str,
        pull: Pull,
        logins: &'a [Login],
    ) -> BoxFuture<'a, Result<Image>> {
        Box::pin(self.images.ensure(reference, pull, logins, None))
    }

    fn create_sandbox(&self, sandbox: Sandbox) -> BoxFuture<'_, Result<IpAddr>> {
        Box::pin(self.runtime.create_sandbox(sandbox))
    }

    fn remove_sandbox<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for id in self.runtime.remove_sandbox(uid).await? {
                self.discard_container(&id);
            }
            Ok(())
        })
    }

    fn create(&self, start: Start) -> BoxFuture<'_, Result<String>> {
        let id = start.id.clone();
        if let Some(Source::Volume(name)) =
            start.mounts.iter().map(|mount| &mount.source).find(|s| is_kept(s))
        {
            let words = format!("this engine keeps no volumes: {name:?} cannot be mounted");
            return Box::pin(std::future::ready(Err(Trouble::new("CreateContainerConfigError", words))));
        }
        let made = self.folder(&id).map(|_| self.made.lock().insert(id.clone(), start));
        Box::pin(std::future::ready(made.map(|_| id)))
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let Some(start) = self.made.lock().remove(id) else {
            let trouble =
                Trouble::new("RunContainerError", format!("the container {id} was not made, or is started"));
            return Box::pin(std::future::ready(Err(trouble)));
        };
        let this = self.clone();
        // It goes on where the caller does not wait for it, so that nothing is half done.
        let started = tokio::spawn(async move { this.start_now(start).await });
        Box::pin(async move {
            started.await.unwrap_or_else(|error| Err(Trouble::new("RunContainerError", error.to_string())))
        })
    }

    fn wait<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Exit>> {
        Box::pin(self.runtime.wait(id))
    }

    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.runtime.signal(id, signal))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.folder(id)?;
            self.made.lock().remove(id);
            self.runtime.remove(id).await?;
            self.discard_container(id);
            Ok(())
        })
    }

    fn attach<'a>(&'a self, id: &'a str, stdin: bool) -> BoxFuture<'a, Result<Session>> {
        Box::pin(self.runtime.attach(id, stdin))
    }

    fn exec<'a>(&'a self, id: &'a str, exec: Exec) -> BoxFuture<'a, Result<Session>> {
        Box::pin(self.runtime.exec(id, exec))
    }

    fn limit<'a>(&'a self, id: &'a str, limits: Limits) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.runtime.limit(id, limits))
    }

    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage>> {
        Box::pin(self.runtime.usage(id))
    }

    fn connect<'a>(&'a self, uid: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>> {
        Box::pin(self.runtime.connect(uid, port))
    }
}

fn is_kept(source: &Source) -> bool {
    matches!(source, Source::Volume(_))
}

/// What a file of one line says.
fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The machine's memory in bytes.
fn memory() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|total| total.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

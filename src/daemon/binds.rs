//! Bind mounts: asks the policies about each and, where containers run on this machine (the embedded
//! cluster), looks at the sources as dockerd does.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;

use super::Daemon;
use super::decisions::pairs;
use d2k_common::fault::{Fault, Result};
use d2k_policy::bindings::volumes::exports::d2k::policy::volumes::Input;
use d2k_policy::binds::{rest, root};
use d2k_policy::set::Set;
use d2k_translate::mounts::{self, Bind, MountPlan};
use d2k_translate::pod::context::HostPath;
use d2k_translate::record::Record;

/// How long a look at a source may take: one on a network file system may never answer.
const LOOK: Duration = Duration::from_secs(10);

/// What the policies have decided about a container's binds.
#[derive(Default)]
pub(crate) struct HostPaths {
    /// Target of a bind → the path of the machine that is mounted there.
    pub paths: BTreeMap<String, HostPath>,
    /// For the user.
    pub warnings: Vec<String>,
    /// The policies that decided, each once.
    pub by: Vec<String>,
}

/// What there is under the path of a source.
struct Found {
    /// The path with its links followed, as far as it exists.
    real: String,
    /// Kubernetes' type of what is there; `None` if nothing is.
    kind: Option<&'static str>,
    /// Why nothing can be made there, if something is in the way.
    blocked: Option<Blocked>,
}

#[derive(Debug, PartialEq, Eq)]
enum Blocked {
    /// A part of the path is no folder.
    NoFolder,
    /// This link leads nowhere.
    Link(String),
    /// A name of the path is longer than the file system allows.
    LongName,
}

impl Daemon {
    /// The paths of the machine for a container's binds, as the policies want them.
    ///
    /// # Errors
    /// A refusal, a failed call, a propagation that the cluster does not have, or a source that does not answer.
    pub(crate) async fn host_paths(&self, set: &Set, record: &Record) -> Result<HostPaths> {
        let mut all = HostPaths::default();
        for plan in self.bind_plans(record)? {
            let Some(bind) = plan.bind() else { continue };
            self.check_propagation(bind, record)?;
            let found = match self.local {
                Some(_) => look(&bind.source).await?,
                None => Found { real: bind.source.clone(), kind: None, blocked: None },
            };
            let decided = set.bind(&self.question(record, &plan, bind, &found))?;
            all.warnings.extend(decided.warnings);
            if !all.by.contains(&decided.by) {
                all.by.push(decided.by);
            }
            let path = match root(&decided.plan) {
                Some(root) => HostPath {
                    path: root.to_owned(),
                    below: rest(&found.real, root).unwrap_or_default().to_owned(),
                    kind: String::new(),
                },
                None => HostPath {
                    path: bind.source.clone(),
                    below: String::new(),
                    kind: found.kind.filter(|_| !bind.create).unwrap_or_default().to_owned(),
                },
            };
            all.paths.insert(plan.target, path);
        }
        Ok(all)
    }

    /// Docker's checks of the sources, where they are on this machine. A missing source of `--mount` is
    /// refused; one of `-v` is made at the start, so that only `starting` asks whether it can be.
    ///
    /// # Errors
    /// 400 in Docker's words.
    pub(crate) async fn require_sources(&self, record: &Record, starting: bool) -> Result<()> {
        if self.local.is_none() {
            return Ok(());
        }
        let wrong = |what: &str| format!("invalid mount config for type \"bind\": {what}");
        for plan in self.bind_plans(record)? {
            let Some(bind) = plan.bind() else { continue };
            if starting && !bind.conflict.is_empty() {
                return Err(Fault::invalid(bind.conflict.clone()));
            }
            let (found, source) = (look(&bind.source).await?, &bind.source);
            let why = match found.blocked {
                Some(Blocked::NoFolder) if bind.create => format!(
                    "failed to fulfil mount request: open {source}: not a directory: unknown: Are you trying to mount a \
                     directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
                ),
                Some(Blocked::Link(link)) if bind.create => {
                    format!("error while creating mount source path '{source}': mkdir {link}: file exists")
                }
                Some(Blocked::LongName) if bind.create => {
                    format!(
                        "error while creating mount source path '{source}': mkdir {source}: file name too long"
                    )
                }
                Some(Blocked::NoFolder) => wrong(&format!("stat {source}: not a directory")),
                Some(Blocked::LongName) => wrong(&format!("stat {source}: file name too long")),
                _ if found.kind.is_none() && !bind.create => {
                    wrong(&format!("bind source path does not exist: {source}"))
                }
                _ => continue,
            };
            if starting || !bind.create {
                return Err(Fault::invalid(why));
            }
        }
        Ok(())
    }

    /// A Pod that mounts a path of a node is refused by many clusters, which would be known at the start
    /// only, when a controller makes it.
    ///
    /// # Errors
    /// The cluster's words.
    pub(crate) async fn require_admission(&self, record: &Record) -> Result<()> {
        if self.local.is_some() || self.bind_plans(record)?.is_empty() {
            return Ok(());
        }
        let name = &record.object;
        let deployment = self.cluster.cache::<Deployment>().get(name);
        let job = self.cluster.cache::<Job>().get(name);
        let of_deployment = || Some(&deployment.as_ref()?.object.spec.as_ref()?.template);
        let of_job = || Some(&job.as_ref()?.object.spec.as_ref()?.template);
        match of_deployment().or_else(of_job) {
            Some(template) => self.cluster.admits(template, name).await,
            None => Ok(()),
        }
    }

    fn bind_plans(&self, record: &Record) -> Result<Vec<MountPlan>> {
        let inherited = self.inherited_mounts(record)?;
        let plans = mounts::plan(&record.body, &record.image, &inherited)?.plans;
        Ok(plans.into_iter().filter(|plan| plan.bind().is_some()).collect())
    }

    fn check_propagation(&self, bind: &Bind, record: &Record) -> Result<()> {
        if !matches!(bind.propagation.as_str(), "shared" | "rshared") {
            return Ok(());
        }
        let why = if self.local.is_some() {
            "nothing that a container mounts reaches this machine from the embedded cluster; use rslave"
        } else if record.host().privileged != Some(true) {
            "Kubernetes lets mounts of a container reach the node for privileged containers only; use rslave, or --privileged"
        } else {
            return Ok(());
        };
        let (word, source) = (&bind.propagation, &bind.source);
        Err(Fault::invalid(format!("propagation {word} is not possible for the bind of {source}: {why}")))
    }

    fn question(&self, record: &Record, plan: &MountPlan, bind: &Bind, found: &Found) -> Input {
        let cluster = if self.local.is_some() { "embedded" } else { "kubernetes" };
        let extra = [
            ("cluster", cluster),
            ("container", &record.name),
            ("image", record.body.image.as_deref().unwrap_or_default()),
            ("kind", "bind"),
            ("path", &found.real),
            ("propagation", bind.shown_propagation()),
            ("read-only", if plan.read_only { "true" } else { "false" }),
            ("target", &plan.target),
        ];
        Input {
            name: bind.source.clone(),
            labels: pairs(&record.docker_labels()),
            anonymous: false,
            size: None,
            storage_class: None,
            access_mode: None,
            extra: extra.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }
}

async fn look(source: &str) -> Result<Found> {
    let path = source.to_owned();
    let looking = tokio::task::spawn_blocking(move || find(&path));
    match tokio::time::timeout(LOOK, looking).await {
        Ok(Ok(found)) => found.map_err(|error| Fault::invalid(format!("bind source path {source}: {error}"))),
        Ok(Err(error)) => Err(Fault::internal(format!("bind source path {source}: {error}"))),
        Err(_) => Err(Fault::unavailable(format!(
            "bind source path {source} did not answer within {} s: is its file system there?",
            LOOK.as_secs()
        ))),
    }
}

fn find(source: &str) -> io::Result<Found> {
    let path = Path::new(source);
    let (mut missing, mut long) = (Vec::new(), false);
    for above in path.ancestors() {
        match above.canonicalize() {
            Ok(real) if missing.is_empty() => {
                let kind = Some(kubernetes_type(fs::metadata(&real)?.file_type()));
                return Ok(Found { real: text(&real)?, kind, blocked: None });
            }
            Ok(real) => {
                let first = above.join(missing.last().copied().unwrap_or_default());
                let blocked = match () {
                    () if !real.is_dir() => Some(Blocked::NoFolder),
                    () if first.is_symlink() => Some(Blocked::Link(first.display().to_string())),
                    () => long.then_some(Blocked::LongName),
                };
                let whole = missing.iter().rev().fold(real, |path, name| path.join(name));
                return Ok(Found { real: text(&whole)?, kind: None, blocked });
            }
            Err(error) if is_missing(&error) => {
                long |= error.kind() == ErrorKind::InvalidFilename;
                missing.extend(above.file_name().and_then(|name| name.to_str()));
            }
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Whether there is nothing under a path; a link that leads nowhere or in a circle is nothing.
fn is_missing(error: &io::Error) -> bool {
    let kinds = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "its real path is no UTF-8"))
}

/// The type of a `hostPath` volume (Kubernetes docs, "hostPath volume types"); empty for a pipe, which has none.
fn kubernetes_type(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "Directory",
        kind if kind.is_file() => "File",
        kind if kind.is_socket() => "Socket",
        kind if kind.is_char_device() => "CharDevice",
        kind if kind.is_block_device() => "BlockDevice",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_source_is_found_through_links_and_as_far_as_it_exists() {
        let folder = std::env::temp_dir().join(format!("d2k-binds-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("real/inner")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        symlink("real", folder.join("link")).unwrap();
        symlink("nowhere", folder.join("dangling")).unwrap();
        symlink("circle", folder.join("circle")).unwrap();
        let base = folder.canonicalize().unwrap();
        let at = |name: &str| find(folder.join(name).to_str().unwrap()).unwrap();
        let inside = |name: &str| base.join(name).to_str().unwrap().to_owned();
        assert_eq!((at("link/inner").real, at("link/inner").kind), (inside("real/inner"), Some("Directory")));
        assert_eq!(at("file").kind, Some("File"));
        let new = at("link/a/b");
        assert_eq!((new.real, new.kind, new.blocked), (inside("real/a/b"), None, None));
        assert_eq!(at("file/a").blocked, Some(Blocked::NoFolder));
        for link in ["dangling", "circle"] {
            let path = folder.join(link).display().to_string();
            assert_eq!(at(link).blocked, Some(Blocked::Link(path)));
        }
        assert_eq!(at(&"n".repeat(256)).blocked, Some(Blocked::LongName));
        fs::remove_dir_all(folder).unwrap();
    }
}

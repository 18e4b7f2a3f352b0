//! Makes, starts and ends containers on the engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use d2k_engine::{Below, Limits, Mount, Restart, Result, Source, Start, Trouble};
use http::StatusCode;
use serde_json::{Value, json};

use super::client::Error;
use super::json::{encode, text};
use super::labels::{self, CONTAINER, MANIFESTS};
use super::{Docker, Placed, network};

/// Words in which engines say that a program could not be run, and not that the container could not be made.
const PROGRAM: &[&str] = &[
    "executable file not found",
    "permission denied",
    "no such file or directory",
    "exec format error",
    "OCI runtime",
];

impl Docker {
    /// Makes a container; its ID.
    pub(super) async fn create_container(&self, start: Start) -> Result<String> {
        let placed = self.placed(&start.pod)?;
        if self.has_adopted(&start.pod) {
            let words = "the container was not made by k2d, which makes no other one in its place";
            return Err(Trouble::new("CreateContainerError", words));
        }
        check_user(&start)?;
        for mount in &start.mounts {
            if let Source::Volume(name) = &mount.source {
                self.ensure_volume(name, &mount.sub).await?;
            }
        }
        let body = self.body(&start, &placed)?;
        let name = match &placed.holder {
            None => format!("{}.{}", placed.name, placed.namespace),
            Some(_) => format!("{}.{}.{}", start.name, placed.name, placed.namespace),
        };
        let id = self.create_named(&name, &body).await?;
        self.inner.runs.follow(&id, None);
        Ok(id)
    }

    /// Makes a container of this name, or of a longer one where that is taken.
    pub(super) async fn create_named(&self, name: &str, body: &Value) -> Result<String> {
        let mut wanted = name.to_owned();
        // Another one may have the longer name, too, once in 16 million times.
        for _ in 0..4 {
            let path = format!("/containers/create?name={}", encode(&wanted));
            match self.inner.client.post(&path, Some(body)).await {
                Ok(made) => return Ok(text(&made, &["Id"]).to_owned()),
                Err(error) if error.is(StatusCode::CONFLICT) => {
                    if !self.remove_leftover(&wanted, body).await {
                        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                        wanted = format!("{name}-{:06x}", now.as_nanos() & 0xFF_FFFF);
                    }
                }
                Err(error) => return Err(Trouble::new("CreateContainerError", error.to_string())),
            }
        }
        Err(Trouble::new("CreateContainerError", format!("the names {name} and {wanted} are taken")))
    }

    /// Removes the container of this name if it is what this body is to make, and nobody knows of it: this process, or the one before,
    /// has never got the answer to its creation. Whether it was removed.
    async fn remove_leftover(&self, name: &str, body: &Value) -> bool {
        let Ok(Some(found)) = self.container(&encode(name)).await else { return false };
        let (id, same) = (text(&found, &["Id"]), |label: &str| {
            text(&found, &["Config", "Labels", label]) == text(body, &["Labels", label])
        });
        let is_ours = [labels::UID, CONTAINER, labels::ROLE].into_iter().all(same);
        is_ours && !self.inner.runs.follows(id) && self.remove_container(id).await.is_ok()
    }

    /// Starts a container that was made.
    pub(super) async fn start_container(&self, id: &str) -> Result<()> {
        let started = self.inner.client.post(&format!("/containers/{id}/start"), None).await;
        match started {
            Ok(_) => {
                self.inner.runs.started(id);
                Ok(())
            }
            Err(Error::Refused { message, .. }) if PROGRAM.iter().any(|words| message.contains(words)) => {
                Err(Trouble::new("StartError", message))
            }
            Err(error) => Err(Trouble::new("RunContainerError", error.to_string())),
        }
    }

    /// Sends a signal; one to a container that has ended is lost.
    pub(super) async fn kill(&self, id: &str, signal: i32) -> Result<()> {
        match self.inner.client.post(&format!("/containers/{id}/kill?signal={signal}"), None).await {
            Err(error) if !error.is(StatusCode::CONFLICT) && !error.is(StatusCode::NOT_FOUND) => {
                Err(Trouble::new("KillContainerError", error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Removes a container with its unnamed volumes; one that is gone is none.
    pub(super) async fn remove_container(&self, id: &str) -> Result<()> {
        let removed = self.inner.client.delete(&format!("/containers/{id}?force=true&v=true")).await;
        self.inner.runs.forget(id);
        match removed {
            // Somebody else removes it already.
            Err(error) if !error.is(StatusCode::NOT_FOUND) && !error.is(StatusCode::CONFLICT) => {
                Err(Trouble::new("RemoveContainerError", error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Changes the limits of a container that runs.
    pub(super) async fn update(&self, id: &str, limits: Limits) -> Result<()> {
        let mut body = json!({});
        limit(&mut body, limits);
        let updated = self.inner.client.post(&format!("/containers/{id}/update"), Some(&body)).await;
        updated.map(drop).map_err(|error| Trouble::new("ResizeError", error.to_string()))
    }

    /// The body of a container's creation.
    fn body(&self, start: &Start, placed: &Placed) -> Result<Value> {
        let mut labels = labels::of_pod(&start.pod, &placed.namespace, &placed.name);
        labels.insert(CONTAINER, start.name.clone());
        if placed.holder.is_none() {
            labels.extend(placed.manifests.clone().map(|manifests| (MANIFESTS, manifests)));
        }
        let names = self.inner.names.lock();
        let image = names.get(&start.image).unwrap_or(&start.image).clone();
        drop(names);
        let mut host = self.host(start)?;
        let mut body = json!({
            "Image": image, "Entrypoint": start.command, "Cmd": [], "Env": start.env, "WorkingDir": start.working_dir,
            "Tty": start.tty, "OpenStdin": start.stdin, "StdinOnce": start.stdin_once, "User": start.security.user,
            "Labels": labels, "Healthcheck": {"Test": ["NONE"]},
        });
        set(&mut host, "NetworkMode", placed.mode());
        if let Some(holder) = &placed.holder {
            set(&mut host, "IpcMode", format!("container:{holder}"));
            if placed.share_processes {
                set(&mut host, "PidMode", format!("container:{holder}"));
            }
        } else if !placed.host_network {
            set(&mut body, "Hostname", placed.hostname.as_str());
            set(&mut host, "Sysctls", json!(placed.sysctls));
            set(&mut body, "NetworkingConfig", endpoint(placed.address));
        }
        if let Some(beside) = &start.beside {
            set(&mut host, "PidMode", format!("container:{beside}"));
        }
        set(&mut body, "HostConfig", host);
        Ok(body)
    }

    fn host(&self, start: &Start) -> Result<Value> {
        let security = &start.security;
        let mounts: Result<Vec<Value>> = start.mounts.iter().map(|mount| self.mount(start, mount)).collect();
        let groups: Vec<String> = security.groups.iter().map(u32::to_string).collect();
        let options: &[&str] = if security.no_new_privileges { &["no-new-privileges"] } else { &[] };
        let mut host = json!({
            "Mounts": mounts?, "Privileged": security.privileged, "CapAdd": security.add, "CapDrop": security.drop,
            "ReadonlyRootfs": security.read_only_root, "SecurityOpt": options, "GroupAdd": groups,
            "RestartPolicy": {"Name": restart_policy(start.restart)}, "Devices": devices(&start.mounts),
        });
        limit(&mut host, start.limits);
        Ok(host)
    }

    fn mount(&self, start: &Start, mount: &Mount) -> Result<Value> {
        let target = mount.target.to_string_lossy();
        let (kind, source) = match &mount.source {
            Source::Managed(path) => ("bind", self.inner.paths.outside(path)),
            Source::Host(path) => ("bind", path.clone()),
            Source::Memory(name) => ("volume", memory_name(&start.pod, name).into()),
            Source::Volume(name) => ("volume", name.into()),
        };
        // Joined with nothing, it would end in a slash, and be a folder.
        let whole = mount.sub.as_os_str().is_empty();
        let part = if whole { source.clone() } else { source.join(&mount.sub) };
        let mut made = json!({"Type": kind, "Source": part, "Target": target, "ReadOnly": mount.read_only});
        if kind == "bind" {
            let propagation = if mount.follows { "rslave" } else { "rprivate" };
            let mut options = json!({"Propagation": propagation});
            if mount.below == Below::ReadOnly && self.inner.client.knows(44) {
                set(&mut options, "ReadOnlyForceRecursive", true);
            }
            set(&mut made, "BindOptions", options);
        } else {
            set(&mut made, "Source", source.to_string_lossy());
            // Kubernetes' volumes begin empty; Docker fills them with what the image has there.
            let mut options = json!({"NoCopy": true});
            if !whole {
                set(&mut options, "Subpath", mount.sub.to_string_lossy());
            }
            set(&mut made, "VolumeOptions", options);
        }
        Ok(made)
    }
}

/// The name of a volume in memory.
pub fn memory_name(uid: &str, name: &str) -> String {
    format!("k2d-{uid}-{name}")
}

/// The devices of the machine that a container may use. Each is mounted as well: the engine leaves a file of the image that is at the
/// path, where a mount hides it, and a pseudo-terminal works only by the machine's own node.
fn devices(mounts: &[Mount]) -> Vec<Value> {
    let device = |mount: &Mount| {
        let Source::Host(path) = &mount.source else { return None };
        let access = if mount.read_only { "rm" } else { "rwm" };
        Some(json!({"PathOnHost": path, "PathInContainer": mount.target, "CgroupPermissions": access}))
    };
    mounts.iter().filter(|mount| mount.device).filter_map(device).collect()
}

/// The restart policy by which apps outlive k2d.
fn restart_policy(restart: Restart) -> &'static str {
    match restart {
        Restart::Never => "no",
        Restart::OnFailure => "on-failure",
        // Not `unless-stopped`: an engine that was killed ends the containers that have outlived it, and then takes them for ones that a
        // person has stopped.
        Restart::Always => "always",
    }
}

/// The Pods' network with this address.
pub fn endpoint(address: Ipv4Addr) -> Value {
    json!({"EndpointsConfig": {(network::NAME): {"IPAMConfig": {"IPv4Address": address}}}})
}

fn limit(host: &mut Value, limits: Limits) {
    if let Some(memory) = limits.memory {
        set(host, "Memory", memory);
        // No swap besides.
        set(host, "MemorySwap", memory);
    }
    if let Some(milli) = limits.cpu_milli {
        set(host, "NanoCpus", milli.saturating_mul(1_000_000));
    }
    if let Some(shares) = limits.cpu_shares {
        set(host, "CpuShares", shares);
    }
    if let Some(pids) = limits.pids {
        set(host, "PidsLimit", pids);
    }
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value.into());
    }
}

/// Refuses root where the Pod must not be root, in the kubelet's words.
fn check_user(start: &Start) -> Result<()> {
    if !start.security.must_not_be_root {
        return Ok(());
    }
    let user = start.security.user.split(':').next().unwrap_or_default();
    let words = match (user, user.parse::<u32>()) {
        ("", _) => "container has runAsNonRoot and image will run as root".to_owned(),
        (_, Ok(0)) => "container's runAsUser breaks non-root policy".to_owned(),
        (_, Ok(_)) => return Ok(()),
        (name, Err(_)) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ),
    };
    Err(Trouble::new("CreateContainerConfigError", words))
}

/// The labels of a volume or a container that is no Pod's container.
pub fn with_role(mut labels: BTreeMap<&'static str, String>, role: &str) -> BTreeMap<&'static str, String> {
    labels.insert(labels::ROLE, role.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use d2k_engine::Security;

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let check = |user: &str| {
            let security = Security { user: user.into(), must_not_be_root: true, ..Security::default() };
            check_user(&Start { security, ..Start::default() })
        };
        assert!(check("1000:0").is_ok());
        for bad in ["", "0", "0:5", "web"] {
            assert_eq!(check(bad).unwrap_err().reason, "CreateContainerConfigError", "{bad:?}");
        }
    }

    #[test]
    fn only_a_volume_of_a_device_lets_a_container_use_it() {
        let mount = |target: &str, device, read_only| Mount {
            device,
            read_only,
            ..Mount::new(target, Source::Host("/dev/ttyUSB0".into()))
        };
        let mounts = [mount("/a", false, false), mount("/b", true, false), mount("/c", true, true)];
        let wanted = json!([
            {"PathOnHost": "/dev/ttyUSB0", "PathInContainer": "/b", "CgroupPermissions": "rwm"},
            {"PathOnHost": "/dev/ttyUSB0", "PathInContainer": "/c", "CgroupPermissions": "rm"},
        ]);
        assert_eq!(Value::Array(devices(&mounts)), wanted);
    }

    #[test]
    fn limits_leave_no_swap() {
        let mut host = json!({});
        limit(&mut host, Limits { memory: Some(7), cpu_milli: Some(250), ..Limits::default() });
        assert_eq!(host, json!({"Memory": 7, "MemorySwap": 7, "NanoCpus": 250_000_000}));
    }
}

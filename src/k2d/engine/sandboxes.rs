//! The sandboxes of Pods: an address, and for a Pod with more than one container one of k2d's own that holds the network.

use std::net::{IpAddr, Ipv4Addr};

use d2k_engine::{Found, Memory, Result, Sandbox, Trouble};
use serde_json::{Value, json};

use super::client::Error;
use super::containers::{endpoint, memory_name, with_role};
use super::json::{self, encode, ids, items, text};
use super::labels::{self, CONTAINER, HOLDER, ITSELF, MANIFESTS, NAMESPACE, POD, ROLE, UID, label};
use super::net_container::NAME as NET;
use super::revive::revive;
use super::{Docker, Placed, network};

fn failed(error: &Error) -> Trouble {
    Trouble::new("FailedCreatePodSandBox", error.to_string())
}

impl Docker {
    /// The sandbox of a Pod.
    pub(super) fn placed(&self, uid: &str) -> Result<Placed> {
        let placed = self.inner.sandboxes.lock().get(uid).cloned();
        placed.ok_or_else(|| Trouble::new("NotFound", format!("the Pod {uid} has no sandbox")))
    }

    /// Makes something of a Pod, to the end also if nobody waits for it any more: who removes the Pod waits for it, and then knows of all
    /// that there is to remove.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        uid: String,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let lock = self.inner.making.lock().entry(uid).or_default().clone();
        let held = lock.read_owned().await;
        let made = tokio::spawn(async move {
            let _held = held;
            work.await
        });
        made.await.unwrap_or_else(|error| Err(Trouble::new("CreateContainerError", error.to_string())))
    }

    /// Makes a sandbox, or takes the one that is there; its address.
    pub(super) async fn place(&self, sandbox: Sandbox) -> Result<IpAddr> {
        let uid = sandbox.uid.clone();
        if let Ok(placed) = self.placed(&uid) {
            return Ok(placed.ip(self.inner.host));
        }
        let address = if sandbox.host_network {
            Ipv4Addr::UNSPECIFIED
        } else {
            let address = self.inner.network.give(&uid);
            address.ok_or_else(|| Trouble::new("FailedCreatePodSandBox", "no address is left for a Pod"))?
        };
        let mut placed = Placed {
            namespace: sandbox.namespace,
            name: sandbox.name,
            hostname: sandbox.hostname,
            address,
            host_network: sandbox.host_network,
            share_processes: sandbox.share_processes,
            sysctls: sandbox.sysctls,
            holder: None,
            manifests: labels::pack(&sandbox.manifests),
        };
        if !sandbox.alone {
            let held = self.hold(&uid, &placed, &sandbox.memory).await;
            placed.holder = Some(held.inspect_err(|_| self.inner.network.take_back(&uid))?);
        }
        let ip = placed.ip(self.inner.host);
        self.inner.sandboxes.lock().insert(uid, placed);
        Ok(ip)
    }

    /// Starts the container that holds the network and the memory of a Pod; its ID.
    async fn hold(&self, uid: &str, placed: &Placed, memory: &[Memory]) -> Result<String> {
        let mut labels = with_role(labels::of_pod(uid, &placed.namespace, &placed.name), HOLDER);
        let mut mounts = Vec::new();
        for volume in memory {
            let name = memory_name(uid, &volume.name);
            let mut options = vec!["mode=1777".to_owned()];
            options.extend(volume.limit.map(|limit| format!("size={limit}")));
            options.extend(volume.group.map(|group| format!("gid={group}")));
            let body = json!({
                "Name": name, "Driver": "local", "Labels": labels,
                "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": options.join(",")},
            });
            self.inner.client.post("/volumes/create", Some(&body)).await.map_err(|error| failed(&error))?;
            mounts.push(json!({"Type": "volume", "Source": name, "Target": format!("/{}", volume.name)}));
        }
        labels.extend(placed.manifests.clone().map(|manifests| (MANIFESTS, manifests)));
        let image = self.own_image().await?;
        let mut body = json!({
            "Image": image, "Entrypoint": ["/k2d", "pause"], "Labels": labels,
            "HostConfig": {
                "NetworkMode": placed.mode(), "IpcMode": "shareable", "RestartPolicy": {"Name": "always"},
                "Mounts": mounts, "Sysctls": placed.sysctls, "ReadonlyRootfs": true, "CapDrop": ["ALL"],
            },
        });
        if !placed.host_network
            && let Some(body) = body.as_object_mut()
        {
            body.insert("Hostname".into(), placed.hostname.as_str().into());
            body.insert("NetworkingConfig".into(), endpoint(placed.address));
        }
        let name = format!("{}.{}", placed.name, placed.namespace);
        let id = self.create_named(&name, &body).await?;
        let started = self.inner.client.post(&format!("/containers/{id}/start"), None).await;
        if let Err(error) = started {
            let _ = self.remove_container(&id).await;
            return Err(failed(&error));
        }
        Ok(id)
    }

    /// Removes all that the engine has of a Pod.
    pub(super) async fn remove_pod(&self, uid: &str) -> Result<()> {
        let wrong = |error: Error| Trouble::new("KillPodSandboxError", error.to_string());
        let lock = self.inner.making.lock().entry(uid.to_owned()).or_default().clone();
        let _alone = lock.write().await;
        let path = format!("/containers/json?all=true&filters={}", labels::filter(&format!("{UID}={uid}")));
        let listed = self.inner.client.get(&path).await.map_err(wrong)?;
        let foreign = self.inner.foreign.lock().remove(uid);
        let ids: Vec<String> = ids(&listed).into_iter().chain(foreign).collect();
        for id in ids {
            self.remove_container(&id).await?;
        }
        let path = format!("/volumes?filters={}", labels::filter(&format!("{UID}={uid}")));
        let volumes = self.inner.client.get(&path).await.map_err(wrong)?;
        for volume in json::at(&volumes, &["Volumes"]).as_array().into_iter().flatten() {
            let name = encode(text(volume, &["Name"]));
            self.inner.client.delete(&format!("/volumes/{name}")).await.map_err(wrong)?;
        }
        self.inner.sandboxes.lock().remove(uid);
        self.inner.making.lock().remove(uid);
        self.inner.network.take_back(uid);
        Ok(())
    }

    /// Takes over what a k2d before this one has made, and removes what is of no use to this one.
    pub(super) async fn survey(&self) -> std::result::Result<(), Error> {
        revive(&self.inner.client).await?;
        let of = |label: &str| format!("/containers/json?all=true&filters={}", labels::filter(label));
        let mut useless = Vec::new();
        for one in items(&self.inner.client.get(&of(&format!("{ROLE}={ITSELF}"))).await?) {
            let is_net = json::texts(one, &["Names"]).iter().any(|name| name.trim_start_matches('/') == NET);
            if !is_net && !self.is_itself(text(one, &["Id"])) {
                // It did one thing for a process that is gone.
                useless.push(text(one, &["Id"]).to_owned());
            }
        }
        for id in ids(&self.inner.client.get(&of(UID)).await?) {
            match self.inner.client.get(&format!("/containers/{id}/json")).await {
                Ok(inspected) => useless.extend(self.take_over(&inspected)),
                // It has gone meanwhile.
                Err(error) if error.is(http::StatusCode::NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        for id in useless {
            if let Err(trouble) = self.remove_container(&id).await {
                tracing::warn!(
                    id,
                    error = trouble.message,
                    "a container that was left behind cannot be removed"
                );
            }
        }
        Ok(())
    }

    /// Takes over a container; the ID of one that is of no use.
    fn take_over(&self, inspected: &Value) -> Option<String> {
        let labels = json::at(inspected, &["Config", "Labels"]);
        let (uid, id) = (label(labels, UID).to_owned(), text(inspected, &["Id"]));
        let is_holder = label(labels, ROLE) == HOLDER;
        if is_holder && json::time(text(inspected, &["State", "StartedAt"])).is_none() {
            // It was made and never started: the Pod's containers are not there either.
            return Some(id.to_owned());
        }
        let mode = text(inspected, &["HostConfig", "NetworkMode"]);
        let joined = ["NetworkSettings", "Networks", network::NAME, "IPAMConfig", "IPv4Address"];
        let address: Option<Ipv4Addr> = text(inspected, &joined).parse().ok();
        let mut sandboxes = self.inner.sandboxes.lock();
        let placed = sandboxes.entry(uid.clone()).or_insert_with(|| Placed {
            namespace: label(labels, NAMESPACE).to_owned(),
            name: label(labels, POD).to_owned(),
            hostname: text(inspected, &["Config", "Hostname"]).to_owned(),
            address: Ipv4Addr::UNSPECIFIED,
            host_network: false,
            share_processes: false,
            sysctls: Default::default(),
            holder: None,
            manifests: None,
        });
        let manifests = label(labels, MANIFESTS);
        if !manifests.is_empty() {
            placed.manifests = Some(manifests.to_owned());
        }
        placed.host_network |= mode == "host";
        placed.sysctls.extend(sysctls(inspected));
        if let Some(address) = address {
            placed.address = address;
            self.inner.network.note(address, &uid);
        }
        if is_holder {
            placed.holder = Some(id.to_owned());
            return None;
        }
        if text(inspected, &["HostConfig", "PidMode"]).starts_with("container:") {
            placed.share_processes = true;
        }
        drop(sandboxes);
        self.found_container(&uid, label(labels, CONTAINER), inspected)
    }

    /// Notes a container that the kubelet is to take over; the ID of one in whose place it is.
    pub(super) fn found_container(&self, uid: &str, name: &str, inspected: &Value) -> Option<String> {
        let id = text(inspected, &["Id"]).to_owned();
        // One that was made and never started gives way to the next attempt, see `create_named`.
        let started = json::time(text(inspected, &["State", "StartedAt"]))?;
        self.inner.runs.follow(&id, Some(inspected));
        let found = Found {
            id,
            image: text(inspected, &["Image"]).to_owned(),
            started,
            running: json::flag(inspected, &["State", "Running"])
                && !json::flag(inspected, &["State", "Restarting"]),
            ended: json::time(text(inspected, &["State", "FinishedAt"])),
            restarts: json::number(inspected, &["RestartCount"]).unwrap_or(0),
        };
        let key = (uid.to_owned(), name.to_owned());
        let mut all = self.inner.found.lock();
        // Of two the younger one is what the kubelet means: it makes the next one before it removes the one before.
        match all.get(&key) {
            Some(other) if other.started >= found.started => Some(found.id),
            _ => all.insert(key, found).map(|older| older.id),
        }
    }
}

/// The kernel parameters that a container was made with.
fn sysctls(inspected: &Value) -> impl Iterator<Item = (String, String)> {
    let all = json::at(inspected, &["HostConfig", "Sysctls"]).as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
}

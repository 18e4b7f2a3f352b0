//! The life of one container: its image, its runs, when it is started again, how it is stopped.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Kubelet;
use super::running::Running;
use super::running::Volumes;
use super::state::Phase;
use crate::events::{self, About};
use crate::kinds;
use crate::meta::{self, at, items, string};
use crate::store::Bell;
use d2k_engine::{Engine, Image, Limits, Pull, Restart, Security, Start, Trouble};

/// How long an error of a pull is shown before the pause is.
const SHOWN: Duration = Duration::from_secs(1);
/// First pause before a container that ends again and again is started.
const FIRST: Duration = Duration::from_secs(10);
/// Longest one.
const LONGEST: Duration = Duration::from_secs(300);
/// A run of this length forgives those before.
const GOOD: i64 = 600;
/// Processes and threads of a container: what one runs away with is not the whole machine.
const PIDS: i64 = 8192;
impl<E: Engine> Kubelet<E> {
    /// Runs a container, again and again as its policy says; false if an init container has failed
    /// for good or the Pod ends.
    pub(super) async fn keep(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        container: &Value,
        volumes: &Volumes,
        init: bool,
    ) -> bool {
        let name = string(container, &["name"]).to_owned();
        let policy = match string(container, &["restartPolicy"]) {
            "" => string(pod, &["spec", "restartPolicy"]).to_owned(),
            own => own.to_owned(),
        };
        let restart = match policy.as_str() {
            "Always" if init => Restart::OnFailure,
            "Always" => Restart::Always,
            "OnFailure" => Restart::OnFailure,
            _ => Restart::Never,
        };
        let mut pause = Duration::ZERO;
        let mut failed = FIRST;
        loop {
            let before = running.state(&name);
            if let Phase::Terminated(end) = &before.phase {
                let again = match restart {
                    Restart::Always => true,
                    Restart::OnFailure => end.code != 0,
                    Restart::Never => false,
                };
                if !again && !before.again {
                    return end.code == 0;
                }
                if running.ending.is_cancelled() || running.over.is_cancelled() {
                    return false;
                }
                if before.again || end.seconds() > GOOD {
                    pause = Duration::ZERO;
                }
                if !pause.is_zero() && !self.back_off(running, pod, &name, pause).await {
                    return false;
                }
                pause = if pause.is_zero() { FIRST } else { (pause * 2).min(LONGEST) };
            }
            if running.ending.is_cancelled() || running.over.is_cancelled() {
                return false;
            }
            let mut bell = self.api.store.bell(&[&kinds::CONFIG_MAP, &kinds::SECRET]);
            // What it is may have changed since its last run.
            let now = running.container(&name);
            let container = now.as_ref().unwrap_or(container);
            match self.run_once(running, pod, container, volumes, restart).await {
                Ok(()) => failed = FIRST,
                // Tried again until the Pod goes.
                Err(trouble) => {
                    if !self.wait_after(running, pod, container, &trouble, failed, &mut bell).await {
                        return false;
                    }
                    failed = (failed * 2).min(LONGEST);
                }
            }
        }
    }

    /// Waits before a container is started again; false if its Pod ends.
    async fn back_off(&self, running: &Running, pod: &Value, name: &str, pause: Duration) -> bool {
        let (space, pod_name, uid) = (meta::namespace(pod), meta::name(pod), meta::uid(pod));
        let time = crate::table::duration(i64::try_from(pause.as_secs()).unwrap_or(0));
        let words =
            format!("back-off {time} restarting failed container={name} pod={pod_name}_{space}({uid})");
        running.set(name, |state| state.enter(Phase::waiting("CrashLoopBackOff", &words)));
        let about = About::new(pod, "kubelet").container(name);
        let words = format!("Back-off restarting failed container {name} in pod {pod_name}_{space}({uid})");
        events::record(&self.api, &about, "Warning", "BackOff", &words);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = running.ending.cancelled() => false,
        }
    }

    /// Waits before what could not be done is tried again.
    async fn wait_after(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        trouble: &Trouble,
        pause: Duration,
        bell: &mut Bell,
    ) -> bool {
        let (name, image) = (string(container, &["name"]), string(container, &["image"]));
        let about = About::new(pod, "kubelet").container(name);
        let pulling = trouble.reason == "ErrImagePull";
        let words = match trouble.reason {
            "ErrImagePull" | "ErrImageNeverPull" => trouble.reason,
            _ => &trouble.message,
        };
        events::record(&self.api, &about, "Warning", "Failed", &format!("Error: {words}"));
        running.set(name, |state| state.enter(Phase::waiting(trouble.reason, &trouble.message)));
        let waited = async {
            if !pulling {
                return tokio::time::sleep(FIRST).await;
            }
            tokio::time::sleep(SHOWN).await;
            let words = format!("Back-off pulling image {image:?}");
            events::record(&self.api, &about, "Normal", "BackOff", &words);
            events::record(&self.api, &about, "Warning", "Failed", "Error: ImagePullBackOff");
            let words = format!("{words}: {}: {}", trouble.reason, trouble.message);
            running.set(name, |state| state.enter(Phase::waiting("ImagePullBackOff", &words)));
            // Another image need not wait for what the one before did wrong.
            let mut changed = running.changed.subscribe();
            let other = async {
                while running.container(name).is_none_or(|c| string(&c, &["image"]) == image) {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(pause, other).await;
        };
        // Its variables may come from an object that is there now.
        let object = async {
            if trouble.reason != "CreateContainerConfigError" || !bell.rings().await {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = waited => true,
            () = object => true,
            () = self.engine.is_back() => true,
            () = running.ending.cancelled() => false,
        }
    }

    pub(super) async fn pull(&self, pod: &Value, container: &Value, about: &About) -> Result<Image, Trouble> {
        let reference = string(container, &["image"]);
        let policy = match string(container, &["imagePullPolicy"]) {
            "Always" => Pull::Always,
            "Never" => Pull::Never,
            _ => Pull::IfNotPresent,
        };
        let begin = std::time::Instant::now();
        if let Ok(image) = self.engine.image(reference, Pull::Never, &[]).await
            && policy != Pull::Always
        {
            let words = format!("Container image {reference:?} already present on machine");
            events::record(&self.api, about, "Normal", "Pulled", &words);
            return Ok(image);
        }
        if policy != Pull::Never {
            events::record(&self.api, about, "Normal", "Pulling", &format!("Pulling image {reference:?}"));
        }
        let logins = self.logins(pod);
        let pulled = self.engine.image(reference, policy, &logins).await;
        match &pulled {
            Ok(_) => {
                let took = format!("{}ms", begin.elapsed().as_millis());
                let words =
                    format!("Successfully pulled image {reference:?} in {took} ({took} including waiting)");
                events::record(&self.api, about, "Normal", "Pulled", &words);
            }
            Err(trouble) if policy == Pull::Never => {
                events::record(&self.api, about, "Warning", trouble.reason, &trouble.message);
            }
            Err(trouble) => {
                let words = format!("Failed to pull image {reference:?}: {}", trouble.message);
                events::record(&self.api, about, "Warning", "Failed", &words);
            }
        }
        pulled
    }

    pub(super) async fn plan(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        volumes: &Volumes,
        image: &Image,
        restarts: i64,
    ) -> Result<Start, Trouble> {
        let name = string(container, &["name"]);
        let log = self.container_folder(pod, name).join(format!("{restarts}.log"));
        let message = self.message_file(pod, name, restarts);
        let env = self.environment(running, pod, container, image)?;
        let strings = |list: &[Value]| -> Vec<String> {
            let texts = list.iter().filter_map(Value::as_str);
            texts.map(|text| super::environment::expand(text, &env)).collect()
        };
        let (command, arguments) = (items(container, &["command"]), items(container, &["args"]));
        let mut words = if command.is_empty() { image.entrypoint.clone() } else { strings(command) };
        if !arguments.is_empty() {
            words.extend(strings(arguments));
        } else if command.is_empty() {
            words.extend(image.command.clone());
        }
        if words.is_empty() {
            return Err(Trouble::new("RunContainerError", "no command specified"));
        }
        let mounts = self.mounts(running, pod, container, volumes, &message, &env).await?;
        let directory = match string(container, &["workingDir"]) {
            "" if image.working_dir.is_empty() => "/",
            "" => &image.working_dir,
            own => own,
        };
        let flag = |field: &str| at(container, &[field]).as_bool() == Some(true);
        Ok(Start {
            id: format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
            pod: meta::uid(pod).to_owned(),
            restart: Restart::Never,
            name: name.to_owned(),
            image: image.id.clone(),
            command: words,
            working_dir: directory.to_owned(),
            tty: flag("tty"),
            stdin: flag("stdin"),
            stdin_once: flag("stdinOnce"),
            mounts,
            security: security(pod, container, image),
            limits: limits(container),
            log,
            beside: match string(container, &["targetContainerName"]) {
                "" => None,
                target => Some(running.state(target).id).filter(|id| !id.is_empty()),
            },
            env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        })
    }
}

fn security(pod: &Value, container: &Value, image: &Image) -> Security {
    let own = at(container, &["securityContext"]);
    let shared = at(pod, &["spec", "securityContext"]);
    let field = |name: &str| [own, shared].into_iter().map(|c| at(c, &[name])).find(|v| !v.is_null());
    let user = match (field("runAsUser").and_then(Value::as_i64), field("runAsGroup").and_then(Value::as_i64))
    {
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (Some(user), None) => user.to_string(),
        (None, Some(group)) => {
            format!("{}:{group}", image.user.split(':').next().filter(|u| !u.is_empty()).unwrap_or("0"))
        }
        (None, None) => image.user.clone(),
    };
    let names =
        |path: &[&str]| items(own, path).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut groups: Vec<u32> = items(shared, &["supplementalGroups"])
        .iter()
        .filter_map(Value::as_u64)
        .filter_map(|g| g.try_into().ok())
        .collect();
    groups.extend(meta::number(shared, &["fsGroup"]).and_then(|g| u32::try_from(g).ok()));
    let flag = |name: &str| at(own, &[name]).as_bool();
    Security {
        user,
        groups,
        privileged: flag("privileged") == Some(true),
        add: names(&["capabilities", "add"]),
        drop: names(&["capabilities", "drop"]),
        read_only_root: flag("readOnlyRootFilesystem") == Some(true),
        no_new_privileges: flag("allowPrivilegeEscalation") == Some(false),
        must_not_be_root: field("runAsNonRoot").and_then(Value::as_bool) == Some(true),
    }
}

/// The limits of a container's cgroup, as the kubelet makes them from `resources`.
pub(super) fn limits(container: &Value) -> Limits {
    let amount = |list: &str, name: &str| string(container, &["resources", list, name]).to_owned();
    let cpu =
        |list: &str| d2k_quantity::thousandths(&amount(list, "cpu")).and_then(|v| i64::try_from(v).ok());
    Limits {
        memory: d2k_quantity::units(&amount("limits", "memory")),
        cpu_milli: cpu("limits"),
        cpu_shares: cpu("requests")
            .and_then(|milli| u64::try_from(milli.saturating_mul(1024) / 1000).ok())
            .map(|s| s.clamp(2, 262_144)),
        pids: Some(PIDS),
    }
}

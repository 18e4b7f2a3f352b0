//! The status of a Pod, from what its containers do (Kubernetes, "Pod Lifecycle").

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Kubelet;
use super::running::Running;
use super::state::{End, Phase, State};
use crate::conditions::set_condition;
use crate::kinds;
use crate::meta::{self, at, items, string};
use crate::verbs::Target;
use d2k_engine::Engine;

impl<E: Engine> Kubelet<E> {
    /// Writes the status whenever something changes.
    pub(super) async fn keep_reporting(&self, running: &Arc<Running>, uid: String) {
        let mut changed = running.changed.subscribe();
        loop {
            changed.borrow_and_update();
            self.report(running, &uid);
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes the status as it is now.
    pub(super) fn report(&self, running: &Running, uid: &str) {
        let target = Target::own(&kinds::POD, &running.key.0, &running.key.1).of("status");
        let written = self.api.modify(&target, |pod| {
            // One of the same name may have taken its place.
            if meta::uid(pod) == uid {
                // Read here: of two that write, the later one has the later news.
                let place = (self.options.address, self.runtime.as_str());
                write(pod, &running.states(), &running.ip(), running.failure(), place);
            }
        });
        if let Err(status) = written {
            tracing::warn!(
                pod = running.key.1,
                error = status.message,
                "the status of a Pod was not written"
            );
        }
    }
}

fn write(
    pod: &mut Value,
    states: &BTreeMap<String, State>,
    ip: &str,
    failure: Option<(&'static str, String)>,
    (host, runtime): (IpAddr, &str),
) {
    let over = matches!(string(pod, &["status", "phase"]), "Succeeded" | "Failed");
    let before = pod.clone();
    let policy = string(&before, &["spec", "restartPolicy"]);
    let state = |container: &Value| states.get(string(container, &["name"])).cloned().unwrap_or_default();
    let init = items(&before, &["spec", "initContainers"]);
    let main = items(&before, &["spec", "containers"]);
    let list = |containers: &[Value], init: bool| -> Vec<Value> {
        containers.iter().map(|c| status(c, &state(c), init, runtime)).collect()
    };
    let all: Vec<State> = main.iter().map(state).collect();
    let initialized = init.iter().all(|c| {
        let state = state(c);
        let side = string(c, &["restartPolicy"]) == "Always";
        if side { state.started } else { matches!(state.phase, Phase::Terminated(End { code: 0, .. })) }
    });
    let init_failed = policy == "Never"
        && init.iter().any(|c| matches!(&state(c).phase, Phase::Terminated(end) if end.code != 0));
    let running = |s: &State| matches!(s.phase, Phase::Running { .. });
    let phase = match phase(&all, policy, init_failed, meta::deleting(&before)) {
        _ if over => string(&before, &["status", "phase"]),
        _ if failure.is_some() => "Failed",
        // What is beside the main containers still ends.
        "Succeeded" | "Failed" if init.iter().any(|c| running(&state(c))) => "Running",
        phase => phase,
    };
    let side = init.iter().filter(|c| string(c, &["restartPolicy"]) == "Always");
    let ready = !all.is_empty() && all.iter().all(|s| s.ready) && side.map(state).all(|s| s.ready);
    let seen = meta::number(pod, &["metadata", "generation"]).unwrap_or(0);
    let status = meta::map(meta::child(pod, "status"));
    status.insert("observedGeneration".into(), seen.into());
    status.insert("phase".into(), phase.into());
    if let Some((reason, words)) = failure {
        status.insert("reason".into(), reason.into());
        status.insert("message".into(), words.into());
    }
    status.insert("hostIP".into(), json!(host));
    status.insert("hostIPs".into(), json!([{"ip": host}]));
    status.entry("startTime").or_insert_with(|| meta::now().into());
    if !ip.is_empty() {
        status.insert("podIP".into(), ip.into());
        status.insert("podIPs".into(), json!([{"ip": ip}]));
    }
    if !init.is_empty() {
        status.insert("initContainerStatuses".into(), list(init, true).into());
    }
    status.insert("containerStatuses".into(), list(main, false).into());
    let beside = items(&before, &["spec", "ephemeralContainers"]);
    if !beside.is_empty() {
        status.insert("ephemeralContainerStatuses".into(), list(beside, false).into());
    }
    let unready = main.iter().filter(|c| !state(c).ready);
    let unready: Vec<&str> = unready.map(|c| string(c, &["name"])).collect();
    let unready = format!("containers with unready status: [{}]", unready.join(" "));
    conditions(pod, phase, !ip.is_empty(), initialized, ready, &unready);
}

/// The conditions of a Pod in this phase.
fn conditions(pod: &mut Value, phase: &str, placed: bool, initialized: bool, ready: bool, unready: &str) {
    let (deleting, generation) = (meta::deleting(pod), at(pod, &["metadata", "generation"]).clone());
    let finished = matches!(phase, "Succeeded" | "Failed");
    let (reason, words) = match (ready, finished) {
        (true, _) => ("", ""),
        (false, true) if phase == "Succeeded" => ("PodCompleted", ""),
        (false, true) => ("PodFailed", ""),
        (false, false) => ("ContainersNotReady", unready),
    };
    set_condition(pod, "PodReadyToStartContainers", placed && !finished, "", "");
    let incomplete = if initialized {
        (if phase == "Succeeded" { "PodCompleted" } else { "" }, "")
    } else {
        ("ContainersNotInitialized", "containers with incomplete status")
    };
    set_condition(pod, "Initialized", initialized, incomplete.0, incomplete.1);
    set_condition(pod, "Ready", ready && !deleting, reason, words);
    set_condition(pod, "ContainersReady", ready, reason, words);
    if !generation.is_null() {
        let status = meta::map(meta::child(pod, "status"));
        for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            meta::map(condition).insert("observedGeneration".into(), generation.clone());
        }
        status.insert("observedGeneration".into(), generation);
    }
}

fn phase(states: &[State], policy: &str, init_failed: bool, deleting: bool) -> &'static str {
    let ended = |state: &State| match &state.phase {
        Phase::Terminated(end) if !state.again => Some(end.code),
        _ => None,
    };
    let again = |code: i32| !deleting && (policy == "Always" || (policy == "OnFailure" && code != 0));
    if init_failed {
        return "Failed";
    }
    let begun = states.iter().any(|s| !matches!(s.phase, Phase::Waiting { .. }) || s.last.is_some());
    let all_begun = states.iter().all(|s| !matches!(s.phase, Phase::Waiting { .. }) || s.last.is_some());
    if !begun || !all_begun {
        return "Pending";
    }
    let codes: Vec<i32> = states.iter().filter_map(ended).collect();
    if codes.len() < states.len() || codes.iter().any(|code| again(*code)) {
        return "Running";
    }
    if codes.iter().all(|code| *code == 0) { "Succeeded" } else { "Failed" }
}

fn terminated(end: &End, runtime: &str) -> Value {
    let mut made = json!({
        "exitCode": end.code, "reason": end.reason, "containerID": format!("{runtime}://{}", end.id),
        "startedAt": meta::seconds(end.started), "finishedAt": meta::seconds(end.finished),
    });
    if !end.message.is_empty() {
        meta::map(&mut made).insert("message".into(), end.message.as_str().into());
    }
    made
}

fn status(container: &Value, state: &State, init: bool, runtime: &str) -> Value {
    let now = match &state.phase {
        Phase::Waiting { reason, message } => {
            let mut waiting = json!({"reason": reason});
            if !message.is_empty() {
                meta::map(&mut waiting).insert("message".into(), message.as_str().into());
            }
            json!({"waiting": waiting})
        }
        Phase::Running { started } => json!({"running": {"startedAt": meta::seconds(*started)}}),
        Phase::Terminated(end) => json!({"terminated": terminated(end, runtime)}),
    };
    // An init container is ready when it has done its work.
    let side = string(container, &["restartPolicy"]) == "Always";
    let done = init && !side && matches!(state.phase, Phase::Terminated(End { code: 0, .. }));
    let last =
        state.last.as_ref().map_or_else(|| json!({}), |end| json!({"terminated": terminated(end, runtime)}));
    let mut made = json!({
        "name": string(container, &["name"]), "image": string(container, &["image"]), "imageID": state.image_id,
        "ready": state.ready || done, "started": state.started && matches!(state.phase, Phase::Running { .. }),
        "restartCount": state.restarts, "state": now, "lastState": last,
    });
    if !state.id.is_empty() {
        meta::map(&mut made).insert("containerID".into(), format!("{runtime}://{}", state.id).into());
    }
    if let (Some(resources), true) =
        (container.get("resources"), matches!(state.phase, Phase::Running { .. }))
    {
        meta::map(&mut made).insert("resources".into(), resources.clone());
    }
    made
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn ended(code: i32) -> State {
        let end = End {
            code,
            reason: String::new(),
            message: String::new(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            id: String::new(),
            log_since: Timestamp::UNIX_EPOCH,
        };
        State { phase: Phase::Terminated(end), ..State::default() }
    }

    #[test]
    fn a_pod_is_over_when_no_container_runs_again() {
        assert_eq!(phase(&[State::default()], "Always", false, false), "Pending");
        assert_eq!(phase(&[ended(0)], "Never", false, false), "Succeeded");
        assert_eq!(phase(&[ended(1), ended(0)], "Never", false, false), "Failed");
        assert_eq!(phase(&[ended(0)], "OnFailure", false, false), "Succeeded");
        assert_eq!(phase(&[ended(1)], "OnFailure", false, false), "Running");
        assert_eq!(phase(&[ended(0)], "Always", false, false), "Running");
        assert_eq!(phase(&[ended(3)], "Always", false, true), "Failed");
    }
}

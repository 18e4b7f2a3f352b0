//! `docker plugin`: the policies in use, as plugins that can be switched off and on. They are
//! installed by putting them into the policy folder, not by pulling.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};

use super::body::Json;
use super::error::{Error, page_not_found};
use super::query::Query;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_policy::component::Policy;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/plugins", get(list)).route("/plugins/{*rest}", any(one))
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response, Error> {
    let filters = query.filters()?;
    filters.check(&["enabled", "capability"])?;
    let enabled = filters.bool("enabled")?;
    let set = daemon.policies.current();
    let all = set.policies.iter().map(|p| (p, true)).chain(set.disabled.iter().map(|p| (p, false)));
    let wanted = all.filter(|(policy, on)| {
        enabled.is_none_or(|enabled| enabled == *on)
            && filters.any("capability", |capability| {
                hooks(policy)
                    .iter()
                    .any(|hook| hook == capability || hook.starts_with(&format!("{capability}/")))
            })
    });
    Ok(Json(wanted.map(|(policy, on)| plugin(policy, on)).collect::<Vec<_>>()).into_response())
}

async fn one(
    State(daemon): State<Arc<Daemon>>,
    method: Method,
    Path(rest): Path<String>,
) -> Result<Response, Error> {
    if matches!(rest.as_str(), "pull" | "create" | "privileges") {
        return Err(Fault::not_implemented(
            "d2k's plugins are its policies: put a component into the folder D2K_POLICY_DIR to install one",
        )
        .into());
    }
    let (name, verb) = match (&method, rest.rsplit_once('/')) {
        (&Method::DELETE, _) => (rest.as_str(), "remove"),
        (&Method::GET, Some((name, "json"))) => (name, "json"),
        (&Method::POST, Some((name, verb))) => (name, verb),
        _ => return Err(page_not_found()),
    };
    let set = daemon.policies.current();
    let all = set.policies.iter().map(|p| (p, true)).chain(set.disabled.iter().map(|p| (p, false)));
    let found = all.into_iter().find(|(policy, _)| is_called(policy, name));
    let Some((policy, on)) = found.map(|(policy, on)| (policy.clone(), on)) else {
        return Err(Fault::not_found(format!("plugin {name:?} not found")).into());
    };
    match verb {
        "json" => Ok(Json(plugin(&policy, on)).into_response()),
        "enable" | "disable" => {
            let wanted = verb == "enable";
            if on == wanted {
                let message = format!("plugin {name:?} is already {verb}d");
                return Err(Fault::conflict(message).into());
            }
            daemon.policies.switch(&policy.info.name, wanted)?;
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(Fault::not_implemented(format!(
            "policy {name} cannot be changed so: it is a file of the folder D2K_POLICY_DIR, its settings are in \
             settings.yaml there"
        ))
        .into()),
    }
}

/// By name, name and version, or the beginning of the ID, as Docker finds plugins.
fn is_called(policy: &Policy, key: &str) -> bool {
    let name = policy.info.name.as_str();
    key == name
        || key
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|tag| tag == policy.info.version || tag == "latest")
        || key.len() >= 6 && policy.digest.starts_with(key)
}

fn hooks(policy: &Policy) -> Vec<String> {
    policy.linked.hooks.list().into_iter().map(|hook| format!("d2k.{}/1.0", hook.name())).collect()
}

/// Docker's JSON of a plugin.
fn plugin(policy: &Policy, enabled: bool) -> Value {
    let info = &policy.info;
    let settings: Vec<String> =
        policy.effective_settings().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let env: Vec<Value> = info
        .settings
        .iter()
        .map(|s| json!({"Name": s.name, "Description": s.help, "Settable": null, "Value": s.default}))
        .collect();
    json!({
        "Id": policy.digest,
        "Name": format!("{}:{}", info.name, info.version),
        "Enabled": enabled,
        "Settings": {"Mounts": [], "Env": settings, "Args": [], "Devices": []},
        "PluginReference": policy.origin,
        "Config": {
            "Description": info.summary,
            "Documentation": "",
            "Interface": {"Types": hooks(policy), "Socket": ""},
            "Entrypoint": [],
            "WorkDir": "",
            "User": {},
            "Network": {"Type": "none"},
            "Linux": {"Capabilities": [], "AllowAllDevices": false, "Devices": []},
            "PropagatedMount": "",
            "IpcHost": false,
            "PidHost": false,
            "Mounts": [],
            "Env": env,
            "Args": {"Name": "", "Description": "", "Settable": null, "Value": null},
        },
    })
}

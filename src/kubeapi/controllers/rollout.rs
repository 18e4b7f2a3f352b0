//! How a Deployment goes from one revision to the next: all at once after the old one has ended
//! (`Recreate`), or in steps that keep enough Pods (`RollingUpdate`).

use std::sync::Arc;

use serde_json::Value;

use super::{Context, owners};
use crate::conditions;
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::verbs::Target;

/// Makes the ReplicaSet of the newest revision, with so many replicas.
type Make = fn(&Context, &Value, i64) -> Option<Arc<Value>>;

/// One step; the ReplicaSet of the newest revision, if there is one by then.
pub fn roll(
    context: &Context,
    deployment: &Value,
    new: Option<Arc<Value>>,
    old: &[Arc<Value>],
    make: Make,
) -> Option<Arc<Value>> {
    let wanted = meta::number(deployment, &["spec", "replicas"]).unwrap_or(1);
    if meta::string(deployment, &["spec", "strategy", "type"]) == "Recreate" {
        return recreate(context, deployment, new, old, make, wanted);
    }
    let surge = share(deployment, "maxSurge", wanted, true);
    let total: i64 =
        old.iter().map(|set| replicas(set)).sum::<i64>() + new.as_ref().map_or(0, |n| replicas(n));
    let least = surge.max(i64::from(unavailable(deployment, wanted) == 0));
    let room = wanted.saturating_add(least).saturating_sub(total).max(0);
    let new = match new {
        Some(new) => {
            let now = replicas(&new);
            let target = if now > wanted { wanted } else { now.saturating_add(room).min(wanted) };
            scale(context, deployment, &new, target)
        }
        None => {
            let first = if old.iter().all(|set| replicas(set) == 0) { wanted } else { room.min(wanted) };
            let made = make(context, deployment, first)?;
            told(context, deployment, &made, 0, first);
            made
        }
    };
    let available = |set: &Value| meta::number(set, &["status", "availableReplicas"]).unwrap_or(0);
    let least = wanted - unavailable(deployment, wanted);
    let all: i64 = old.iter().map(|set| replicas(set)).sum::<i64>() + replicas(&new);
    let missing_new = (replicas(&new) - available(&new)).max(0);
    let mut may_go = (all - least - missing_new).max(0);
    for set in old {
        // Those that are not available serve nobody.
        let idle = (replicas(set) - available(set)).max(0);
        let fewer = replicas(set).min(may_go.max(idle.min(may_go)));
        if fewer > 0 {
            scale(context, deployment, set, replicas(set) - fewer);
            may_go -= fewer;
        }
    }
    Some(new)
}

fn recreate(
    context: &Context,
    deployment: &Value,
    new: Option<Arc<Value>>,
    old: &[Arc<Value>],
    make: Make,
    wanted: i64,
) -> Option<Arc<Value>> {
    for set in old {
        scale(context, deployment, set, 0);
    }
    let runs = |set: &Arc<Value>| {
        let pods = owners::children(context, &kinds::POD, &kinds::REPLICA_SET, set);
        pods.iter().any(|pod| !conditions::is_over(pod))
    };
    if old.iter().any(runs) {
        return new;
    }
    match new {
        Some(new) => Some(scale(context, deployment, &new, wanted)),
        None => {
            let made = make(context, deployment, wanted)?;
            told(context, deployment, &made, 0, wanted);
            Some(made)
        }
    }
}

fn replicas(set: &Value) -> i64 {
    meta::number(set, &["spec", "replicas"]).unwrap_or(0)
}

fn scale(context: &Context, deployment: &Value, set: &Arc<Value>, wanted: i64) -> Arc<Value> {
    let now = replicas(set);
    if now == wanted {
        return set.clone();
    }
    let target = Target::own(&kinds::REPLICA_SET, meta::namespace(set), meta::name(set));
    let scaled = context.api.modify(&target, |set| {
        meta::map(meta::child(set, "spec")).insert("replicas".into(), wanted.into());
        let annotations = meta::child(meta::child(set, "metadata"), "annotations");
        note(deployment, meta::map(annotations));
    });
    match scaled {
        Ok(Some(scaled)) => {
            told(context, deployment, set, now, wanted);
            scaled
        }
        _ => set.clone(),
    }
}

/// How many Pods the Deployment has and may have, as its ReplicaSets say it.
pub fn note(deployment: &Value, annotations: &mut serde_json::Map<String, Value>) {
    let wanted = meta::number(deployment, &["spec", "replicas"]).unwrap_or(1);
    let rolling = meta::string(deployment, &["spec", "strategy", "type"]) != "Recreate";
    let surge = if rolling { share(deployment, "maxSurge", wanted, true) } else { 0 };
    let most = wanted.saturating_add(surge);
    let mut put = |name: &str, count: i64| {
        annotations.insert(format!("deployment.kubernetes.io/{name}-replicas"), count.to_string().into())
    };
    put("desired", wanted);
    put("max", most);
}

fn told(context: &Context, deployment: &Value, set: &Value, from: i64, to: i64) {
    if from == to {
        return;
    }
    let way = if to > from { "up" } else { "down" };
    let words = format!("Scaled {way} replica set {} from {from} to {to}", meta::name(set));
    events::record(
        &context.api,
        &About::new(deployment, "deployment-controller"),
        "Normal",
        "ScalingReplicaSet",
        &words,
    );
}

/// How many may be missing while it rolls.
pub fn unavailable(deployment: &Value, wanted: i64) -> i64 {
    if meta::string(deployment, &["spec", "strategy", "type"]) == "Recreate" {
        return 0;
    }
    share(deployment, "maxUnavailable", wanted, false).min(wanted)
}

/// A number, or a share of the replicas in percent.
fn share(deployment: &Value, field: &str, wanted: i64, up: bool) -> i64 {
    let value = meta::at(deployment, &["spec", "strategy", "rollingUpdate", field]);
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent: i64 = value.as_str().and_then(|text| text.strip_suffix('%')?.parse().ok()).unwrap_or(25);
    let hundredths = wanted.saturating_mul(percent);
    if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 }
}

//! Deployments: one ReplicaSet a revision of the template, and their status.

mod progress;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::owners;
use super::{Context, Controller, Key, key_of, rollout};
use crate::changes::Change;
use crate::conditions::set_condition;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Target};

/// The label that tells Pods of different revisions apart.
const HASH: &str = "pod-template-hash";
/// The annotation with the number of a revision.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// What `kubectl apply` remembers is not a ReplicaSet's.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The controller.
pub struct Deployments;

impl Controller for Deployments {
    const KINDS: &'static [&'static Kind] = &[&kinds::DEPLOYMENT, &kinds::REPLICA_SET, &kinds::POD];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        match kind.name {
            "Deployment" => vec![key_of(&change.object)],
            "ReplicaSet" => owners::controller_key(&change.object, "Deployment").into_iter().collect(),
            // The strategy Recreate waits until the last Pod of the old revision is gone.
            _ if change.action == crate::changes::Action::Deleted => {
                let Some((namespace, name)) = owners::controller_key(&change.object, "ReplicaSet") else {
                    return Vec::new();
                };
                let set = context.api.get(&kinds::REPLICA_SET, &namespace, &name);
                set.ok().and_then(|set| owners::controller_key(&set, "Deployment")).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::DEPLOYMENT;
        let deployment = context.api.get(of, &key.0, &key.1).ok()?;
        if meta::deleting(&deployment) {
            return None;
        }
        let sets = owners::children(context, &kinds::REPLICA_SET, of, &deployment);
        let template = meta::at(&deployment, &["spec", "template"]);
        let new =
            sets.iter().find(|set| same_template(meta::at(set, &["spec", "template"]), template)).cloned();
        let old: Vec<Arc<Value>> = sets
            .iter()
            .filter(|s| new.as_ref().is_none_or(|n| meta::uid(n) != meta::uid(s)))
            .cloned()
            .collect();
        let paused = meta::at(&deployment, &["spec", "paused"]).as_bool() == Some(true);
        let new = if paused { new } else { rollout::roll(context, &deployment, new, &old, make) };
        if let Some(new) = &new {
            number(context, &deployment, new, &old);
            follow(context, &deployment, new);
        }
        forget(context, &deployment, &old);
        write_status(context, key)
    }
}

fn same_template(set: &Value, wanted: &Value) -> bool {
    let strip = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        template
    };
    strip(set) == strip(wanted)
}

/// A number for a template, in letters that form no words.
pub(super) fn hash(template: &Value, collisions: i64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(format!("{template}{collisions}"));
    let letters = digest.iter().take(10).filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
    letters.map(|letter| char::from(*letter)).collect()
}

/// Makes the ReplicaSet of the newest revision.
fn make(context: &Context, deployment: &Value, replicas: i64) -> Option<Arc<Value>> {
    let of = &kinds::REPLICA_SET;
    let mut template = meta::at(deployment, &["spec", "template"]).clone();
    let collisions = meta::number(deployment, &["status", "collisionCount"]).unwrap_or(0);
    let hash = hash(&template, collisions);
    meta::map(meta::child(meta::child(&mut template, "metadata"), "labels"))
        .insert(HASH.into(), hash.as_str().into());
    let mut selector = meta::at(deployment, &["spec", "selector"]).clone();
    meta::map(meta::child(&mut selector, "matchLabels")).insert(HASH.into(), hash.as_str().into());
    let name = format!("{}-{hash}", meta::name(deployment));
    let mut annotations =
        meta::at(deployment, &["metadata", "annotations"]).as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && !key.starts_with("deployment.kubernetes.io/"));
    rollout::note(deployment, &mut annotations);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": name, "labels": meta::at(&template, &["metadata", "labels"]), "annotations": annotations,
            "ownerReferences": [owners::reference(&kinds::DEPLOYMENT, deployment)],
        },
        "spec": {
            "replicas": replicas, "minReadySeconds": least_ready(deployment), "selector": selector, "template": template,
        },
    });
    match context.api.create(&Target::own(of, meta::namespace(deployment), ""), set) {
        Ok(made) => Some(made.object),
        Err(status) if status.code == 409 => {
            let there = context.api.get(of, meta::namespace(deployment), &name).ok();
            let ours = there
                .as_ref()
                .and_then(|set| meta::controller(set))
                .is_some_and(|c| meta::string(c, &["uid"]) == meta::uid(deployment));
            if !ours {
                // Another one has the name: the next hash differs.
                let target =
                    Target::own(&kinds::DEPLOYMENT, meta::namespace(deployment), meta::name(deployment));
                let _ = context.api.modify(&target.of("status"), |deployment| {
                    meta::map(meta::child(deployment, "status"))
                        .insert("collisionCount".into(), collisions.saturating_add(1).into());
                });
            }
            None
        }
        Err(status) => {
            let target = Target::own(&kinds::DEPLOYMENT, meta::namespace(deployment), meta::name(deployment));
            let _ = context.api.modify(&target.of("status"), |deployment| {
                set_condition(deployment, "Progressing", false, "ReplicaSetCreateError", &status.message);
            });
            None
        }
    }
}

/// The newest revision has the highest number, also one that has come back.
fn number(context: &Context, deployment: &Value, new: &Value, old: &[Arc<Value>]) {
    let revision =
        |set: &Value| meta::string(set, &["metadata", "annotations", REVISION]).parse::<i64>().unwrap_or(0);
    let highest = old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let wanted = if revision(new) > highest { revision(new) } else { highest.saturating_add(1) };
    let write = |kind, object: &Value| {
        if revision(object) == wanted {
            return;
        }
        let target = Target::own(kind, meta::namespace(object), meta::name(object));
        let _ = context.api.modify(&target, |object| {
            let annotations = meta::child(meta::child(object, "metadata"), "annotations");
            meta::map(annotations).insert(REVISION.into(), wanted.to_string().into());
        });
    };
    write(&kinds::REPLICA_SET, new);
    write(&kinds::DEPLOYMENT, deployment);
}

/// How long a Pod must have been ready to count, seconds.
fn least_ready(deployment: &Value) -> i64 {
    meta::number(deployment, &["spec", "minReadySeconds"]).unwrap_or(0)
}

/// The newest revision counts its Pods as the Deployment does.
fn follow(context: &Context, deployment: &Value, new: &Value) {
    if least_ready(new) == least_ready(deployment) {
        return;
    }
    let target = Target::own(&kinds::REPLICA_SET, meta::namespace(new), meta::name(new));
    let _ = context.api.modify(&target, |set| {
        meta::map(meta::child(set, "spec")).insert("minReadySeconds".into(), least_ready(deployment).into());
    });
}

/// Old revisions beyond the limit go.
fn forget(context: &Context, deployment: &Value, old: &[Arc<Value>]) {
    let limit = meta::number(deployment, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
    let mut idle: Vec<&Arc<Value>> = old
        .iter()
        .filter(|set| {
            meta::number(set, &["spec", "replicas"]) == Some(0)
                && meta::number(set, &["status", "replicas"]).unwrap_or(0) == 0
                && !meta::deleting(set)
        })
        .collect();
    idle.sort_by_key(|set| meta::text(set, "creationTimestamp").to_owned());
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for set in idle.into_iter().take(surplus) {
        let target = Target::own(&kinds::REPLICA_SET, meta::namespace(set), meta::name(set));
        let _ = context.api.delete(&target, &DeleteOptions::default());
    }
}

fn write_status(context: &Context, key: &Key) -> Option<Duration> {
    let of = &kinds::DEPLOYMENT;
    let deployment = context.api.get(of, &key.0, &key.1).ok()?;
    let sets = owners::children(context, &kinds::REPLICA_SET, of, &deployment);
    let template = meta::at(&deployment, &["spec", "template"]);
    let sum = |field: &str, only_new: bool| -> i64 {
        sets.iter()
            .filter(|set| !only_new || same_template(meta::at(set, &["spec", "template"]), template))
            .filter_map(|set| meta::number(set, &["status", field]))
            .sum()
    };
    let (total, updated) = (sum("replicas", false), sum("replicas", true));
    let (ready, available) = (sum("readyReplicas", false), sum("availableReplicas", false));
    let wanted = meta::number(&deployment, &["spec", "replicas"]).unwrap_or(1);
    let failure = sets.iter().find_map(|set| {
        let all = meta::items(set, &["status", "conditions"]);
        all.iter()
            .find(|c| meta::string(c, &["type"]) == "ReplicaFailure")
            .map(|c| meta::string(c, &["message"]).to_owned())
    });
    let newest = sets.iter().find(|s| same_template(meta::at(s, &["spec", "template"]), template));
    let newest = newest.map(|set| meta::name(set).to_owned()).unwrap_or_default();
    let mut again = None;
    let _ = context.api.modify(&Target::own(of, &key.0, &key.1).of("status"), |deployment| {
        let before = meta::at(deployment, &["status"]).clone();
        let observed = meta::number(deployment, &["metadata", "generation"]).unwrap_or(0);
        let status = meta::map(meta::child(deployment, "status"));
        let mut set = |field: &str, value: i64| match value {
            0 => drop(status.remove(field)),
            value => drop(status.insert(field.to_owned(), value.into())),
        };
        set("replicas", total);
        set("updatedReplicas", updated);
        set("readyReplicas", ready);
        set("availableReplicas", available);
        set("unavailableReplicas", (wanted.max(total) - available).max(0));
        set("observedGeneration", observed);
        let enough = available >= wanted - rollout::unavailable(deployment, wanted);
        let (reason, words) = if enough {
            ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set_condition(deployment, "Available", enough, reason, words);
        let complete = updated == wanted && total == updated && available >= wanted;
        again = progress::note(deployment, &before, &newest, complete);
        match &failure {
            Some(words) => set_condition(deployment, "ReplicaFailure", true, "FailedCreate", words),
            None => {
                if let Some(all) = deployment.pointer_mut("/status/conditions").and_then(Value::as_array_mut)
                {
                    all.retain(|c| meta::string(c, &["type"]) != "ReplicaFailure");
                }
            }
        }
    });
    again
}

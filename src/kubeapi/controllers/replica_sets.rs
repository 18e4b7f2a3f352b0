//! ReplicaSets: as many Pods as they want.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::owners;
use super::{Context, Controller, Key, key_of};
use crate::changes::Change;
use crate::conditions::{self, is_active};
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::status::{Result, Status};
use crate::verbs::{DeleteOptions, Target};

/// Pods that one look makes at most: the next one goes on, and others have their turn between. Kubernetes calls it a burst.
pub const BURST: usize = 100;
/// When a Pod that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The controller.
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    const KINDS: &'static [&'static Kind] = &[&kinds::REPLICA_SET, &kinds::POD];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "ReplicaSet" {
            return vec![key_of(&change.object)];
        }
        owners::keys_for(context, &kinds::REPLICA_SET, &change.object)
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::REPLICA_SET;
        let set = context.api.get(of, &key.0, &key.1).ok()?;
        let pods = owners::children(context, &kinds::POD, of, &set);
        let active: Vec<Arc<Value>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let wanted = meta::number(&set, &["spec", "replicas"]).unwrap_or(1).max(0);
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let mut failure = None;
        if !meta::deleting(&set) {
            if active.len() < wanted {
                failure = (active.len()..wanted).take(BURST).find_map(|_| make(context, &set).err());
            } else {
                for pod in surplus(active.clone(), wanted) {
                    end(context, &set, &pod);
                }
            }
        }
        let again = write_status(context, &set, failure.as_ref());
        if failure.is_some() { Some(again.map_or(AGAIN, |again| again.min(AGAIN))) } else { again }
    }
}

/// The Pods that go first: not ready ones, then the youngest.
fn surplus(mut active: Vec<Arc<Value>>, wanted: usize) -> Vec<Arc<Value>> {
    active.sort_by_key(|pod| (!conditions::is_ready(pod), meta::text(pod, "creationTimestamp").to_owned()));
    active.sort_by_key(|pod| !conditions::is_ready(pod));
    active.split_off(wanted.min(active.len()))
}

fn make(context: &Context, set: &Value) -> Result<()> {
    let of = &kinds::REPLICA_SET;
    let pod = pod_of(of, set, meta::at(set, &["spec", "template"]), &format!("{}-", meta::name(set)));
    let made = context.api.create(&Target::own(&kinds::POD, meta::namespace(set), ""), pod);
    let about = About::new(set, "replicaset-controller");
    match made {
        Ok(made) => {
            let words = format!("Created pod: {}", meta::name(&made.object));
            events::record(&context.api, &about, "Normal", "SuccessfulCreate", &words);
            Ok(())
        }
        Err(status) => {
            let words = format!("Error creating: {}", status.message);
            events::record(&context.api, &about, "Warning", "FailedCreate", &words);
            Err(status)
        }
    }
}

/// A Pod of a template.
pub fn pod_of(kind: &Kind, owner: &Value, template: &Value, prefix: &str) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template.get("spec").cloned().unwrap_or(Value::Null)});
    let mut metadata = json!({"generateName": prefix, "ownerReferences": [owners::reference(kind, owner)]});
    for field in ["labels", "annotations", "finalizers"] {
        let value = meta::at(template, &["metadata", field]);
        if !value.is_null() {
            meta::map(&mut metadata).insert(field.to_owned(), value.clone());
        }
    }
    meta::map(&mut pod).insert("metadata".into(), metadata);
    pod
}

fn end(context: &Context, set: &Value, pod: &Value) {
    let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
    if context.api.delete(&target, &DeleteOptions::default()).is_ok() {
        let words = format!("Deleted pod: {}", meta::name(pod));
        let about = About::new(set, "replicaset-controller");
        events::record(&context.api, &about, "Normal", "SuccessfulDelete", &words);
    }
}

/// Writes the status; when a Pod that is ready will be available.
fn write_status(context: &Context, set: &Value, failure: Option<&Status>) -> Option<Duration> {
    let of = &kinds::REPLICA_SET;
    let pods = owners::children(context, &kinds::POD, of, set);
    let active: Vec<&Arc<Value>> = pods.iter().filter(|pod| is_active(pod)).collect();
    let ready = active.iter().filter(|pod| conditions::is_ready(pod)).count();
    let least = meta::number(set, &["spec", "minReadySeconds"]).unwrap_or(0);
    let waits: Vec<Duration> = active.iter().filter_map(|pod| conditions::available_in(pod, least)).collect();
    let available = waits.iter().filter(|left| left.is_zero()).count();
    let target = Target::own(of, meta::namespace(set), meta::name(set)).of("status");
    let done = context.api.modify(&target, |set| {
        let observed = meta::number(set, &["metadata", "generation"]).unwrap_or(0);
        let status = meta::map(meta::child(set, "status"));
        status.insert("replicas".into(), active.len().into());
        status.insert("fullyLabeledReplicas".into(), active.len().into());
        status.insert("readyReplicas".into(), ready.into());
        status.insert("availableReplicas".into(), available.into());
        status.insert("observedGeneration".into(), observed.into());
        for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            if status.get(field).and_then(Value::as_u64) == Some(0) {
                status.remove(field);
            }
        }
        match failure {
            Some(status) => {
                conditions::set_condition(set, "ReplicaFailure", true, "FailedCreate", &status.message);
            }
            None => {
                let conditions = meta::child(meta::child(set, "status"), "conditions");
                match conditions.as_array_mut() {
                    Some(all) => all.retain(|c| meta::string(c, &["type"]) != "ReplicaFailure"),
                    None => *conditions = Value::Null,
                }
                if conditions.as_array().is_none_or(Vec::is_empty) {
                    meta::map(meta::child(set, "status")).remove("conditions");
                }
            }
        }
    });
    if let Err(status) = done {
        tracing::debug!(
            set = meta::name(set),
            error = status.message,
            "the status of a ReplicaSet was not written"
        );
    }
    waits.into_iter().filter(|left| !left.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{be_ready, context, make as create, names};

    #[test]
    fn a_pod_that_is_ready_counts_when_it_has_been_so_long_enough() {
        for (least, available) in [(0, json!(1)), (600, Value::Null)] {
            let context = context();
            let set = json!({"metadata": {"name": "web"}, "spec": {
                "replicas": 1, "minReadySeconds": least, "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            }});
            create(&context, &kinds::REPLICA_SET, set);
            let key = ("default".to_owned(), "web".to_owned());
            ReplicaSets.reconcile(&context, &key);
            be_ready(&context, &names(&context, &kinds::POD)[0]);
            let again = ReplicaSets.reconcile(&context, &key);
            assert_eq!(again.is_some_and(|again| again > Duration::from_secs(590)), least > 0, "{again:?}");
            let set = context.api.get(&kinds::REPLICA_SET, "default", "web").unwrap();
            assert_eq!(
                (&set["status"]["readyReplicas"], &set["status"]["availableReplicas"]),
                (&json!(1), &available)
            );
        }
    }
}

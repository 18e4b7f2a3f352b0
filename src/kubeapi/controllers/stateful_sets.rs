//! StatefulSets: Pods with numbers, names and claims that stay, made and ended in order, and their status.

mod claims;
mod members;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Context, Controller, Key, key_of, owners, revisions};
use crate::changes::{Action, Change};
use crate::conditions;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::Target;

/// Where a revision has its hash.
const HASH: &str = "controller.kubernetes.io/hash";
/// When a Pod that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The controller.
pub struct StatefulSets;

impl Controller for StatefulSets {
    const KINDS: &'static [&'static Kind] =
        &[&kinds::STATEFUL_SET, &kinds::POD, &kinds::CONTROLLER_REVISION, &kinds::PERSISTENT_VOLUME_CLAIM];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        match kind.name {
            "StatefulSet" => vec![key_of(&change.object)],
            // A Pod waits until an old claim of its name is gone.
            "PersistentVolumeClaim" if change.action != Action::Deleted => Vec::new(),
            "PersistentVolumeClaim" => {
                let sets = context.api.list(&kinds::STATEFUL_SET, meta::namespace(&change.object)).items;
                sets.iter().filter(|set| claims::has(set)).map(|set| key_of(set)).collect()
            }
            _ => owners::keys_for(context, &kinds::STATEFUL_SET, &change.object),
        }
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::STATEFUL_SET;
        let set = context.api.get(of, &key.0, &key.1).ok()?;
        if meta::deleting(&set) {
            return None;
        }
        let all = revisions::all(context, of, &set);
        let Some(update) = revisions::newest(context, of, &set, HASH, &all) else { return Some(AGAIN) };
        let named = meta::string(&set, &["status", "currentRevision"]);
        let current = all.iter().find(|one| meta::name(one) == named).unwrap_or(&update).clone();
        let pods = pods(context, &set);
        let used: Vec<String> = pods.values().map(|pod| members::revision(pod).to_owned()).collect();
        let work = steps::Work { context, set: &set, pods, current: &current, update: &update };
        let failed = work.step().is_err();
        let again = write_status(context, key, meta::name(&current), meta::name(&update));
        revisions::forget(context, &set, &all, |revision| {
            let name = meta::name(revision);
            [&current, &update].iter().any(|one| meta::name(one) == name)
                || used.iter().any(|one| one == name)
        });
        if failed { Some(again.map_or(AGAIN, |again| again.min(AGAIN))) } else { again }
    }
}

/// The name of the Pod of a number.
fn pod_name(set: &Value, ordinal: i64) -> String {
    format!("{}-{ordinal}", meta::name(set))
}

/// The Pods of a set by their numbers.
fn pods(context: &Context, set: &Value) -> BTreeMap<i64, Arc<Value>> {
    let fits = |pod: &Value| members::ordinal(set, pod).is_some();
    let all = owners::children_that(context, &kinds::POD, &kinds::STATEFUL_SET, set, fits);
    all.into_iter().filter_map(|pod| Some((members::ordinal(set, &pod)?, pod))).collect()
}

/// Writes the status; when a Pod that is ready will be available.
fn write_status(context: &Context, key: &Key, current: &str, update: &str) -> Option<Duration> {
    let of = &kinds::STATEFUL_SET;
    let set = context.api.get(of, &key.0, &key.1).ok()?;
    let pods = pods(context, &set);
    let least = meta::number(&set, &["spec", "minReadySeconds"]).unwrap_or(0);
    let ready: Vec<&Arc<Value>> = pods.values().filter(|pod| members::is_ready(pod)).collect();
    let available = ready.iter().filter(|pod| conditions::is_available(pod, least)).count();
    let of_revision = |name: &str| {
        pods.values().filter(|pod| !meta::deleting(pod) && members::revision(pod) == name).count()
    };
    let (of_current, of_update) = (of_revision(current), of_revision(update));
    let wanted = usize::try_from(meta::number(&set, &["spec", "replicas"]).unwrap_or(1)).unwrap_or(0);
    let rolls = meta::string(&set, &["spec", "updateStrategy", "type"]) == "RollingUpdate";
    let complete = rolls && [of_update, ready.len(), pods.len()].iter().all(|count| *count == wanted);
    let (current, of_current) = if complete { (update, of_update) } else { (current, of_current) };
    let _ = context.api.modify(&Target::own(of, &key.0, &key.1).of("status"), |set| {
        let observed = meta::number(set, &["metadata", "generation"]).unwrap_or(0);
        let status = meta::map(meta::child(set, "status"));
        status.insert("observedGeneration".into(), observed.into());
        status.insert("currentRevision".into(), current.into());
        status.insert("updateRevision".into(), update.into());
        status.entry("collisionCount").or_insert_with(|| 0.into());
        for (field, count) in [
            ("replicas", pods.len()),
            ("readyReplicas", ready.len()),
            ("availableReplicas", available),
            ("currentReplicas", of_current),
            ("updatedReplicas", of_update),
        ] {
            status.insert(field.into(), count.into());
        }
    });
    let waits = ready.iter().filter_map(|pod| conditions::available_in(pod, least));
    waits.filter(|left| !left.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::{be_ready, context, make, names};

    fn set(more: Value) -> Value {
        let mut set = json!({"metadata": {"name": "web"}, "spec": {
            "replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        }});
        meta::map(&mut set["spec"]).extend(more.as_object().cloned().unwrap_or_default());
        set
    }

    fn key() -> Key {
        ("default".to_owned(), "web".to_owned())
    }

    fn look(context: &Context) -> Option<Duration> {
        StatefulSets.reconcile(context, &key())
    }

    fn change(context: &Context, change: impl FnOnce(&mut Value)) {
        context.api.modify(&Target::own(&kinds::STATEFUL_SET, "default", "web"), change).unwrap();
    }

    fn status(context: &Context, field: &str) -> Value {
        context.api.get(&kinds::STATEFUL_SET, "default", "web").unwrap()["status"][field].clone()
    }

    /// Looks until all Pods are there and ready.
    fn settle(context: &Context) {
        for _ in 0..10 {
            look(context);
            for pod in names(context, &kinds::POD) {
                be_ready(context, &pod);
            }
        }
    }

    #[test]
    fn pods_are_made_one_after_the_other() {
        let context = context();
        make(&context, &kinds::STATEFUL_SET, set(json!({})));
        look(&context);
        look(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-0"]);
        be_ready(&context, "web-0");
        look(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-0", "web-1"]);
        settle(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-0", "web-1", "web-2"]);
        for field in ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"]
        {
            assert_eq!(status(&context, field), 3, "{field}");
        }
        assert_eq!(status(&context, "collisionCount"), 0);
        assert_eq!(status(&context, "currentRevision"), status(&context, "updateRevision"));
    }

    #[test]
    fn parallel_pods_are_made_at_once() {
        let context = context();
        let more = json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 4}});
        make(&context, &kinds::STATEFUL_SET, set(more));
        look(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-4", "web-5", "web-6"]);
    }

    #[test]
    fn surplus_pods_end_from_the_highest_and_leave_their_claims() {
        let context = context();
        let claim = json!({"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
        }});
        make(&context, &kinds::STATEFUL_SET, set(json!({"volumeClaimTemplates": [claim]})));
        settle(&context);
        change(&context, |set| set["spec"]["replicas"] = 1.into());
        look(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-0", "web-1"]);
        look(&context);
        assert_eq!(names(&context, &kinds::POD), ["web-0"]);
        let claims = names(&context, &kinds::PERSISTENT_VOLUME_CLAIM);
        assert_eq!(claims, ["data-web-0", "data-web-1", "data-web-2"]);
    }

    #[test]
    fn a_new_template_reaches_the_pods_above_the_partition() {
        let context = context();
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        make(&context, &kinds::STATEFUL_SET, set(json!({"updateStrategy": strategy})));
        settle(&context);
        let image = |context: &Context, pod: &str| {
            let pod = context.api.get(&kinds::POD, "default", pod).unwrap();
            pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
        };
        change(&context, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into());
        settle(&context);
        assert_eq!(["web-0", "web-1", "web-2"].map(|pod| image(&context, pod)), ["i:1", "i:1", "i:2"]);
        assert_eq!(names(&context, &kinds::CONTROLLER_REVISION).len(), 2);
        assert_eq!(
            (status(&context, "currentReplicas"), status(&context, "updatedReplicas")),
            (2.into(), 1.into())
        );
        change(&context, |set| set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0.into());
        settle(&context);
        assert_eq!(["web-0", "web-1", "web-2"].map(|pod| image(&context, pod)), ["i:2", "i:2", "i:2"]);
        assert_eq!(status(&context, "currentRevision"), status(&context, "updateRevision"));
    }

    #[test]
    fn pods_of_an_old_template_stay_until_somebody_deletes_them() {
        let context = context();
        make(&context, &kinds::STATEFUL_SET, set(json!({"updateStrategy": {"type": "OnDelete"}})));
        settle(&context);
        change(&context, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into());
        settle(&context);
        assert_eq!(status(&context, "updatedReplicas"), Value::Null);
        let target = Target::own(&kinds::POD, "default", "web-1");
        context.api.delete(&target, &crate::verbs::DeleteOptions::default()).unwrap();
        settle(&context);
        assert_eq!(status(&context, "updatedReplicas"), 1);
    }

    #[test]
    fn the_next_pod_waits_for_the_seconds_that_the_one_before_must_be_ready() {
        let context = context();
        make(&context, &kinds::STATEFUL_SET, set(json!({"minReadySeconds": 600})));
        look(&context);
        be_ready(&context, "web-0");
        let again = look(&context).unwrap();
        assert!(again > Duration::from_secs(590), "{again:?}");
        assert_eq!(names(&context, &kinds::POD), ["web-0"]);
    }
}

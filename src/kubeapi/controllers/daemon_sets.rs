//! DaemonSets: one Pod on the Node, if it may run there, and their status.

mod pods;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Context, Controller, Key, key_of, owners, revisions, scheduler};
use crate::changes::Change;
use crate::conditions;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::Target;

/// Where a revision and its Pods have its hash.
const HASH: &str = "controller-revision-hash";
/// When what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The controller.
pub struct DaemonSets;

impl Controller for DaemonSets {
    const KINDS: &'static [&'static Kind] =
        &[&kinds::DAEMON_SET, &kinds::POD, &kinds::CONTROLLER_REVISION, &kinds::NODE];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        let of = &kinds::DAEMON_SET;
        match kind.name {
            "DaemonSet" => vec![key_of(&change.object)],
            // Its status changes all the time, and does not matter.
            "Node" if change.previous.as_ref().is_some_and(|before| is_same(before, &change.object)) => {
                Vec::new()
            }
            "Node" => context.api.list(of, "").items.iter().map(|set| key_of(set)).collect(),
            _ => owners::keys_for(context, of, &change.object),
        }
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::DAEMON_SET;
        let set = context.api.get(of, &key.0, &key.1).ok()?;
        let node = context.api.get(&kinds::NODE, "", &context.node).ok()?;
        if meta::deleting(&set) {
            return None;
        }
        let all = revisions::all(context, of, &set);
        let Some(newest) = revisions::newest(context, of, &set, HASH, &all) else { return Some(AGAIN) };
        let hash = hash(&newest);
        let place = place(&set, &node);
        let pods = pods(context, &set);
        let used: Vec<String> = pods.iter().map(|pod| self::hash(pod).to_owned()).collect();
        let work = steps::Work { context, set: &set, pods, hash, place };
        let done = work.step();
        let again = write_status(context, key, hash, place);
        revisions::forget(context, &set, &all, |revision| {
            let own = self::hash(revision);
            own == hash || used.iter().any(|one| one == own)
        });
        if done.is_ok_and(|done| done) { again } else { Some(again.map_or(AGAIN, |again| again.min(AGAIN))) }
    }
}

/// The hash of a revision, or of the one that a Pod was made of.
fn hash(object: &Value) -> &str {
    meta::string(object, &["metadata", "labels", HASH])
}

fn is_same(before: &Value, now: &Value) -> bool {
    [&["metadata", "labels"][..], &["spec"]].iter().all(|path| meta::at(before, path) == meta::at(now, path))
}

/// Whether a set may have a Pod on the Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// A new one may come.
    runs: bool,
    /// One that is there may stay.
    stays: bool,
}

fn place(set: &Value, node: &Value) -> Place {
    let pod = pods::simulated(set);
    let named = meta::string(&pod, &["spec", "nodeName"]);
    let here = named.is_empty() || named == meta::name(node);
    let selected = here && scheduler::is_selected(&pod, node);
    let tolerates = |effects: &[&str]| scheduler::untolerated(&pod, node, effects).is_none();
    Place {
        runs: selected && tolerates(&["NoSchedule", "NoExecute"]),
        stays: selected && tolerates(&["NoExecute"]),
    }
}

/// The Pods of a set, the oldest first.
fn pods(context: &Context, set: &Value) -> Vec<Arc<Value>> {
    let mut pods = owners::children(context, &kinds::POD, &kinds::DAEMON_SET, set);
    pods.sort_by_key(|pod| {
        let version: u64 = meta::text(pod, "resourceVersion").parse().unwrap_or(0);
        (meta::text(pod, "creationTimestamp").to_owned(), version)
    });
    pods
}

/// Writes the status; when a Pod that is ready will be available.
fn write_status(context: &Context, key: &Key, hash: &str, place: Place) -> Option<Duration> {
    let of = &kinds::DAEMON_SET;
    let set = context.api.get(of, &key.0, &key.1).ok()?;
    let least = meta::number(&set, &["spec", "minReadySeconds"]).unwrap_or(0);
    let pods = pods(context, &set);
    let first = pods.first();
    let counted = first.filter(|_| place.runs);
    let count = |holds: bool| i64::from(holds);
    let left = counted.and_then(|pod| conditions::available_in(pod, least));
    let available = count(left.is_some_and(|left| left.is_zero()));
    let _ = context.api.modify(&Target::own(of, &key.0, &key.1).of("status"), |set| {
        let observed = meta::number(set, &["metadata", "generation"]).unwrap_or(0);
        let status = meta::map(meta::child(set, "status"));
        for (field, number) in [
            ("observedGeneration", observed),
            ("desiredNumberScheduled", count(place.runs)),
            ("currentNumberScheduled", count(counted.is_some())),
            ("numberMisscheduled", count(first.is_some() && !place.runs)),
            ("numberReady", count(counted.is_some_and(|pod| conditions::is_ready(pod)))),
            ("updatedNumberScheduled", count(counted.is_some_and(|pod| self::hash(pod) == hash))),
            ("numberAvailable", available),
            ("numberUnavailable", count(place.runs) - available),
        ] {
            status.insert(field.to_owned(), number.into());
        }
    });
    left.filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::{be_ready, context, make, names};

    fn set(more: Value) -> Value {
        let mut set = json!({"metadata": {"name": "agent"}, "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        }});
        meta::map(&mut set["spec"]).extend(more.as_object().cloned().unwrap_or_default());
        set
    }

    fn look(context: &Context) {
        DaemonSets.reconcile(context, &("default".to_owned(), "agent".to_owned()));
    }

    fn change(context: &Context, change: impl FnOnce(&mut Value)) {
        context.api.modify(&Target::own(&kinds::DAEMON_SET, "default", "agent"), change).unwrap();
    }

    fn change_image(context: &Context) {
        change(context, |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into());
    }

    fn change_node(context: &Context, change: impl FnOnce(&mut Value)) {
        context.api.modify(&Target::own(&kinds::NODE, "", "node"), change).unwrap();
    }

    fn status(context: &Context, field: &str) -> Value {
        context.api.get(&kinds::DAEMON_SET, "default", "agent").unwrap()["status"][field].clone()
    }

    fn only(context: &Context) -> Arc<Value> {
        let all = context.api.list(&kinds::POD, "default").items;
        assert_eq!(all.len(), 1);
        all[0].clone()
    }

    #[test]
    fn one_pod_is_made_for_the_node() {
        let context = context();
        make(&context, &kinds::DAEMON_SET, set(json!({})));
        look(&context);
        look(&context);
        let pod = only(&context);
        assert_eq!(pod["metadata"]["labels"]["pod-template-generation"], "1");
        be_ready(&context, meta::name(&pod));
        look(&context);
        for field in [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ] {
            assert_eq!(status(&context, field), 1, "{field}");
        }
        assert_eq!(status(&context, "numberMisscheduled"), 0);
    }

    #[test]
    fn a_node_that_the_selector_does_not_take_gets_none() {
        let context = context();
        make(&context, &kinds::DAEMON_SET, set(json!({})));
        look(&context);
        change(&context, |set| {
            set["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "slow"});
        });
        look(&context);
        assert!(names(&context, &kinds::POD).is_empty());
        assert_eq!(status(&context, "desiredNumberScheduled"), 0);
        change_node(&context, |node| node["metadata"]["labels"]["disk"] = "slow".into());
        look(&context);
        only(&context);
    }

    #[test]
    fn a_taint_that_is_not_tolerated_keeps_new_pods_away_and_ends_those_that_must_not_run() {
        let context = context();
        make(&context, &kinds::DAEMON_SET, set(json!({})));
        look(&context);
        let taint = |effect: &str| json!([{"key": "k", "value": "v", "effect": effect}]);
        change_node(&context, |node| node["spec"]["taints"] = taint("NoSchedule"));
        look(&context);
        only(&context);
        assert_eq!(status(&context, "numberMisscheduled"), 1);
        change_node(&context, |node| node["spec"]["taints"] = taint("NoExecute"));
        look(&context);
        assert!(names(&context, &kinds::POD).is_empty());
    }

    #[test]
    fn a_new_template_ends_the_old_pod_first() {
        let context = context();
        make(&context, &kinds::DAEMON_SET, set(json!({})));
        look(&context);
        let before = only(&context);
        be_ready(&context, meta::name(&before));
        change_image(&context);
        look(&context);
        assert!(names(&context, &kinds::POD).is_empty());
        look(&context);
        assert_eq!(only(&context)["spec"]["containers"][0]["image"], "i:2");
        assert_eq!(names(&context, &kinds::CONTROLLER_REVISION).len(), 2);
    }

    #[test]
    fn a_surge_makes_the_new_pod_first() {
        let context = context();
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        make(&context, &kinds::DAEMON_SET, set(json!({"updateStrategy": rolling})));
        look(&context);
        be_ready(&context, meta::name(&only(&context)));
        change_image(&context);
        look(&context);
        look(&context);
        let both = names(&context, &kinds::POD);
        assert_eq!(both.len(), 2);
        both.iter().for_each(|pod| be_ready(&context, pod));
        look(&context);
        assert_eq!(only(&context)["spec"]["containers"][0]["image"], "i:2");
    }

    #[test]
    fn a_pod_of_an_old_template_stays_until_somebody_deletes_it() {
        let context = context();
        make(&context, &kinds::DAEMON_SET, set(json!({"updateStrategy": {"type": "OnDelete"}})));
        look(&context);
        change_image(&context);
        look(&context);
        assert_eq!(only(&context)["spec"]["containers"][0]["image"], "i:1");
        assert_eq!(status(&context, "updatedNumberScheduled"), Value::Null);
    }
}

//! Delete: grace periods of Pods, finalizers, preconditions, and what becomes of dependents.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Target};
use crate::meta;
use crate::status::{Result, Status};
use crate::store::Write;

/// What a delete is asked to do (`DeleteOptions`, meta/v1).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Seconds, for Pods.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents.
    pub propagation_policy: Option<Propagation>,
    /// The old way to say so.
    pub orphan_dependents: Option<bool>,
    /// What the object must be.
    pub preconditions: Option<Preconditions>,
    /// `All`: nothing is deleted.
    pub dry_run: Vec<String>,
}

impl DeleteOptions {
    /// Whether it only asks what would be.
    pub fn is_dry(&self) -> bool {
        !self.dry_run.is_empty()
    }
}

/// What becomes of the objects that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What the object must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// Its UID.
    pub uid: Option<String>,
    /// Its version.
    pub resource_version: Option<String>,
}

/// What a delete has done.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; this is what it was.
    Gone(Arc<Value>),
    /// It goes when its grace period or its finalizers are over.
    Going(Arc<Value>),
}

impl Api {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// 404, 409 where a precondition does not hold.
    pub fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted> {
        let (kind, name) = (target.kind, target.name.as_str());
        let mut gone = false;
        let mut seen = None;
        let object = self.store.write(kind, &target.namespace, name, |old| {
            let Some(old) = old else { return Err(Status::not_found(kind, name)) };
            check(target, old, options)?;
            let mut object = Value::clone(old);
            begin(target, &mut object, options);
            gone = !meta::deleting(&object) || super::write::is_over(kind, &object);
            if target.dry_run {
                seen = Some(Arc::new(object));
                return Ok(Write::Keep);
            }
            Ok(if gone { Write::Remove(object) } else { Write::Put(object) })
        })?;
        let object = seen.unwrap_or(object);
        Ok(if gone { Deleted::Gone(object) } else { Deleted::Going(object) })
    }
}

fn check(target: &Target, object: &Value, options: &DeleteOptions) -> Result<()> {
    let Some(conditions) = &options.preconditions else { return Ok(()) };
    for (wanted, field, word, guess) in [
        (&conditions.uid, "uid", "UID", "deleted and then recreated"),
        (&conditions.resource_version, "resourceVersion", "ResourceVersion", "modified"),
    ] {
        let now = meta::text(object, field);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != now) {
            let words = format!(
                "the {word} in the precondition ({wanted}) does not match the {word} in record ({now}). \
                 The object might have been {guess}"
            );
            return Err(Status::conflict_of_kind(target.kind, &target.name, &words));
        }
    }
    Ok(())
}

/// Begins the end of an object that has something to wait for; any other one goes as it is.
fn begin(target: &Target, object: &mut Value, options: &DeleteOptions) {
    let kind = target.kind.name;
    set_finalizers(object, options);
    let grace = if kind == "Pod" { grace(object, options.grace_period_seconds) } else { 0 };
    let before = meta::number(object, &["metadata", "deletionGracePeriodSeconds"]);
    let shorter = before.is_none_or(|before| grace < before);
    let waits = matches!(kind, "Pod" | "Namespace") || !meta::list(object, "finalizers").is_empty();
    if waits && (!meta::deleting(object) || (kind == "Pod" && shorter)) {
        if target.kind.generation && !meta::deleting(object) {
            let generation = meta::number(object, &["metadata", "generation"]).unwrap_or(0);
            meta::set(object, "generation", generation + 1);
        }
        let at = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(grace));
        // Only a span of days or months cannot be added.
        let at = at.unwrap_or(jiff::Timestamp::MAX);
        meta::set(object, "deletionTimestamp", meta::seconds(at));
        if kind != "Namespace" {
            meta::set(object, "deletionGracePeriodSeconds", grace);
        }
    }
    if kind == "Namespace" {
        meta::map(meta::child(object, "status")).insert("phase".into(), "Terminating".into());
    }
}

/// What becomes of dependents is a finalizer; where nothing is said of it, it stays what it was.
fn set_finalizers(object: &mut Value, options: &DeleteOptions) {
    let finalizer = match (options.propagation_policy, options.orphan_dependents) {
        (Some(Propagation::Orphan), _) | (None, Some(true)) => Some("orphan"),
        (Some(Propagation::Foreground), _) => Some("foregroundDeletion"),
        (Some(Propagation::Background), _) | (None, Some(false)) => None,
        (None, None) => return,
    };
    let mut finalizers: Vec<String> =
        meta::list(object, "finalizers").into_iter().map(str::to_owned).collect();
    finalizers.retain(|f| f != "orphan" && f != "foregroundDeletion");
    finalizers.extend(finalizer.map(str::to_owned));
    if finalizers.is_empty() {
        meta::unset(object, "finalizers");
    } else {
        meta::set(object, "finalizers", json!(finalizers));
    }
}

/// Seconds that a Pod has to end: none if it does not run anywhere.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let over = matches!(meta::string(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if meta::string(pod, &["spec", "nodeName"]).is_empty() || over {
        return 0;
    }
    let own = meta::number(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
    match asked.unwrap_or(own) {
        grace if grace < 0 => 1,
        grace => grace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{context, make};
    use crate::kinds;

    #[test]
    fn a_pod_may_have_more_time_than_there_is() {
        let context = context();
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "nodeName": "node", "terminationGracePeriodSeconds": i64::MAX, "containers": [{"name": "c", "image": "i"}],
        }});
        make(&context, &kinds::POD, pod);
        let target = Target::own(&kinds::POD, "default", "p");
        context.api.delete(&target, &DeleteOptions::default()).unwrap();
        let pod = context.api.get(&kinds::POD, "default", "p").unwrap();
        assert_eq!(meta::number(&pod, &["metadata", "deletionGracePeriodSeconds"]), Some(i64::MAX));
        assert!(meta::text(&pod, "deletionTimestamp").starts_with("9999-12-"), "{pod}");
    }
}

//! How a StatefulSet comes to what it wants: its Pods are made from the lowest number on, surplus ones end from the
//! highest on, and then those of an old revision do. In order, each step waits until the Pods before it are
//! available.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use serde_json::Value;

use super::{claims, members};
use crate::conditions;
use crate::controllers::replica_sets::BURST;
use crate::controllers::{Context, revisions};
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::status::Result;
use crate::verbs::{DeleteOptions, Target};

/// A set, and what it has.
pub struct Work<'a> {
    /// The cluster.
    pub context: &'a Context,
    /// The set.
    pub set: &'a Value,
    /// Its Pods by their numbers.
    pub pods: BTreeMap<i64, Arc<Value>>,
    /// The revision that it comes from.
    pub current: &'a Value,
    /// The revision of its template.
    pub update: &'a Value,
}

impl Work<'_> {
    /// Does what can be done now; a change of a Pod brings the set back here.
    ///
    /// # Errors
    /// A Pod or a claim could not be made or ended.
    pub fn step(&self) -> Result<()> {
        let range = members::range(self.set);
        let mut missing = 0;
        for ordinal in range.clone() {
            missing += usize::from(!self.pods.contains_key(&ordinal));
            if missing > BURST || (self.keep(ordinal)?.is_break() && self.is_ordered()) {
                return Ok(());
            }
        }
        if self.shrink(&range)?.is_break() {
            return Ok(());
        }
        self.roll(&range)
    }

    fn is_ordered(&self) -> bool {
        meta::string(self.set, &["spec", "podManagementPolicy"]) != "Parallel"
    }

    fn is_available(&self, pod: &Value) -> bool {
        let least = meta::number(self.set, &["spec", "minReadySeconds"]).unwrap_or(0);
        members::is_ready(pod) && conditions::is_available(pod, least)
    }

    fn is_healthy(&self, pod: &Value) -> bool {
        self.is_available(pod) && !meta::deleting(pod)
    }

    /// Makes the Pod of a number, or again what has ended; breaks off if it is not as it should be yet.
    fn keep(&self, ordinal: i64) -> Result<ControlFlow<()>> {
        let Some(pod) = self.pods.get(&ordinal) else {
            self.make(ordinal)?;
            return Ok(ControlFlow::Break(()));
        };
        if conditions::is_over(pod) {
            if !meta::deleting(pod) {
                self.end(pod)?;
            }
            return Ok(ControlFlow::Break(()));
        }
        if meta::string(pod, &["status", "phase"]) == "Pending" && !meta::deleting(pod) {
            claims::make_missing(self.context, self.set, ordinal)?;
        }
        if self.is_ordered() && !self.is_healthy(pod) {
            return Ok(ControlFlow::Break(()));
        }
        if !members::is_labelled(pod) {
            let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
            self.context.api.modify(&target, |pod| members::label(pod, ordinal))?;
        }
        claims::settle(self.context, self.set, pod, ordinal, false);
        Ok(ControlFlow::Continue(()))
    }

    /// Ends Pods beyond the range, the highest number first; in order, one at a time.
    fn shrink(&self, range: &Range<i64>) -> Result<ControlFlow<()>> {
        let surplus: Vec<(&i64, &Arc<Value>)> =
            self.pods.iter().rev().filter(|(ordinal, _)| !range.contains(*ordinal)).collect();
        for (ordinal, pod) in &surplus {
            claims::settle(self.context, self.set, pod, **ordinal, true);
        }
        // One that will never be available must not hold back the others for ever.
        let sick = surplus.iter().rev().find(|(_, pod)| !self.is_healthy(pod)).map(|(ordinal, _)| **ordinal);
        for (ordinal, pod) in surplus {
            if meta::deleting(pod) {
                if self.is_ordered() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            if !self.is_ordered() {
                self.end(pod)?;
                continue;
            }
            if self.is_available(pod) || sick == Some(*ordinal) {
                self.end(pod)?;
            }
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Ends the Pod of the highest number that is of an old revision, if those above it are available.
    fn roll(&self, range: &Range<i64>) -> Result<()> {
        let strategy = meta::at(self.set, &["spec", "updateStrategy"]);
        if meta::string(strategy, &["type"]) != "RollingUpdate" {
            return Ok(());
        }
        let partition = meta::number(strategy, &["rollingUpdate", "partition"]).unwrap_or(0);
        for ordinal in (range.start.saturating_add(partition)..range.end).rev() {
            let Some(pod) = self.pods.get(&ordinal) else { return Ok(()) };
            if members::revision(pod) != meta::name(self.update) && !meta::deleting(pod) {
                return self.end(pod);
            }
            if !self.is_healthy(pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The revision of a new Pod: below the partition, the one that the set comes from.
    fn revision_of(&self, ordinal: i64) -> &Value {
        let strategy = meta::at(self.set, &["spec", "updateStrategy"]);
        if meta::string(strategy, &["type"]) != "RollingUpdate" {
            return self.update;
        }
        let rolling = meta::at(strategy, &["rollingUpdate"]);
        let kept = if rolling.is_null() {
            meta::number(self.set, &["status", "currentReplicas"])
        } else {
            meta::number(rolling, &["partition"])
        };
        let start = members::range(self.set).start;
        if ordinal < start.saturating_add(kept.unwrap_or(0)) { self.current } else { self.update }
    }

    fn make(&self, ordinal: i64) -> Result<()> {
        if claims::are_stale(self.context, self.set, ordinal) {
            return Ok(());
        }
        claims::make_missing(self.context, self.set, ordinal)?;
        let revision = self.revision_of(ordinal);
        let pod = members::make(self.set, &revisions::template(revision), meta::name(revision), ordinal);
        let target = Target::own(&kinds::POD, meta::namespace(self.set), "");
        let made = self.context.api.create(&target, pod);
        self.tell("Create", &super::pod_name(self.set, ordinal), made.as_ref().err().map(|e| &*e.message));
        claims::settle(self.context, self.set, &made?.object, ordinal, false);
        Ok(())
    }

    fn end(&self, pod: &Value) -> Result<()> {
        let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
        let ended = self.context.api.delete(&target, &DeleteOptions::default());
        self.tell("Delete", meta::name(pod), ended.as_ref().err().map(|e| &*e.message));
        ended.map(drop)
    }

    fn tell(&self, verb: &str, pod: &str, error: Option<&str>) {
        let about = About::new(self.set, "statefulset-controller");
        let words = format!("{} Pod {pod} in StatefulSet {}", verb.to_lowercase(), meta::name(self.set));
        let api = &self.context.api;
        match error {
            None => {
                let reason = format!("Successful{verb}");
                events::record(api, &about, "Normal", &reason, &format!("{words} successful"));
            }
            Some(error) => {
                let reason = format!("Failed{verb}");
                events::record(api, &about, "Warning", &reason, &format!("{words} failed error: {error}"));
            }
        }
    }
}

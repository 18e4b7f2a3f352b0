//! How a DaemonSet comes to its one Pod, and from one template to the next: the old Pod ends first, or, with a
//! surge, when the new one is available.

use std::sync::Arc;

use serde_json::Value;

use super::{Place, hash, pods};
use crate::conditions;
use crate::controllers::Context;
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::status::Result;
use crate::verbs::{DeleteOptions, Target};

/// For how long one that has failed is left there, so that it is not made again all the time, seconds.
const PAUSE: i64 = 5;

/// A set, and what it has.
pub struct Work<'a> {
    /// The cluster.
    pub context: &'a Context,
    /// The set.
    pub set: &'a Value,
    /// Its Pods, the oldest first.
    pub pods: Vec<Arc<Value>>,
    /// The hash of its newest revision.
    pub hash: &'a str,
    /// Whether it may have a Pod.
    pub place: Place,
}

impl Work<'_> {
    /// Does what can be done now; a change of a Pod brings the set back here. Whether nothing waits for time to
    /// pass.
    ///
    /// # Errors
    /// A Pod could not be made or ended.
    pub fn step(&self) -> Result<bool> {
        if self.pods.is_empty() {
            if self.place.runs {
                self.make()?;
            }
            return Ok(true);
        }
        if !self.place.stays {
            self.pods.iter().filter(|pod| !meta::deleting(pod)).try_for_each(|pod| self.end(pod))?;
            return Ok(true);
        }
        let settled = self.clear()?;
        let active: Vec<&Arc<Value>> = self.pods.iter().filter(|pod| conditions::is_active(pod)).collect();
        let (new, old): (Vec<_>, Vec<_>) = active.iter().partition(|pod| hash(pod) == self.hash);
        if self.surges() {
            self.surge(&new, &old)?;
        } else {
            // The oldest stays.
            active.iter().skip(1).try_for_each(|pod| self.end(pod))?;
            if self.rolls() && new.is_empty() {
                old.iter().take(1).try_for_each(|pod| self.end(pod))?;
            }
        }
        Ok(settled)
    }

    fn rolls(&self) -> bool {
        meta::string(self.set, &["spec", "updateStrategy", "type"]) == "RollingUpdate"
    }

    /// Whether the new Pod comes before the old one goes; for one Node, any share is one Pod.
    fn surges(&self) -> bool {
        let surge = meta::at(self.set, &["spec", "updateStrategy", "rollingUpdate", "maxSurge"]);
        let none = surge.is_null() || surge.as_i64() == Some(0) || surge.as_str() == Some("0%");
        self.rolls() && !none
    }

    fn surge(&self, new: &[&&Arc<Value>], old: &[&&Arc<Value>]) -> Result<()> {
        new.iter().skip(1).chain(old.iter().skip(1)).try_for_each(|pod| self.end(pod))?;
        match (new.first(), old.first()) {
            (None, Some(_)) if self.place.runs => self.make(),
            (Some(new), Some(old)) => {
                let least = meta::number(self.set, &["spec", "minReadySeconds"]).unwrap_or(0);
                if !conditions::is_ready(old) || conditions::is_available(new, least) {
                    self.end(old)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends Pods that are over, so that they are made again; whether none has to wait.
    fn clear(&self) -> Result<bool> {
        let mut settled = true;
        for pod in self.pods.iter().filter(|pod| conditions::is_over(pod) && !meta::deleting(pod)) {
            let failed = meta::string(pod, &["status", "phase"]) == "Failed";
            let since: Option<jiff::Timestamp> = meta::text(pod, "creationTimestamp").parse().ok();
            let now = jiff::Timestamp::now().as_second();
            if failed && since.is_some_and(|since| now - since.as_second() < PAUSE) {
                settled = false;
                continue;
            }
            let (level, reason, state, way) = if failed {
                ("Warning", "FailedDaemonPod", "failed", "kill")
            } else {
                ("Normal", "SucceededDaemonPod", "succeeded", "delete")
            };
            let words = format!(
                "Found {state} daemon pod {}/{} on node {}, will try to {way} it",
                meta::namespace(pod),
                meta::name(pod),
                self.context.node
            );
            self.tell(level, reason, &words);
            self.end(pod)?;
        }
        Ok(settled)
    }

    fn make(&self) -> Result<()> {
        let pod = pods::make(self.set, self.hash, &self.context.node);
        match self.context.api.create(&Target::own(&kinds::POD, meta::namespace(self.set), ""), pod) {
            Ok(made) => {
                let words = format!("Created pod: {}", meta::name(&made.object));
                self.tell("Normal", "SuccessfulCreate", &words);
                Ok(())
            }
            Err(status) => {
                self.tell("Warning", "FailedCreate", &format!("Error creating: {}", status.message));
                Err(status)
            }
        }
    }

    fn end(&self, pod: &Value) -> Result<()> {
        let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
        self.context.api.delete(&target, &DeleteOptions::default())?;
        self.tell("Normal", "SuccessfulDelete", &format!("Deleted pod: {}", meta::name(pod)));
        Ok(())
    }

    fn tell(&self, level: &str, reason: &str, words: &str) {
        let about = About::new(self.set, "daemonset-controller");
        events::record(&self.context.api, &about, level, reason, words);
    }
}

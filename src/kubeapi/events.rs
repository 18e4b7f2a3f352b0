//! Events for people: what controllers and the kubelet have done, with repetitions counted.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::kinds;
use super::meta;
use super::verbs::{Api, DeleteOptions, Target};

/// How long an Event is kept, seconds, as Kubernetes does.
const KEPT: i64 = 3600;
/// Pause between two looks for old ones, while new ones come.
const LOOK: Duration = Duration::from_secs(10);
/// How many different Events are known to be there; with more, some are told once more.
const REMEMBERED: usize = 10_000;

/// The object that an Event is about, and who tells it.
#[derive(Debug, Clone)]
pub struct About {
    object: Value,
    component: &'static str,
}

impl About {
    /// An object.
    pub fn new(object: &Value, component: &'static str) -> Self {
        let field = |name: &str| object.get(name).cloned().unwrap_or(Value::Null);
        let reference = json!({
            "kind": field("kind"), "apiVersion": field("apiVersion"), "namespace": meta::namespace(object),
            "name": meta::name(object), "uid": meta::uid(object), "resourceVersion": meta::text(object, "resourceVersion"),
        });
        Self { object: reference, component }
    }

    /// A container of the Pod.
    pub fn container(mut self, name: &str) -> Self {
        meta::map(&mut self.object).insert("fieldPath".into(), format!("spec.containers{{{name}}}").into());
        self
    }
}

/// Records an Event; one that is there already is counted once more.
pub fn record(api: &Api, about: &About, level: &str, reason: &str, message: &str) {
    let of = &kinds::EVENT;
    let namespace = match meta::string(&about.object, &["namespace"]) {
        "" => "default",
        namespace => namespace,
    };
    let uid = meta::string(&about.object, &["uid"]);
    let path = meta::string(&about.object, &["fieldPath"]);
    let digest = Sha256::digest(format!("{uid}\n{path}\n{level}\n{reason}\n{message}"));
    let key = hex::encode(digest.get(..16).unwrap_or_default());
    let now = meta::now();
    let known = known().lock().get(&key).cloned();
    let counted = api.modify(&Target::own(of, namespace, known.as_deref().unwrap_or_default()), |event| {
        let count = meta::number(event, &["count"]).unwrap_or(1);
        let map = meta::map(event);
        map.insert("count".into(), (count + 1).into());
        map.insert("lastTimestamp".into(), now.as_str().into());
    });
    if matches!(counted, Ok(Some(_))) {
        return;
    }
    // By name is by time: that is how clients show those of the same second.
    let time = Timestamp::now().as_nanosecond();
    let name = format!("{}.{time:x}", meta::string(&about.object, &["name"]));
    remember(key, &name);
    let event = json!({
        "metadata": {"name": name}, "involvedObject": about.object, "reason": reason, "message": message,
        "type": level, "count": 1, "firstTimestamp": now, "lastTimestamp": now, "eventTime": null,
        "source": {"component": about.component}, "reportingComponent": about.component, "reportingInstance": "",
    });
    if let Err(status) = api.create(&Target::own(of, namespace, ""), event) {
        tracing::debug!(reason, error = status.message, "an Event was not recorded");
    }
}

/// Names of the Events that may be counted once more, by what they say.
fn known() -> &'static Mutex<HashMap<String, String>> {
    static KNOWN: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default)
}

fn remember(key: String, name: &str) {
    let mut known = known().lock();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, name.to_owned());
}

/// Removes old Events. Nothing is done while none comes and none is due.
pub async fn expire(api: Arc<Api>, stopping: CancellationToken) {
    let mut bell = api.store.bell(&[&kinds::EVENT]);
    loop {
        bell.hush();
        let now = Timestamp::now().as_second();
        let next = remove_old(&api, now - KEPT, api.store.limits().events);
        let due = async {
            match next.map(|last| u64::try_from(last + KEPT + 1 - now).unwrap_or(0)) {
                Some(left) => tokio::time::sleep(Duration::from_secs(left)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            there = bell.rings() => if !there { return },
            () = stopping.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Removes Events that were told last before a time, and those that are more than so many. The answer is the time of the oldest
/// one that is left.
fn remove_old(api: &Api, oldest: i64, most: usize) -> Option<i64> {
    let of = &kinds::EVENT;
    let mut all = api.list(of, "").items;
    all.sort_by_key(|event| meta::text(event, "resourceVersion").parse::<u64>().unwrap_or(0));
    let many = all.len().saturating_sub(most);
    let mut left = None;
    for (at, event) in all.iter().enumerate() {
        let last: Option<Timestamp> = meta::string(event, &["lastTimestamp"]).parse().ok();
        let last = last.or_else(|| meta::text(event, "creationTimestamp").parse().ok());
        let last = last.map(Timestamp::as_second);
        if at < many || last.is_some_and(|last| last < oldest) {
            let target = Target::own(of, meta::namespace(event), meta::name(event));
            let _ = api.delete(&target, &DeleteOptions::default());
        } else {
            left = [left, last].into_iter().flatten().min();
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::verbs::Settings;

    #[test]
    fn the_newest_events_are_kept_and_repeated_ones_are_new() {
        let api = Api::new(Store::in_memory(), Settings::default());
        let namespace = json!({"metadata": {"name": "default"}});
        api.create(&Target::own(&kinds::NAMESPACE, "", ""), namespace).unwrap();
        let told = |number: u8| {
            let object = json!({"metadata": {"name": "web", "uid": "of this test"}});
            record(&api, &About::new(&object, "kubelet"), "Normal", "Told", &format!("words {number}"));
        };
        (0..5).for_each(told);
        told(1);
        let now = Timestamp::now().as_second();
        assert!(remove_old(&api, 0, 3).is_some_and(|oldest| (now - 60..=now).contains(&oldest)));
        let left = api.list(&kinds::EVENT, "").items;
        let mut words: Vec<&str> = left.iter().map(|event| meta::string(event, &["message"])).collect();
        words.sort_unstable();
        assert_eq!(words, ["words 1", "words 3", "words 4"]);
        assert_eq!(remove_old(&api, i64::MAX, 3), None);
        assert!(api.list(&kinds::EVENT, "").items.is_empty());
    }
}

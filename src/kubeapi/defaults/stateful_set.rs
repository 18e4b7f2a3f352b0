//! Defaults of StatefulSets.

use serde_json::Value;

use super::{claim, list, pod, put};
use crate::meta;

/// Fills in a StatefulSet.
pub fn fill(object: &mut Value) {
    let spec = meta::child(object, "spec");
    pod::fill(meta::child(spec, "template"), "Always");
    for template in list(spec, "volumeClaimTemplates") {
        let map = meta::map(template);
        map.insert("apiVersion".into(), "v1".into());
        map.insert("kind".into(), "PersistentVolumeClaim".into());
        claim(template);
    }
    let map = meta::map(spec);
    put(map, "podManagementPolicy", || "OrderedReady".into());
    put(map, "replicas", || 1.into());
    put(map, "revisionHistoryLimit", || 10.into());
    strategy(meta::child(spec, "updateStrategy"));
    let retention = meta::map(meta::child(spec, "persistentVolumeClaimRetentionPolicy"));
    put(retention, "whenDeleted", || "Retain".into());
    put(retention, "whenScaled", || "Retain".into());
    let status = meta::map(meta::child(object, "status"));
    put(status, "replicas", || 0.into());
    put(status, "availableReplicas", || 0.into());
}

fn strategy(strategy: &mut Value) {
    if meta::string(strategy, &["type"]).is_empty() {
        meta::map(strategy).insert("type".into(), "RollingUpdate".into());
        meta::child(strategy, "rollingUpdate");
    }
    if meta::string(strategy, &["type"]) != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = strategy.get_mut("rollingUpdate").filter(|rolling| !rolling.is_null()) {
        let map = meta::map(rolling);
        // Kubernetes 1.34 has the feature switched off.
        map.remove("maxUnavailable");
        put(map, "partition", || 0.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_set_is_filled_in_with_its_claims() {
        let mut set = json!({"spec": {
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        }});
        fill(&mut set);
        let spec = &set["spec"];
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        let retention = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
        assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], retention);
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"},
        });
        assert_eq!(spec["volumeClaimTemplates"], json!([claim]));
    }

    #[test]
    fn a_rolling_update_that_was_named_without_fields_gets_none() {
        let mut strategy = json!({"type": "RollingUpdate"});
        super::strategy(&mut strategy);
        assert_eq!(strategy, json!({"type": "RollingUpdate"}));
        let mut strategy = json!({"type": "OnDelete"});
        super::strategy(&mut strategy);
        assert_eq!(strategy, json!({"type": "OnDelete"}));
    }
}

//! The claims of the Pods of a StatefulSet: one of each template for each Pod. They stay when the Pod or the set
//! goes, unless the set says otherwise; then their owner takes them along.

use serde_json::{Value, json};

use crate::controllers::{Context, owners};
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::status::Result;
use crate::verbs::Target;

/// Whether a set has claims.
pub fn has(set: &Value) -> bool {
    !templates(set).is_empty()
}

fn templates(set: &Value) -> &[Value] {
    meta::items(set, &["spec", "volumeClaimTemplates"])
}

fn name(set: &Value, template: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", meta::name(template), meta::name(set))
}

/// Puts the claims of a number into the volumes of a Pod's `spec`, in place of volumes of the same names.
pub fn mount(set: &Value, ordinal: i64, spec: &mut Value) {
    if !has(set) {
        return;
    }
    let claimed = |volume: &Value| templates(set).iter().any(|t| meta::name(t) == meta::name_of(volume));
    let others = meta::items(spec, &["volumes"]).iter().filter(|volume| !claimed(volume)).cloned();
    let claims = templates(set).iter().map(|template| {
        let claim = name(set, template, ordinal);
        json!({"name": meta::name(template), "persistentVolumeClaim": {"claimName": claim}})
    });
    let volumes: Vec<Value> = claims.chain(others).collect();
    meta::map(spec).insert("volumes".into(), volumes.into());
}

/// Whether a claim of a number is on its way out: the next Pod must not take it.
pub fn are_stale(context: &Context, set: &Value, ordinal: i64) -> bool {
    let pod = super::pod_name(set, ordinal);
    templates(set).iter().any(|template| {
        let name = name(set, template, ordinal);
        let claim = context.api.get(&kinds::PERSISTENT_VOLUME_CLAIM, meta::namespace(set), &name);
        claim.is_ok_and(|claim| {
            let owners = meta::items(&claim, &["metadata", "ownerReferences"]);
            meta::deleting(&claim) || owners.iter().any(|owner| is_pod(owner, &pod))
        })
    })
}

fn is_pod(owner: &Value, name: &str) -> bool {
    meta::string(owner, &["kind"]) == "Pod" && meta::string(owner, &["name"]) == name
}

/// The claim of a template for a number.
fn of(set: &Value, template: &Value, ordinal: i64) -> Value {
    let mut claim = template.clone();
    let map = meta::map(&mut claim);
    map.remove("status");
    meta::set(&mut claim, "name", name(set, template, ordinal));
    meta::set(&mut claim, "namespace", meta::namespace(set));
    let own = meta::at(set, &["spec", "selector", "matchLabels"]).as_object().cloned().unwrap_or_default();
    if !own.is_empty() {
        meta::map(meta::child(meta::child(&mut claim, "metadata"), "labels")).extend(own);
    }
    claim
}

/// Makes the claims of a number that are not there.
///
/// # Errors
/// What is wrong with a claim.
pub fn make_missing(context: &Context, set: &Value, ordinal: i64) -> Result<()> {
    let kind = &kinds::PERSISTENT_VOLUME_CLAIM;
    let namespace = meta::namespace(set);
    for template in templates(set) {
        let name = name(set, template, ordinal);
        if context.api.get(kind, namespace, &name).is_ok() {
            continue;
        }
        let about = About::new(set, "statefulset-controller");
        let pod = super::pod_name(set, ordinal);
        match context.api.create(&Target::own(kind, namespace, ""), of(set, template, ordinal)) {
            Ok(_) => {
                let words =
                    format!("create Claim {name} Pod {pod} in StatefulSet {} success", meta::name(set));
                events::record(&context.api, &about, "Normal", "SuccessfulCreate", &words);
            }
            Err(status) => {
                let words = format!(
                    "create Claim {name} for Pod {pod} in StatefulSet {} failed error: {}",
                    meta::name(set),
                    status.message
                );
                events::record(&context.api, &about, "Warning", "FailedCreate", &words);
                return Err(status);
            }
        }
    }
    Ok(())
}

/// Gives the claims of a Pod the owner with which they go: the Pod, if it is one too many and its claims are
/// deleted then; the set, if they are deleted with it; or nobody.
pub fn settle(context: &Context, set: &Value, pod: &Value, ordinal: i64, surplus: bool) {
    let kind = &kinds::PERSISTENT_VOLUME_CLAIM;
    for template in templates(set) {
        let name = name(set, template, ordinal);
        let Ok(claim) = context.api.get(kind, meta::namespace(set), &name) else { continue };
        let Some(wanted) = owners_of(set, pod, surplus, &claim) else { continue };
        let _ = context.api.modify(&Target::own(kind, meta::namespace(set), &name), |claim| {
            if wanted.is_empty() {
                meta::unset(claim, "ownerReferences");
            } else {
                meta::set(claim, "ownerReferences", wanted);
            }
        });
    }
}

/// The owners that a claim should have, if it has others.
fn owners_of(set: &Value, pod: &Value, surplus: bool, claim: &Value) -> Option<Vec<Value>> {
    let deletes =
        |when: &str| meta::string(set, &["spec", "persistentVolumeClaimRetentionPolicy", when]) == "Delete";
    let wanted = match () {
        () if surplus && deletes("whenScaled") => Some(owners::reference(&kinds::POD, pod)),
        () if deletes("whenDeleted") => Some(owners::reference(&kinds::STATEFUL_SET, set)),
        () => None,
    };
    let before = meta::items(claim, &["metadata", "ownerReferences"]);
    let ours =
        |owner: &Value| meta::string(owner, &["uid"]) == meta::uid(set) || is_pod(owner, meta::name(pod));
    let mut after: Vec<Value> = before.iter().filter(|owner| !ours(owner)).cloned().collect();
    let foreign = after.iter().any(|owner| meta::at(owner, &["controller"]).as_bool() == Some(true));
    after.extend(wanted.filter(|_| !foreign));
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(deleted: &str, scaled: &str) -> Value {
        json!({"metadata": {"name": "web", "uid": "set"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
        }})
    }

    fn owner(deleted: &str, scaled: &str, surplus: bool) -> Option<String> {
        let pod = json!({"metadata": {"name": "web-0", "uid": "pod"}});
        let all = owners_of(&set(deleted, scaled), &pod, surplus, &json!({}))?;
        assert_eq!(all.len(), 1);
        Some(meta::string(&all[0], &["uid"]).to_owned())
    }

    #[test]
    fn a_claim_goes_with_whom_the_set_says() {
        for surplus in [false, true] {
            assert_eq!(owner("Retain", "Retain", surplus), None);
            assert_eq!(owner("Delete", "Retain", surplus).as_deref(), Some("set"));
        }
        assert_eq!(owner("Retain", "Delete", false), None);
        assert_eq!(owner("Retain", "Delete", true).as_deref(), Some("pod"));
        assert_eq!(owner("Delete", "Delete", false).as_deref(), Some("set"));
        assert_eq!(owner("Delete", "Delete", true).as_deref(), Some("pod"));
    }

    #[test]
    fn a_claim_that_has_the_right_owners_is_left_alone() {
        let pod = json!({"metadata": {"name": "web-0", "uid": "pod"}});
        let set = set("Delete", "Retain");
        let mut claim = json!({"metadata": {"name": "data-web-0"}});
        let owners = owners_of(&set, &pod, false, &claim).unwrap();
        meta::set(&mut claim, "ownerReferences", owners);
        assert_eq!(owners_of(&set, &pod, false, &claim), None);
        let kept = self::set("Retain", "Retain");
        assert_eq!(owners_of(&kept, &pod, false, &claim), Some(Vec::new()));
    }

    #[test]
    fn a_claim_has_the_labels_that_the_set_selects() {
        let template =
            json!({"metadata": {"name": "data", "labels": {"x": "y"}}, "status": {"phase": "Pending"}});
        let claim = of(&set("Retain", "Retain"), &template, 2);
        assert_eq!((meta::name(&claim), &claim["status"]), ("data-web-2", &Value::Null));
        assert_eq!(claim["metadata"]["labels"], json!({"a": "b", "x": "y"}));
    }
}

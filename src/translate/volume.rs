//! Docker volumes as PersistentVolumeClaims and back. A claim that somebody else made is a volume
//! under its own name; what Docker knows of ours is in annotations, byte for byte.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{Volume, VolumeCreateRequest, VolumeScopeEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::quantity::{bytes, volume_size};
use super::{bounds, keys};
use d2k_common::fault::{Fault, Result};

/// What d2k chose for a volume that is to be made.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Docker name; 64 hex digits for an anonymous volume.
    pub name: String,
    /// Name of the claim.
    pub object: String,
    /// When the call was answered.
    pub created: Timestamp,
    /// Made without a name: `rm -v`, `--rm` and prune take it away.
    pub anonymous: bool,
}

/// Docker's rule for volume names.
pub fn check_name(name: &str) -> Result<()> {
    bounds::name("volume", name)?;
    if name.len() == 1 {
        return Err(Fault::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// What a request says of size, class and mode, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// A Kubernetes quantity.
    pub size: Option<Quantity>,
    /// Name of a storage class.
    pub storage_class: Option<String>,
    /// Kubernetes' word.
    pub access_mode: Option<String>,
}

/// What a policy decided about a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// A Kubernetes quantity.
    pub size: String,
    /// Storage class; `None` = the cluster's default.
    pub storage_class: Option<String>,
    /// `ReadWriteOnce`, `ReadWriteMany`, `ReadOnlyMany` or `ReadWriteOncePod`.
    pub access_mode: String,
    /// Labels besides d2k's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations besides d2k's own.
    pub annotations: BTreeMap<String, String>,
}

/// Refuses wrong names and drivers of a request.
///
/// # Errors
/// 400, 404 for an unknown driver, 503 for a volume of a swarm.
pub fn check(request: &VolumeCreateRequest, name: &str) -> Result<()> {
    bounds::volume(request, name)?;
    let worded = |fault: Fault| Fault { message: format!("create {name}: {}", fault.message), ..fault };
    check_name(name).map_err(worded)?;
    check_driver(request.driver.as_deref().unwrap_or_default()).map_err(worded)?;
    if request.cluster_volume_spec.is_some() {
        return Err(Fault::unavailable(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    Ok(())
}

/// The claim for a volume.
///
/// # Errors
/// 500 if labels or options cannot be written as JSON.
pub fn claim(request: &VolumeCreateRequest, new: &NewVolume, plan: &Plan) -> Result<PersistentVolumeClaim> {
    let options: BTreeMap<String, String> =
        request.driver_opts.clone().unwrap_or_default().into_iter().collect();
    let labels = request.labels.clone().map(|labels| labels.into_iter().collect());
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(new.object.clone()),
            labels: Some(with(&plan.labels, [(keys::ROLE.to_owned(), keys::role::VOLUME.to_owned())].into())),
            annotations: Some(with(&plan.annotations, annotations(new, &options, labels.as_ref())?)),
            ..ObjectMeta::default()
        },
        spec: Some(spec(plan)),
        status: None,
    })
}

fn with(theirs: &BTreeMap<String, String>, ours: BTreeMap<String, String>) -> BTreeMap<String, String> {
    theirs.clone().into_iter().chain(ours).collect()
}

fn annotations(
    new: &NewVolume,
    options: &BTreeMap<String, String>,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>> {
    let json = |map: Option<&BTreeMap<String, String>>| {
        serde_json::to_string(&map).map_err(|error| Fault::internal(format!("volume {}: {error}", new.name)))
    };
    let mut annotations = BTreeMap::from([
        (keys::NAME.to_owned(), new.name.clone()),
        (keys::CREATED.to_owned(), new.created.to_string()),
        (keys::LABELS.to_owned(), json(labels)?),
        (keys::OPTIONS.to_owned(), json(Some(options))?),
    ]);
    if new.anonymous {
        annotations.insert(keys::ANONYMOUS.to_owned(), "true".to_owned());
    }
    Ok(annotations)
}

/// Accepts the drivers that mean "a volume of this host", which here is the cluster.
pub fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "local" | "d2k" => Ok(()),
        other => Err(Fault::not_found(format!(
            "error looking up volume plugin {other}: plugin {other:?} not found; leave the driver out and choose a storage class with --opt storageClass=NAME"
        ))),
    }
}

/// Refuses volume options that [`claim`] would refuse, before anything is made.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    asked(options).map(|_| ())
}

/// Reads the options of a request.
///
/// # Errors
/// 400 that names the option and what is allowed.
pub fn asked(options: &BTreeMap<String, String>) -> Result<Asked> {
    let mut asked = Asked::default();
    for (key, value) in options {
        match key.as_str() {
            "size" => asked.size = Some(volume_size(value)?),
            "storageClass" => asked.storage_class = Some(storage_class(value)?),
            "accessMode" => asked.access_mode = Some(access_mode(value)?.to_owned()),
            "type" | "device" | "o" => return Err(local_option(key, value)),
            _ => {
                return Err(Fault::invalid(format!(
                    "invalid option {key:?} for a volume: d2k knows size (5Gi), storageClass (a class of the cluster) and accessMode (rwo, rwx, rox, rwop)"
                )));
            }
        }
    }
    Ok(asked)
}

fn spec(plan: &Plan) -> PersistentVolumeClaimSpec {
    let size = Quantity(plan.size.clone());
    PersistentVolumeClaimSpec {
        access_modes: Some(vec![plan.access_mode.clone()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
            limits: None,
        }),
        storage_class_name: plan.storage_class.clone(),
        ..PersistentVolumeClaimSpec::default()
    }
}

fn storage_class(value: &str) -> Result<String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !value.is_empty() && value.len() <= 253 && value.chars().all(legal) {
        return Ok(value.to_owned());
    }
    Err(Fault::invalid(format!(
        "invalid value {value:?} for the volume option \"storageClass\": give the name of a storage class of the cluster (lower-case letters, digits, - and .)"
    )))
}

fn access_mode(value: &str) -> Result<&'static str> {
    match value.to_ascii_lowercase().as_str() {
        "rwo" | "readwriteonce" => Ok("ReadWriteOnce"),
        "rwx" | "readwritemany" => Ok("ReadWriteMany"),
        "rox" | "readonlymany" => Ok("ReadOnlyMany"),
        "rwop" | "readwriteoncepod" => Ok("ReadWriteOncePod"),
        _ => Err(Fault::invalid(format!(
            "invalid value {value:?} for the volume option \"accessMode\": give rwo, rwx, rox or rwop (or ReadWriteOnce, ReadWriteMany, ReadOnlyMany, ReadWriteOncePod)"
        ))),
    }
}

/// Docker's `local` driver mounts anything with `type`, `device` and `o`; a claim cannot.
fn local_option(key: &str, value: &str) -> Fault {
    Fault::invalid(format!(
        "the volume option {key}={value} of Docker's local driver is not supported: a volume is a PersistentVolumeClaim. \
         For memory use --tmpfs; for NFS or another server choose a storage class that provides it (--opt storageClass=NAME); \
         for files of this machine copy them with \"docker cp\""
    ))
}

/// The Docker name of a claim: the annotation of ours, the object's own name for any other.
pub fn name(claim: &PersistentVolumeClaim) -> String {
    annotation(claim, keys::NAME).or(claim.metadata.name.as_deref()).unwrap_or_default().to_owned()
}

/// Whether the claim is a volume that was made without a name.
pub fn is_anonymous(claim: &PersistentVolumeClaim) -> bool {
    annotation(claim, keys::ANONYMOUS) == Some("true")
}

/// Whether the request spoke of no labels, which Docker tells apart from an empty list of them.
pub fn unlabelled(claim: &PersistentVolumeClaim) -> bool {
    annotation(claim, keys::LABELS) == Some("null")
}

/// The Docker labels of a claim. A claim that d2k did not make shows its Kubernetes labels.
pub fn labels(claim: &PersistentVolumeClaim) -> HashMap<String, String> {
    match annotation(claim, keys::LABELS) {
        Some(json) => serde_json::from_str(json).unwrap_or_default(),
        None => claim.metadata.labels.clone().unwrap_or_default().into_iter().collect(),
    }
}

/// The size of a claim in bytes: what it has, or what it asked for while it has none.
pub fn size(claim: &PersistentVolumeClaim) -> Option<i64> {
    let has =
        claim.status.as_ref().and_then(|status| status.capacity.as_ref()).and_then(|all| all.get("storage"));
    let asked = || claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage");
    has.or_else(asked).and_then(bytes)
}

/// Docker's view of a claim.
pub fn volume(claim: &PersistentVolumeClaim) -> Volume {
    let name = name(claim);
    let created = annotation(claim, keys::CREATED)
        .map(str::to_owned)
        .or_else(|| claim.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()));
    Volume {
        driver: "local".to_owned(),
        // There is no such directory anywhere; clients expect an absolute path of this shape.
        mountpoint: format!("/var/lib/docker/volumes/{name}/_data"),
        name,
        created_at: created,
        // Docker's local driver has no status either, and clients fail to decode values other than objects.
        status: None,
        labels: labels(claim),
        scope: Some(VolumeScopeEnum::LOCAL),
        cluster_volume: None,
        options: options(claim),
        usage_data: None,
    }
}

/// The options that made our claim; for any other, those that would make one like it.
fn options(claim: &PersistentVolumeClaim) -> HashMap<String, String> {
    if let Some(json) = annotation(claim, keys::OPTIONS) {
        return serde_json::from_str(json).unwrap_or_default();
    }
    let Some(spec) = &claim.spec else {
        return HashMap::new();
    };
    let size =
        spec.resources.as_ref().and_then(|all| all.requests.as_ref()).and_then(|all| all.get("storage"));
    let entries = [
        ("size", size.map(|quantity| quantity.0.clone())),
        ("storageClass", spec.storage_class_name.clone()),
        ("accessMode", spec.access_modes.as_ref().and_then(|modes| modes.first()).cloned()),
    ];
    entries.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))).collect()
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_claim_is_a_volume_under_its_own_name() {
        let claim: PersistentVolumeClaim = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "pg-0", "labels": {"app": "pg"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"capacity": {"storage": "2Gi"}}
        }))
        .unwrap();
        let shown = volume(&claim);
        assert_eq!(shown.name, "pg-0");
        assert_eq!(shown.labels.get("app").map(String::as_str), Some("pg"));
        assert_eq!(shown.options.get("size").map(String::as_str), Some("1Gi"));
        assert_eq!(shown.created_at.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(size(&claim), Some(2 << 30));
        assert!(!is_anonymous(&claim));
    }

    #[test]
    fn access_modes_have_short_and_full_names() {
        assert_eq!(access_mode("rwop"), Ok("ReadWriteOncePod"));
        assert_eq!(access_mode("ReadWriteMany"), Ok("ReadWriteMany"));
        assert!(access_mode("all").is_err());
        assert!(check_name("a").is_err() && check_name("data.1-x_y").is_ok());
    }
}

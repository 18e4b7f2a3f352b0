//! What a set of policies would make of the containers and volumes that are there, without making
//! it: for the comparison of a candidate with the set that decides.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Daemon;
use super::decisions::{self, What, pairs};
use d2k_common::fault::Result;
use d2k_policy::bindings::images::exports::d2k::policy::images::Purpose;
use d2k_policy::bindings::ports::exports::d2k::policy::ports;
use d2k_policy::bindings::volumes::exports::d2k::policy::volumes;
use d2k_policy::bindings::workload::exports::d2k::policy::workload;
use d2k_policy::set::Set;
use d2k_translate::pod::context::HostPath;
use d2k_translate::record::Record;
use d2k_translate::{service, volume};

impl Daemon {
    /// The objects that a set would make, as YAML, by what they are for.
    pub async fn preview(&self, set: &Set) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut insert = |what: String, objects: Result<Vec<Value>>| {
            let text = match objects {
                Ok(objects) => objects.iter().map(yaml).collect::<Vec<_>>().join("---\n"),
                Err(fault) => format!("refused: {}\n", fault.message),
            };
            all.insert(what, text);
        };
        for container in self.containers().iter().filter(|c| c.own) {
            let objects = self.preview_container(set, &container.record).await;
            insert(format!("container {}", container.record.name), objects);
        }
        for claim in self.volumes() {
            let name = volume::name(&claim.object);
            insert(format!("volume {name}"), self.preview_volume(set, &claim.object));
        }
        all
    }

    async fn preview_container(&self, set: &Set, record: &Record) -> Result<Vec<Value>> {
        let asked = decisions::container(record);
        let image = set.image(&super::images::question(&asked.image, Purpose::Create))?.plan.reference;
        let labels = asked.labels.clone();
        let name = self.object_named(set, What::Container, &record.name, labels, None)?.plan.name;
        let kind = set.workload(&workload::Input { container: asked.clone(), extra: Vec::new() })?.plan.kind;
        let kind = if matches!(kind, workload::WorkloadKind::Job) { "Job" } else { "Deployment" };
        let mut objects = vec![json!({"kind": kind, "metadata": {"name": name}, "image": image})];
        objects.extend(self.preview_binds(set, record).await);
        let plan = set.ports(&ports::Input { container: asked.clone(), extra: Vec::new() })?.plan.service;
        if let Some(plan) = plan {
            let made = service::service(record, &name, &record.ports, decisions::service_plan(plan));
            let made = self.shape(set, made, Some(&asked))?;
            objects.push(serde_json::to_value(&made.object).unwrap_or_default());
            objects.extend(made.beside);
        }
        Ok(objects)
    }

    /// The paths of a container's binds, or the refusal of one: an embedded cluster may allow it by default,
    /// which a comparison from outside does not know.
    async fn preview_binds(&self, set: &Set, record: &Record) -> Option<Value> {
        match self.host_paths(set, record).await {
            Ok(found) if found.paths.is_empty() => None,
            Ok(found) => {
                let path = |(target, path): (String, HostPath)| (target, json!([path.path, path.below]));
                Some(json!({"hostPath": found.paths.into_iter().map(path).collect::<BTreeMap<_, _>>()}))
            }
            Err(refused) => Some(json!({"hostPath": format!("refused: {}", refused.message)})),
        }
    }

    fn preview_volume(
        &self,
        set: &Set,
        claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim,
    ) -> Result<Vec<Value>> {
        let docker = volume::volume(claim);
        let options = docker.options.clone().into_iter().collect();
        let asked = volume::asked(&options)?;
        let labels = pairs(&docker.labels);
        let name = self.object_named(set, What::Volume, &docker.name, labels.clone(), None)?.plan.name;
        let plan = set
            .volume(&volumes::Input {
                name: docker.name,
                labels,
                anonymous: volume::is_anonymous(claim),
                size: asked.size.map(|size| size.0),
                storage_class: asked.storage_class,
                access_mode: asked.access_mode,
                extra: Vec::new(),
            })?
            .plan;
        Ok(vec![json!({
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name,
                "labels": plan.labels.into_iter().collect::<BTreeMap<_, _>>(),
                "annotations": plan.annotations.into_iter().collect::<BTreeMap<_, _>>(),
            },
            "spec": {"size": plan.size, "storageClassName": plan.storage_class, "accessMode": plan.access_mode},
        })])
    }
}

fn yaml(object: &Value) -> String {
    serde_yaml_ng::to_string(object).unwrap_or_default()
}

//! Finding containers: every workload of the namespace that clients may see, with its record and its Pods, by full
//! ID, name or unique ID prefix, in Docker's order of precedence. Reads only the caches.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::Daemon;
use super::foreign::Foreign;
use d2k_cluster::{Entry, Object};
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::{Container, Kind, foreign_record};
use d2k_translate::keys;
use d2k_translate::record::Record;
use d2k_translate::workload::job_is_over;

/// What is derived from a workload once.
struct Derived {
    own: bool,
    /// It is d2k itself, by the label of `deploy/kubernetes.yaml`.
    daemon: bool,
    record: Arc<Record>,
}

fn derive(meta: &ObjectMeta, kind: Kind, spec: Option<&PodSpec>, namespace: &str) -> Derived {
    if let Some(record) = Record::read(meta) {
        return Derived { own: true, daemon: false, record: Arc::new(record) };
    }
    let label = meta.labels.as_ref().and_then(|labels| labels.get(keys::APPLICATION));
    let daemon = label.is_some_and(|name| name == "d2k");
    let spec = spec.cloned().unwrap_or_default();
    Derived { own: false, daemon, record: Arc::new(foreign_record(meta, kind, &spec, namespace)) }
}

impl Daemon {
    /// Every container of the namespace, in no order.
    pub fn containers(&self) -> Vec<Container> {
        self.workloads().into_iter().filter_map(|object| self.container_of(&object)).collect()
    }

    /// Every object that is a container's workload.
    fn workloads(&self) -> Vec<Object> {
        let cluster = &self.cluster;
        let mut all: Vec<Object> = Vec::new();
        all.extend(cluster.cache::<Deployment>().all().into_iter().map(Object::Deployment));
        all.extend(cluster.cache::<Job>().all().into_iter().map(Object::Job));
        all.extend(cluster.cache::<StatefulSet>().all().into_iter().map(Object::StatefulSet));
        all.extend(cluster.cache::<DaemonSet>().all().into_iter().map(Object::DaemonSet));
        let bare = |pod: &Arc<Entry<Pod>>| pod.object.metadata.owner_references.is_none();
        all.extend(cluster.cache::<Pod>().all().into_iter().filter(bare).map(Object::Pod));
        all
    }

    /// The container of a workload; `None` for objects that are none, or that clients do not see.
    pub fn container_of(&self, object: &Object) -> Option<Container> {
        let derived = self.derived(object).filter(|derived| self.is_shown(derived))?;
        let container = self.container_with(object, &derived)?;
        (container.own || !self.runs_this(&container)).then_some(container)
    }

    fn is_shown(&self, derived: &Derived) -> bool {
        derived.own || (!derived.daemon && self.options.foreign != Foreign::Hide)
    }

    /// Whether this process runs in one of the workload's Pods.
    fn runs_this(&self, container: &Container) -> bool {
        let own = self.options.own_pod.as_ref();
        own.is_some() && container.pods.iter().any(|pod| pod.metadata.name.as_ref() == own)
    }

    fn container_with(&self, object: &Object, derived: &Derived) -> Option<Container> {
        match object {
            Object::Deployment(entry) => Some(self.of_deployment(entry, derived)),
            Object::Job(entry) => Some(self.of_job(entry, derived)),
            Object::StatefulSet(entry) => {
                let replicas = entry.object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
                Some(self.foreign(derived, Kind::StatefulSet, &entry.object.metadata, replicas))
            }
            Object::DaemonSet(entry) => {
                Some(self.foreign(derived, Kind::DaemonSet, &entry.object.metadata, 1))
            }
            Object::Pod(entry) if entry.object.metadata.owner_references.is_none() => {
                let pods = vec![entry.object.clone()];
                Some(Container { pods, ..self.foreign(derived, Kind::Pod, &entry.object.metadata, 1) })
            }
            _ => None,
        }
    }

    /// What is derived from a workload, once for each of its versions.
    fn derived(&self, object: &Object) -> Option<Arc<Derived>> {
        let namespace = self.cluster.namespace();
        Some(match object {
            Object::Deployment(entry) => entry.memo(|d| {
                let spec = d.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                derive(&d.metadata, Kind::Deployment, spec, namespace)
            }),
            Object::Job(entry) => entry.memo(|j| {
                let spec = j.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                derive(&j.metadata, Kind::Job, spec, namespace)
            }),
            Object::StatefulSet(entry) => entry.memo(|s| {
                let spec = s.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                derive(&s.metadata, Kind::StatefulSet, spec, namespace)
            }),
            Object::DaemonSet(entry) => entry.memo(|s| {
                let spec = s.spec.as_ref().and_then(|s| s.template.spec.as_ref());
                derive(&s.metadata, Kind::DaemonSet, spec, namespace)
            }),
            Object::Pod(entry) => entry.memo(|p| derive(&p.metadata, Kind::Pod, p.spec.as_ref(), namespace)),
            _ => return None,
        })
    }

    fn of_deployment(&self, entry: &Entry<Deployment>, derived: &Derived) -> Container {
        let spec = entry.object.spec.as_ref();
        let pods = if derived.own {
            self.cluster.cache::<Pod>().group(derived.record.short())
        } else {
            self.selected(spec.map(|s| &s.selector))
        };
        let conditions = entry.object.status.as_ref().and_then(|s| s.conditions.as_ref());
        let refused = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")
            .map(|c| c.message.clone().unwrap_or_default());
        Container {
            kind: Kind::Deployment,
            own: derived.own,
            uid: uid(&entry.object.metadata),
            record: derived.record.clone(),
            wanted: spec.and_then(|s| s.replicas).unwrap_or(1),
            removing: entry.object.metadata.deletion_timestamp.is_some(),
            pods: objects(pods),
            refused,
        }
    }

    fn of_job(&self, entry: &Entry<Job>, derived: &Derived) -> Container {
        let suspended = entry.object.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false);
        let pods = if derived.own {
            self.cluster.cache::<Pod>().group(derived.record.short())
        } else {
            self.cluster.cache::<Pod>().all()
        };
        Container {
            kind: Kind::Job,
            own: derived.own,
            uid: uid(&entry.object.metadata),
            record: derived.record.clone(),
            wanted: i32::from(!suspended && !job_is_over(&entry.object)),
            removing: entry.object.metadata.deletion_timestamp.is_some(),
            pods: owned(pods, &entry.object.metadata),
            refused: None,
        }
    }

    fn foreign(&self, derived: &Derived, kind: Kind, meta: &ObjectMeta, replicas: i32) -> Container {
        Container {
            kind,
            own: false,
            uid: uid(meta),
            record: derived.record.clone(),
            wanted: replicas,
            removing: meta.deletion_timestamp.is_some(),
            pods: owned(self.cluster.cache::<Pod>().all(), meta),
            refused: None,
        }
    }

    fn selected(&self, selector: Option<&LabelSelector>) -> Vec<Arc<Entry<Pod>>> {
        let Some(wanted) = selector.and_then(|s| s.match_labels.as_ref()) else {
            return Vec::new();
        };
        let matches = |pod: &Arc<Entry<Pod>>| {
            let labels = pod.object.metadata.labels.as_ref();
            wanted.iter().all(|(k, v)| labels.is_some_and(|l| l.get(k) == Some(v)))
        };
        self.cluster.cache::<Pod>().all().into_iter().filter(matches).collect()
    }

    /// The container that a client means: full ID, else exact name, else a unique ID prefix.
    ///
    /// # Errors
    /// 404 if there is none, 400 if a prefix fits several.
    pub fn container(&self, key: &str) -> Result<Container> {
        let name = key.strip_prefix('/').unwrap_or(key);
        let all = self.containers_lazy();
        let by_id = all.iter().find(|(record, _)| record.id == name);
        let found = by_id.or_else(|| all.iter().find(|(record, _)| record.name == name));
        let object = match found {
            Some((_, object)) => object,
            None => {
                let mut hits =
                    all.iter().filter(|(record, _)| !name.is_empty() && record.id.starts_with(name));
                let first = hits.next().ok_or_else(|| Fault::no_such_container(key))?;
                if hits.next().is_some() {
                    return Err(Fault::invalid(format!("multiple IDs found with provided prefix: {key}")));
                }
                &first.1
            }
        };
        self.container_of(object).ok_or_else(|| Fault::no_such_container(key))
    }

    /// The container of an ID, if it still exists.
    pub fn container_by_id(&self, id: &str) -> Option<Container> {
        let all = self.containers_lazy();
        all.iter().find(|(record, _)| record.id == id).and_then(|(_, object)| self.container_of(object))
    }

    /// The container that d2k made under this object name, if it still exists.
    pub fn own_container(&self, object: &str, id: &str) -> Option<Container> {
        self.workload_containers(object).into_iter().find(|c| c.record.id == id)
    }

    /// The containers whose workload has this object name.
    pub(crate) fn workload_containers(&self, object: &str) -> Vec<Container> {
        let deployment = self.cluster.cache::<Deployment>().get(object).map(Object::Deployment);
        let job = self.cluster.cache::<Job>().get(object).map(Object::Job);
        [deployment, job].into_iter().flatten().filter_map(|o| self.container_of(&o)).collect()
    }

    /// Whether a Docker name is in use, and by which container ID.
    pub fn name_owner(&self, name: &str) -> Option<String> {
        self.containers_lazy().iter().find(|(record, _)| record.name == name).map(|(r, _)| r.id.clone())
    }

    /// The records of all workloads, without their Pods.
    pub(crate) fn records(&self) -> impl Iterator<Item = Arc<Record>> {
        self.containers_lazy().into_iter().map(|(record, _)| record)
    }

    /// Records of all workloads, without their Pods: what a search by name needs.
    fn containers_lazy(&self) -> Vec<(Arc<Record>, Object)> {
        let record = |object: Object| {
            let derived = self.derived(&object).filter(|derived| self.is_shown(derived))?;
            Some((derived.record.clone(), object))
        };
        self.workloads().into_iter().filter_map(record).collect()
    }
}

fn uid(meta: &ObjectMeta) -> String {
    meta.uid.clone().unwrap_or_default()
}

fn objects(entries: Vec<Arc<Entry<Pod>>>) -> Vec<Arc<Pod>> {
    entries.iter().map(|entry| entry.object.clone()).collect()
}

fn owned(pods: Vec<Arc<Entry<Pod>>>, owner: &ObjectMeta) -> Vec<Arc<Pod>> {
    let is_owner = |pod: &Arc<Entry<Pod>>| {
        let owners = pod.object.metadata.owner_references.as_ref();
        owners.into_iter().flatten().any(|o| Some(&o.uid) == owner.uid.as_ref())
    };
    objects(pods.into_iter().filter(is_owner).collect())
}

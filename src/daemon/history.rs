//! What happened before this d2k started, as far as the cluster knows: the records of the
//! containers, volumes and networks that exist, and Kubernetes' own Events, which it keeps for about an hour.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Daemon;
use super::bus::Event;
use d2k_policy::component::Hook;
use d2k_translate::container::Container;
use d2k_translate::network::Network;
use d2k_translate::volume;

impl Daemon {
    /// Whether every stream of events begins with the past: the setting `replay` of a policy that decides events.
    pub fn replays_always(&self) -> bool {
        let set = self.policies.current();
        let mut deciding = set.policies.iter().filter(|policy| policy.linked.hooks.list_has(Hook::Events));
        deciding
            .any(|policy| policy.effective_settings().get("replay").is_some_and(|value| value == "always"))
    }

    /// Events from before `end`, oldest first.
    pub async fn history(&self, end: Timestamp) -> Vec<Event> {
        let containers = self.containers();
        let mut events: Vec<Event> = containers.iter().flat_map(|c| self.of_record(c)).collect();
        events.extend(self.volumes().iter().flat_map(|claim| self.of_claim(&claim.object)));
        events.extend(self.networks().iter().flat_map(|network| self.of_network(network)));
        match self.cluster.events().await {
            Ok(all) => events.extend(all.iter().flat_map(|event| self.of_kubernetes(event, &containers))),
            Err(error) => {
                tracing::warn!(%error, "Kubernetes' Events were not read; the history is shorter")
            }
        }
        events.retain(|event| event.time < end);
        events.sort_by_key(|event| event.time);
        // The same start is known from the record and from the kubelet's Event.
        let mut seen = BTreeSet::new();
        events.retain(|e| seen.insert((e.id.clone(), e.action.clone(), e.time.as_second())));
        events
    }

    fn of_record(&self, container: &Container) -> Vec<Event> {
        let record = &container.record;
        let run = container.state().run;
        let mut events = self.container_events(record, "created", [], record.created);
        // Kubernetes' times have whole seconds, cut off: a start is never before its create.
        let after =
            |time: Timestamp, other: Timestamp| time.max(other + jiff::SignedDuration::from_millis(1));
        let started = run.started.map(|time| after(time, record.created));
        events
            .extend(started.into_iter().flat_map(|time| self.container_events(record, "started", [], time)));
        let ended = run.finished.filter(|end| run.started.is_none_or(|start| start <= *end));
        events.extend(ended.into_iter().flat_map(|time| {
            let time = after(time, started.unwrap_or(record.created));
            self.container_events(record, "ended", [("exitCode", run.exit_code.to_string())], time)
        }));
        events
    }

    fn of_claim(&self, claim: &PersistentVolumeClaim) -> Vec<Event> {
        let volume = volume::volume(claim);
        let Some(time) = volume.created_at.and_then(|time| time.parse().ok()) else { return Vec::new() };
        self.events_of(
            "volume",
            "created",
            &volume.name,
            &[("driver".to_owned(), volume.driver)].into(),
            time,
        )
    }

    /// Docker's own networks were never created.
    fn of_network(&self, network: &Network) -> Vec<Event> {
        if network.object.is_empty() {
            return Vec::new();
        }
        let attributes =
            [("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())];
        self.events_of("network", "created", &network.id, &attributes.into(), network.created)
    }

    /// The kubelet's Events about a Pod whose name begins with the name of a container's workload.
    fn of_kubernetes(
        &self,
        event: &k8s_openapi::api::core::v1::Event,
        containers: &[Container],
    ) -> Vec<Event> {
        match told_by(event, containers) {
            Some((container, change, time)) => self.container_events(&container.record, change, [], time),
            None => Vec::new(),
        }
    }
}

fn told_by<'a>(
    event: &k8s_openapi::api::core::v1::Event,
    containers: &'a [Container],
) -> Option<(&'a Container, &'static str, Timestamp)> {
    let about = &event.involved_object;
    let pod = about.name.as_deref().filter(|_| about.kind.as_deref() == Some("Pod"))?;
    let change = match event.reason.as_deref()? {
        "Started" => "started",
        "Killing" => "stopped",
        _ => return None,
    };
    let owns = |c: &&Container| pod.strip_prefix(&c.record.object).is_some_and(|rest| rest.starts_with('-'));
    let container = containers.iter().filter(owns).max_by_key(|c| c.record.object.len())?;
    let time = event
        .event_time
        .as_ref()
        .map(|t| t.0)
        .or(event.first_timestamp.as_ref().map(|t| t.0))
        .or(event.metadata.creation_timestamp.as_ref().map(|t| t.0))?;
    let created = container.record.created;
    // The start of the current run is told from the record; the kubelet's Event has the same second.
    let told = change == "started"
        && container.state().run.started.is_some_and(|s| (s.as_second() - time.as_second()).abs() <= 1);
    (!told && time >= created - jiff::SignedDuration::from_secs(1)).then(|| {
        let time = time.max(created + jiff::SignedDuration::from_millis(1));
        (container, change, time)
    })
}

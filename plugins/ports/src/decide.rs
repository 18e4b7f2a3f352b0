//! Which Service a container's ports become.

use d2k_guest::{Rule, Settings, label_fits};

use crate::api::types::{Container, PublishedPort};
use crate::api::{Input, Plan, Refusal, Service, ServiceKind};
use crate::check::{kind, range};

fn fits(rule: &Rule, container: &Container) -> bool {
    let label = rule.settings.get("label").is_none_or(|wanted| label_fits(wanted, &container.labels));
    let has = |name: &str, number: fn(&PublishedPort) -> u16| {
        let range = rule.settings.get(name).and_then(range);
        range.is_none_or(|(from, to)| container.published.iter().any(|p| (from..=to).contains(&number(p))))
    };
    label && has("port", |port| port.host) && has("container-port", |port| port.container.number)
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    Ok(Some(Plan { service: service(&input.container, settings), warnings: Vec::new(), extra: Vec::new() }))
}

fn service(container: &Container, settings: &Settings) -> Option<Service> {
    let (name, usual) = if !container.published.is_empty() {
        ("service-type", ServiceKind::LoadBalancer)
    } else if container.publish_all && !container.exposed.is_empty() {
        ("publish-all-type", ServiceKind::NodePort)
    } else {
        return None;
    };
    if settings.is_empty() {
        return Some(plain(usual));
    }
    let rule = Rule::all(settings).into_iter().find(|rule| fits(rule, container));
    let rule = rule.map(|rule| rule.settings).unwrap_or_default();
    let chosen = rule.get("service-type").or_else(|| settings.get(name)).and_then(kind);
    let mut service = plain(chosen.unwrap_or(Some(usual))?);
    let either = |name: &str| rule.get(name).or_else(|| settings.get(name)).map(str::to_owned);
    if matches!(service.kind, ServiceKind::LoadBalancer) {
        service.load_balancer_class = either("load-balancer-class");
        let own = rule.list("source-ranges");
        service.source_ranges = if own.is_empty() { settings.list("source-ranges") } else { own };
    }
    if !matches!(service.kind, ServiceKind::ClusterIp) {
        service.external_traffic_policy = either("external-traffic-policy");
    }
    service.annotations = merged(settings.below("annotations"), rule.below("annotations"));
    service.labels = merged(settings.below("labels"), rule.below("labels"));
    Some(service)
}

fn plain(kind: ServiceKind) -> Service {
    Service {
        kind,
        labels: Vec::new(),
        annotations: Vec::new(),
        load_balancer_class: None,
        source_ranges: Vec::new(),
        external_traffic_policy: None,
        extra: Vec::new(),
    }
}

/// Both, in the order of the names; the own value of a name counts.
fn merged(mut all: Vec<(String, String)>, own: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in own {
        let at = all.iter().position(|(known, _)| *known >= name).unwrap_or(all.len());
        match all.get_mut(at).filter(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.insert(at, (name, value)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Port, Protocol, RestartPolicy};
    use crate::check::check;

    fn container(host: &[u16], publish_all: bool, exposed: &[u16], labels: &[(&str, &str)]) -> Container {
        let port = |number: &u16| Port { number: *number, protocol: Protocol::Tcp };
        Container {
            name: "web".into(),
            image: "nginx".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            env: Vec::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            published: host.iter().map(|p| PublishedPort { container: port(&80), host: *p }).collect(),
            publish_all,
            exposed: exposed.iter().map(port).collect(),
            mounts: Vec::new(),
            networks: Vec::new(),
            restart: RestartPolicy::Never,
            auto_remove: false,
            foreground: false,
            interactive: false,
            tty: false,
            privileged: false,
            memory: 0,
            nano_cpus: 0,
            extra: Vec::new(),
        }
    }

    fn made(container: &Container, settings: &[(&str, &str)]) -> Option<Service> {
        assert_eq!(check(&Settings::of(settings)), []);
        service(container, &Settings::of(settings))
    }

    #[test]
    fn explicit_ports_win_over_all_exposed_ones() {
        assert_eq!(made(&container(&[8080], true, &[80], &[]), &[]).unwrap().kind, ServiceKind::LoadBalancer);
        assert_eq!(made(&container(&[], true, &[80], &[]), &[]).unwrap().kind, ServiceKind::NodePort);
        assert_eq!(made(&container(&[], true, &[], &[]), &[]), None);
        assert_eq!(made(&container(&[], false, &[80], &[]), &[]), None);
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let settings = [
            ("service-type", "ClusterIP"),
            ("annotations.all", "yes"),
            ("rules.0.label", "expose=public"),
            ("rules.0.service-type", "LoadBalancer"),
            ("rules.0.load-balancer-class", "metal"),
            ("rules.0.annotations.example.com/pool", "a"),
            ("rules.1.port", "8000-8999"),
            ("rules.1.service-type", "none"),
        ];
        let public = made(&container(&[8080], false, &[], &[("expose", "public")]), &settings).unwrap();
        assert_eq!(public.kind, ServiceKind::LoadBalancer);
        assert_eq!(public.load_balancer_class.as_deref(), Some("metal"));
        assert_eq!(public.annotations.len(), 2);
        assert_eq!(made(&container(&[8080], false, &[], &[]), &settings), None);
        let other = made(&container(&[443], false, &[], &[]), &settings).unwrap();
        assert_eq!((other.kind, other.load_balancer_class), (ServiceKind::ClusterIp, None));
    }

    #[test]
    fn all_that_a_rule_names_must_fit() {
        let settings = [
            ("rules.0.label", "tier=web"),
            ("rules.0.container-port", "80-89"),
            ("rules.0.port", "8080"),
            ("rules.0.service-type", "NodePort"),
        ];
        let kind = |host, labels| made(&container(&[host], false, &[], labels), &settings).unwrap().kind;
        assert_eq!(kind(8080, &[("tier", "web")]), ServiceKind::NodePort);
        assert_eq!(kind(8081, &[("tier", "web")]), ServiceKind::LoadBalancer);
        assert_eq!(kind(8080, &[]), ServiceKind::LoadBalancer);
    }

    #[test]
    fn a_rule_adds_annotations_and_replaces_those_of_its_own() {
        let settings = [
            ("annotations.b", "all"),
            ("annotations.d", "all"),
            ("rules.0.label", "tier"),
            ("rules.0.annotations.a", "own"),
            ("rules.0.annotations.d", "own"),
            ("rules.0.annotations.e", "own"),
        ];
        let service = made(&container(&[80], false, &[], &[("tier", "web")]), &settings).unwrap();
        let shown: Vec<String> = service.annotations.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["a=own", "b=all", "d=own", "e=own"]);
    }
}

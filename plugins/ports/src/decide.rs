//! Which Service a container's ports become.

use d2k_guest::{Rule, Settings, label_fits};

use crate::api::types::Container;
use crate::api::{Input, Plan, Refusal, Service, ServiceKind};

const KINDS: &str = "LoadBalancer, NodePort, ClusterIP or none";

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for name in ["service-type", "publish-all-type"] {
        check_kind(name.to_owned(), settings.get(name), &mut problems);
    }
    check_traffic("external-traffic-policy".into(), settings, &mut problems);
    for rule in Rule::all(settings) {
        check_kind(rule.setting("service-type"), rule.settings.get("service-type"), &mut problems);
        check_traffic(rule.setting("external-traffic-policy"), &rule.settings, &mut problems);
        let (label, port) = (rule.settings.get("label"), rule.settings.get("port"));
        if label.is_none() && port.is_none() {
            problems.push((rule.setting("label"), "a rule needs a label or a port to fit".into()));
        }
        if port.is_some_and(|port| range(port).is_none()) {
            problems.push((
                rule.setting("port"),
                "expected a port such as 443, or a range such as 8000-8999".into(),
            ));
        }
    }
    problems
}

fn check_kind(setting: String, value: Option<&str>, problems: &mut Vec<(String, String)>) {
    if let Some(value) = value.filter(|value| kind(value).is_none()) {
        problems.push((setting, format!("{value:?} is no type of Service: {KINDS}")));
    }
}

fn check_traffic(setting: String, settings: &Settings, problems: &mut Vec<(String, String)>) {
    let value = settings.get("external-traffic-policy");
    if let Some(value) = value.filter(|value| !matches!(*value, "Cluster" | "Local")) {
        problems.push((setting, format!("{value:?} is neither Cluster nor Local")));
    }
}

/// `none` is `Some(None)`.
fn kind(text: &str) -> Option<Option<ServiceKind>> {
    Some(match text {
        "LoadBalancer" => Some(ServiceKind::LoadBalancer),
        "NodePort" => Some(ServiceKind::NodePort),
        "ClusterIP" => Some(ServiceKind::ClusterIp),
        "none" => None,
        _ => return None,
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from > 0 && from <= to).then_some((from, to))
}

fn fits(rule: &Rule, container: &Container) -> bool {
    let label = rule.settings.get("label").is_none_or(|wanted| label_fits(wanted, &container.labels));
    let port = rule
        .settings
        .get("port")
        .and_then(range)
        .is_none_or(|(from, to)| container.published.iter().any(|port| (from..=to).contains(&port.host)));
    label && port
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

fn merged(all: Vec<(String, String)>, own: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut merged: Vec<_> =
        all.into_iter().filter(|(k, _)| !own.iter().any(|(other, _)| other == k)).collect();
    merged.extend(own);
    merged.sort();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Port, Protocol, PublishedPort, RestartPolicy};

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
    fn wrong_values_are_named() {
        let names = |pairs: &[(&str, &str)]| -> Vec<String> {
            check(&Settings::of(pairs)).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&[("service-type", "Loadbalancer")]), ["service-type"]);
        assert_eq!(names(&[("rules.0.service-type", "NodePort")]), ["rules.0.label"]);
        assert_eq!(names(&[("rules.0.port", "99999")]), ["rules.0.port"]);
        assert_eq!(names(&[("external-traffic-policy", "Nope")]), ["external-traffic-policy"]);
    }
}

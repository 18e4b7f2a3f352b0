//! An example: a container with the label `host` gets an Ingress beside its Service.

use d2k_guest::Settings;
use serde_json::{Value, json};

d2k_guest::policy! {
    wit: "../../../wit",
    world: "manifest-policy",
    hook: manifest,
    name: "ingress",
    summary: "Makes an Ingress beside the Service of a container that has a label with its host name.",
    settings: [
        ("label", "host", "The label with the host name."),
        ("class", "", "ingressClassName; the cluster's default if empty."),
    ],
    check: check,
    decide: decide,
}

const CLUSTER_IP: &str = r#"{"spec":{"type":"ClusterIP","externalTrafficPolicy":null,"loadBalancerClass":null,"loadBalancerSourceRanges":null}}"#;

fn check(settings: &Settings) -> Vec<(String, String)> {
    let empty = settings.get("label").is_some_and(str::is_empty);
    empty.then(|| ("label".to_owned(), "expected the name of a label".to_owned())).into_iter().collect()
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let Some(container) = input.container.as_ref().filter(|_| input.kind == "Service") else {
        return Ok(None);
    };
    let label = settings.get("label").unwrap_or("host");
    let Some((_, host)) = container.labels.iter().find(|(name, _)| name == label) else { return Ok(None) };
    let service: Value = serde_json::from_str(&input.object)
        .map_err(|_| invalid(format!("the Service of {} is no JSON", container.name)))?;
    let (name, port) = (service.pointer("/metadata/name"), service.pointer("/spec/ports/0/port"));
    if port.is_none() {
        return Err(invalid(format!(
            "container {} has the label {label} but no port: -p 80",
            container.name
        )));
    }
    let backend = json!({"service": {"name": name, "port": {"number": port}}});
    let mut ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    });
    if let Some(class) = settings.get("class") {
        ingress["spec"]["ingressClassName"] = json!(class);
    }
    Ok(Some(api::Plan {
        // An Ingress needs no load balancer of its own, and Kubernetes refuses what belongs to one.
        patch: CLUSTER_IP.to_owned(),
        objects: vec![ingress.to_string()],
        warnings: Vec::new(),
        extra: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::types::{Container, RestartPolicy};

    fn container(labels: &[(&str, &str)]) -> Container {
        Container {
            name: "web".into(),
            image: "nginx".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            env: Vec::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            published: Vec::new(),
            publish_all: false,
            exposed: Vec::new(),
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

    fn asked(labels: &[(&str, &str)]) -> Option<api::Plan> {
        let input = api::Input {
            object: r#"{"metadata":{"name":"web"},"spec":{"ports":[{"port":8080}]}}"#.into(),
            api_version: "v1".into(),
            kind: "Service".into(),
            container: Some(container(labels)),
            extra: Vec::new(),
        };
        decide(&input, &Settings::of(&[("class", "nginx")])).unwrap()
    }

    #[test]
    fn a_host_gets_an_ingress_to_its_service() {
        let plan = asked(&[("host", "web.example.com")]).unwrap();
        let ingress: Value = serde_json::from_str(&plan.objects[0]).unwrap();
        let path = &ingress["spec"]["rules"][0]["http"]["paths"][0];
        assert_eq!(path["backend"]["service"], json!({"name": "web", "port": {"number": 8080}}));
        assert_eq!(ingress["spec"]["ingressClassName"], "nginx");
    }

    #[test]
    fn the_service_is_left_with_nothing_of_a_load_balancer() {
        let patch: Value =
            serde_json::from_str(&asked(&[("host", "web.example.com")]).unwrap().patch).unwrap();
        assert_eq!(patch["spec"]["type"], "ClusterIP");
        assert_eq!(patch["spec"].get("loadBalancerClass"), Some(&Value::Null));
    }

    #[test]
    fn without_the_label_nothing_changes() {
        assert_eq!(asked(&[("tier", "web")]), None);
    }
}

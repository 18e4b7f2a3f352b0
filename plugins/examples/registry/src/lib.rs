//! An example: images of one registry come from a mirror inside the company, and `latest` is refused.

use d2k_guest::Settings;

d2k_guest::policy! {
    wit: "../../../wit",
    world: "images-policy",
    hook: images,
    name: "registry",
    summary: "Takes images of Docker Hub from a mirror, and refuses images without a version.",
    settings: [
        ("mirror", "mirror.example.com", "The registry that stands for Docker Hub."),
        ("allow-latest", "false", "Whether an image may have no version: true or false."),
    ],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if let Some(mirror) = settings.get("mirror").filter(|host| host.is_empty() || host.contains(['/', ' '])) {
        problems.push(("mirror".into(), format!("\"{mirror}\" is no host of a registry")));
    }
    let latest = settings.get("allow-latest");
    if let Some(value) = latest.filter(|value| !matches!(*value, "true" | "false")) {
        problems.push(("allow-latest".into(), format!("\"{value}\" is neither true nor false")));
    }
    problems
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let reference = &input.reference;
    let last = reference.rsplit('/').next().unwrap_or_default();
    let versioned = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    if !versioned && !settings.is_true("allow-latest") {
        return Err(forbid(format!("image {reference} has no version: write {reference}:VERSION")));
    }
    let path = match reference.split_once('/') {
        None => format!("library/{reference}"),
        Some(("docker.io" | "index.docker.io", rest)) if !rest.contains('/') => format!("library/{rest}"),
        Some(("docker.io" | "index.docker.io", rest)) => rest.to_owned(),
        // Another registry: the next policy decides.
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => return Ok(None),
        Some(_) => reference.clone(),
    };
    let mirror = settings.get("mirror").unwrap_or("mirror.example.com");
    Ok(Some(api::Plan { reference: format!("{mirror}/{path}"), warnings: Vec::new(), extra: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(reference: &str) -> Result<Option<String>, String> {
        let input =
            api::Input { reference: reference.into(), purpose: api::Purpose::Pull, extra: Vec::new() };
        let plan = decide(&input, &Settings::of(&[("mirror", "hub.acme.test")]));
        plan.map(|plan| plan.map(|plan| plan.reference)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn images_of_docker_hub_come_from_the_mirror() {
        assert_eq!(asked("nginx:1.29").unwrap().unwrap(), "hub.acme.test/library/nginx:1.29");
        assert_eq!(asked("acme/app:2").unwrap().unwrap(), "hub.acme.test/acme/app:2");
        assert_eq!(asked("docker.io/nginx:1.29").unwrap().unwrap(), "hub.acme.test/library/nginx:1.29");
        assert_eq!(asked("ghcr.io/acme/app:2"), Ok(None));
    }

    #[test]
    fn an_image_without_a_version_is_refused() {
        assert!(asked("nginx").unwrap_err().contains("nginx:VERSION"));
        assert!(asked("nginx:latest").is_err());
        assert!(asked("localhost:5000/app").is_err());
    }

    #[test]
    fn wrong_values_are_named() {
        let problems = check(&Settings::of(&[("allow-latest", "yes"), ("mirror", "a/b")]));
        assert_eq!(
            problems.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["mirror", "allow-latest"]
        );
    }
}

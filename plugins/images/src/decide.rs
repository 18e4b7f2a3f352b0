//! Which image is meant.

use d2k_guest::{Settings, name_fits};

use crate::api::{Input, Plan, Refusal};

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (at, entry) in settings.entries("rewrite") {
        for (name, words) in [("from", "what a reference begins with"), ("to", "what to put in its place")] {
            if entry.get(name).is_none_or(str::is_empty) {
                problems.push((format!("rewrite.{at}.{name}"), format!("missing: {words}")));
            }
        }
    }
    problems
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    let plan = |reference| Ok(Some(Plan { reference, warnings: Vec::new(), extra: Vec::new() }));
    if settings.is_empty() {
        return plan(input.reference.clone());
    }
    let full = full(&input.reference);
    let allowed = settings.list("allow");
    if !allowed.is_empty() && !allowed.iter().any(|pattern| name_fits(pattern, &full)) {
        let allowed = allowed.join(", ");
        return Err(crate::forbid(format!("image {full} is not among the allowed ones ({allowed})")));
    }
    for (_, entry) in settings.entries("rewrite") {
        let (Some(from), Some(to)) = (entry.get("from"), entry.get("to")) else { continue };
        if let Some(rest) = full.strip_prefix(from) {
            return plan(format!("{to}{rest}"));
        }
    }
    plan(input.reference.clone())
}

/// The reference with the registry and the folder that Docker adds; tag and digest stay.
fn full(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Purpose;

    fn asked(reference: &str, settings: &[(&str, &str)]) -> Result<String, String> {
        let input = Input { reference: reference.into(), purpose: Purpose::Pull, extra: Vec::new() };
        let plan = decide(&input, &Settings::of(settings));
        plan.map(|plan| plan.unwrap().reference).map_err(|refusal| refusal.message)
    }

    #[test]
    fn an_image_is_taken_as_it_is_written() {
        assert_eq!(asked("nginx:1.29", &[]).unwrap(), "nginx:1.29");
    }

    #[test]
    fn a_registry_is_rewritten_by_the_full_reference() {
        let settings = [("rewrite.0.from", "docker.io/"), ("rewrite.0.to", "mirror.example.com/hub/")];
        assert_eq!(asked("nginx", &settings).unwrap(), "mirror.example.com/hub/library/nginx");
        assert_eq!(
            asked("acme/app@sha256:ab", &settings).unwrap(),
            "mirror.example.com/hub/acme/app@sha256:ab"
        );
        assert_eq!(asked("ghcr.io/acme/app", &settings).unwrap(), "ghcr.io/acme/app");
        assert_eq!(asked("localhost:5000/app", &settings).unwrap(), "localhost:5000/app");
    }

    #[test]
    fn an_image_that_is_not_allowed_is_refused() {
        let settings = [("allow.0", "ghcr.io/acme/*"), ("allow.1", "docker.io/library/*")];
        assert_eq!(asked("nginx", &settings).unwrap(), "nginx");
        assert!(asked("evil/app", &settings).unwrap_err().contains("docker.io/evil/app"));
    }

    #[test]
    fn half_a_rewrite_is_named() {
        assert_eq!(check(&Settings::of(&[("rewrite.0.from", "docker.io/")]))[0].0, "rewrite.0.to");
    }
}

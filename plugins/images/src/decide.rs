//! Which image is meant.

use d2k_guest::{Settings, name_fits};

use crate::api::{Input, Plan, Refusal};

const PARTS: [(&str, &str, &str); 4] = [
    ("rewrite", "from", "what a reference begins with"),
    ("rewrite", "to", "what to put in its place"),
    ("pin", "image", "the image, such as nginx:1.29"),
    ("pin", "digest", "its digest, such as sha256:…"),
];

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (list, name, words) in PARTS {
        for (at, entry) in settings.entries(list) {
            if entry.get(name).is_none_or(str::is_empty) {
                problems.push((format!("{list}.{at}.{name}"), format!("missing: {words}")));
            }
        }
    }
    for (at, entry) in settings.entries("pin") {
        if let Some(digest) = entry.get("digest").filter(|digest| !is_digest(digest)) {
            let words = format!("\"{digest}\" is no digest: sha256: and 64 digits of 0 to 9 and a to f");
            problems.push((format!("pin.{at}.digest"), words));
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
    let pinned = settings.entries("pin").into_iter().find_map(|(_, entry)| {
        let same = tagged(&self::full(entry.get("image")?)) == tagged(&full);
        same.then_some(())?;
        Some(format!("{}@{}", untagged(&full), entry.get("digest")?))
    });
    let meant = pinned.as_ref().unwrap_or(&full);
    for (_, entry) in settings.entries("rewrite") {
        let (Some(from), Some(to)) = (entry.get("from"), entry.get("to")) else { continue };
        if let Some(rest) = meant.strip_prefix(from) {
            return plan(format!("{to}{rest}"));
        }
    }
    plan(pinned.unwrap_or_else(|| input.reference.clone()))
}

/// The reference with the registry and the folder that Docker adds; tag and digest stay.
fn full(reference: &str) -> String {
    let (registry, path) = match reference.split_once('/') {
        None => ("docker.io", reference),
        Some(("index.docker.io", path)) => ("docker.io", path),
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        Some(_) => ("docker.io", reference),
    };
    let folder = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{registry}/{folder}{path}")
}

/// The full reference without its tag; a digest is none.
fn untagged(full: &str) -> &str {
    match full.rsplit_once(':') {
        Some((name, tag)) if !tag.contains(['/', '@']) && !full.contains('@') => name,
        _ => full,
    }
}

/// The full reference with the tag that Docker adds.
fn tagged(full: &str) -> String {
    if untagged(full).len() == full.len() && !full.contains('@') {
        format!("{full}:latest")
    } else {
        full.to_owned()
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
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
    fn every_spelling_of_docker_hub_is_the_same() {
        let settings = [("rewrite.0.from", "docker.io/library/"), ("rewrite.0.to", "mirror.test/")];
        for reference in
            ["nginx", "library/nginx", "docker.io/nginx", "docker.io/library/nginx", "index.docker.io/nginx"]
        {
            assert_eq!(asked(reference, &settings).unwrap(), "mirror.test/nginx", "{reference}");
        }
        assert_eq!(asked("ghcr.io/nginx", &settings).unwrap(), "ghcr.io/nginx");
    }

    #[test]
    fn a_pinned_image_is_its_digest_and_is_rewritten_like_any_other() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let mut settings = vec![("pin.0.image", "nginx:1.29"), ("pin.0.digest", digest.as_str())];
        assert_eq!(check(&Settings::of(&settings)), []);
        let pinned = format!("docker.io/library/nginx@{digest}");
        assert_eq!(asked("docker.io/nginx:1.29", &settings).unwrap(), pinned);
        assert_eq!(asked("nginx:1.30", &settings).unwrap(), "nginx:1.30");
        assert_eq!(asked("nginx", &settings).unwrap(), "nginx");
        settings.extend([("rewrite.0.from", "docker.io/"), ("rewrite.0.to", "mirror.test/")]);
        assert_eq!(asked("nginx:1.29", &settings).unwrap(), format!("mirror.test/library/nginx@{digest}"));
        let latest = [("pin.0.image", "localhost:5000/app"), ("pin.0.digest", digest.as_str())];
        assert_eq!(
            asked("localhost:5000/app:latest", &latest).unwrap(),
            format!("localhost:5000/app@{digest}")
        );
        assert_eq!(
            check(&Settings::of(&[("pin.0.image", "a"), ("pin.0.digest", "sha256:AB")]))[0].0,
            "pin.0.digest"
        );
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

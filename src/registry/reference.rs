//! Names of images as Docker reads them: `busybox` is `docker.io/library/busybox:latest`, and back.
//! Pure; every refusal has the words of Docker's own reference parser.

mod grammar;

use std::fmt;

use d2k_common::fault::{Fault, Result};
use grammar::{INVALID, check_digest, check_name, is_lower_hex, is_tag};

const HUB: &str = "docker.io";
const HUB_LEGACY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A fully qualified image name: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads `text` as Docker does; without tag and digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() == 64 && is_lower_hex(text) {
            let words =
                format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings");
            return Err(Fault::invalid(words));
        }
        let (registry, remainder) = split_registry(text);
        let named = remainder.split(':').next().unwrap_or_default();
        if named.to_lowercase() != named {
            let words = format!("{INVALID}: repository name ({named}) must be lowercase");
            return Err(Fault::invalid(words));
        }
        let (repository, tag, digest) = split(&remainder);
        check_name(&registry, repository)?;
        tag.map_or(Ok(()), |tag| if is_tag(tag) { Ok(()) } else { Err(Fault::invalid(INVALID)) })?;
        digest.map_or(Ok(()), check_digest)?;
        let default_tag = (tag.is_none() && digest.is_none()).then(|| "latest".to_owned());
        Ok(Self {
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned).or(default_tag),
            digest: digest.map(str::to_owned),
            registry,
        })
    }

    /// The same repository under another tag or digest, as in the `tag` parameter of a pull.
    pub fn with_suffix(&self, tag_or_digest: &str) -> Result<Self> {
        let bare = Self { tag: None, digest: None, ..self.clone() };
        if tag_or_digest.contains(':') {
            check_digest(tag_or_digest)?;
            return Ok(Self { digest: Some(tag_or_digest.to_owned()), ..bare });
        }
        if !is_tag(tag_or_digest) {
            return Err(Fault::invalid("invalid tag format"));
        }
        Ok(Self { tag: Some(tag_or_digest.to_owned()), ..bare })
    }

    /// Host (and port) of the registry, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository at its registry, `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn wanted(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or("latest")
    }

    /// Registry and repository without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it, without tag and digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The name as people write it: `busybox:latest`, `ghcr.io/a/b@sha256:…`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// Whether a `reference` filter of `docker images` selects this name: a glob over the familiar
    /// form, with or without the tag, in which `*` does not cross a slash.
    pub fn matches(&self, pattern: &str) -> Result<bool> {
        let glob = super::glob::compile(pattern).ok_or_else(|| {
            Fault::invalid(format!("invalid filter 'reference={pattern}': syntax error in pattern"))
        })?;
        Ok(glob.is_match(&self.familiar()) || glob.is_match(&self.familiar_name()))
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = &self.digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

/// Splits `name:tag@digest` into its parts without judging them; a port is not taken for a tag.
pub fn split(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

/// Whether an `ancestor` filter of `docker ps` names this image: by reference, by digest, or by ID.
pub fn is_ancestor(filter: &str, reference: &str, id: &str, digest: &str) -> bool {
    let hex = filter.strip_prefix("sha256:").unwrap_or(filter);
    let by_id = !hex.is_empty()
        && is_lower_hex(hex)
        && id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex));
    let Ok(wanted) = Reference::parse(filter) else {
        return by_id;
    };
    let Ok(image) = Reference::parse(reference) else {
        return by_id;
    };
    let by_digest = wanted.digest().is_some_and(|wanted| wanted == digest) && wanted.name() == image.name();
    by_id || by_digest || wanted == image
}

fn split_registry(text: &str) -> (String, String) {
    let (registry, remainder) = match text.split_once('/') {
        Some((HUB_LEGACY, rest)) => (HUB, rest),
        Some((host, rest)) if is_host(host) => (host, rest),
        _ => (HUB, text),
    };
    if registry == HUB && !remainder.contains('/') {
        return (HUB.to_owned(), format!("{OFFICIAL}{remainder}"));
    }
    (registry.to_owned(), remainder.to_owned())
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.to_lowercase() != text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn refusal(text: &str) -> String {
        Reference::parse(text).expect_err(text).message
    }

    #[test]
    fn short_names_become_full_and_back() {
        for (short, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("grafana/loki", "docker.io/grafana/loki:latest", "grafana/loki:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("ghcr.io/a/b__c/d--e", "ghcr.io/a/b__c/d--e:latest", "ghcr.io/a/b__c/d--e:latest"),
            ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
        ] {
            let reference = Reference::parse(short).expect(short);
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(full).expect(full), reference);
        }
        let both = Reference::parse(&format!("a/b:c@{DIGEST}")).expect("tag and digest");
        assert_eq!((both.tag(), both.digest(), both.wanted()), (Some("c"), Some(DIGEST), DIGEST));
        assert_eq!(Reference::parse(&format!("a@{DIGEST}")).expect("digest").tag(), None);
    }

    #[test]
    fn refusals_have_the_words_of_docker() {
        assert_eq!(
            refusal("Foo"),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
        assert_eq!(refusal("a/B:x"), "invalid reference format: repository name (a/B) must be lowercase");
        for bad in
            ["", ":x", "a b", "a//b", "-a", "a:", "a:-x", "a___b", "a..b", "x:y/z", "h:p/x", "a@sha256:12"]
        {
            assert_eq!(refusal(bad), "invalid reference format", "{bad}");
        }
        assert_eq!(refusal(&format!("a@{DIGEST}00")), "invalid checksum digest length");
        assert_eq!(refusal(&format!("a@md5:{}", "0".repeat(32))), "unsupported digest algorithm");
        assert!(refusal(&"a".repeat(64)).contains("cannot specify 64-byte hexadecimal strings"));
        assert!(refusal(&format!("a/{}", "x".repeat(255))).contains("255 characters"));
        let busybox = Reference::parse("busybox").expect("busybox");
        assert_eq!(busybox.with_suffix("a/b").expect_err("tag").message, "invalid tag format");
        assert_eq!(busybox.with_suffix(DIGEST).expect("digest").familiar(), format!("busybox@{DIGEST}"));
        assert_eq!(busybox.with_suffix("1").expect("tag").familiar(), "busybox:1");
    }

    #[test]
    fn filters_select_as_docker_images_and_ps_do() {
        let busybox = Reference::parse("busybox:1.36").expect("busybox");
        for (pattern, hit) in [
            ("busybox", true),
            ("busy*", true),
            ("*:1.*", true),
            ("busybox:latest", false),
            ("*/busybox", false),
            ("b?sybo[xy]:1.36", true),
            ("b[^u]sybox", false),
            ("docker.io/library/busybox", false),
        ] {
            assert_eq!(busybox.matches(pattern).expect(pattern), hit, "{pattern}");
        }
        assert!(
            !Reference::parse("a/b").expect("a/b").matches("*").expect("star"),
            "a star stays in its segment"
        );
        assert!(busybox.matches("a[").is_err());
        let full = "docker.io/library/busybox:latest";
        let id = format!("sha256:{}", "ab".repeat(32));
        for (filter, hit) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("busybox:1", false),
            ("abab", true),
            ("sha256:abab", true),
            ("abac", false),
            ("", false),
        ] {
            assert_eq!(is_ancestor(filter, full, &id, DIGEST), hit, "{filter}");
        }
        assert!(is_ancestor(&format!("busybox@{DIGEST}"), full, &id, DIGEST));
    }

    #[test]
    fn split_does_not_take_a_port_for_a_tag() {
        assert_eq!(split("h:5000/a"), ("h:5000/a", None, None));
        assert_eq!(split("h:5000/a:b@c:d"), ("h:5000/a", Some("b"), Some("c:d")));
    }
}

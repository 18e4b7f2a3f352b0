//! Paths of the API: group, version, namespace, resource, name, subresource.

/// A path below `/api` or `/apis`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Path {
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub plural: String,
    pub name: String,
    pub subresource: String,
}

impl Path {
    /// Reads a path; `None` if it cannot be one of a resource.
    pub fn parse(path: &str) -> Option<Self> {
        Self::begin(path).and_then(|(path, more)| (!more).then_some(path))
    }

    /// The same of a path that may go on behind the subresource, as one of a proxy does; whether it does.
    pub fn begin(path: &str) -> Option<(Self, bool)> {
        let decoded: Vec<String> = path
            .strip_prefix('/')?
            .split('/')
            .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let mut parts = decoded.into_iter();
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut rest: Vec<String> = parts.collect();
        let mut path = Self { group, version, ..Self::default() };
        // A namespace is an object, too: then nothing of it, or a subresource follows.
        let within = rest.first().is_some_and(|p| p == "namespaces")
            && rest.len() > 2
            && !matches!(rest.get(2).map(String::as_str), Some("status" | "finalize"));
        if within {
            path.namespace = rest.get(1)?.clone();
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        path.plural = rest.next()?;
        path.name = rest.next().unwrap_or_default();
        path.subresource = rest.next().unwrap_or_default();
        let more = rest.next().is_some();
        (!path.plural.is_empty()).then_some((path, more))
    }
}

/// A path without the `watch` that older clients put after the version, and whether it was there.
pub fn unwatched(path: &str) -> (String, bool) {
    let parts: Vec<&str> = path.split('/').collect();
    let at = if path.starts_with("/apis/") { 4 } else { 3 };
    if parts.get(at) != Some(&"watch") {
        return (path.to_owned(), false);
    }
    let kept = parts.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, part)| *part);
    (kept.collect::<Vec<_>>().join("/"), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<[String; 5]> {
        Path::parse(path).map(|p| [p.group, p.namespace, p.plural, p.name, p.subresource])
    }

    #[test]
    fn the_old_path_of_a_watch_is_read() {
        let cases = [
            ("/api/v1/watch/namespaces/a/pods", ("/api/v1/namespaces/a/pods", true)),
            ("/apis/apps/v1/watch/deployments", ("/apis/apps/v1/deployments", true)),
            ("/api/v1/namespaces/watch/pods", ("/api/v1/namespaces/watch/pods", false)),
        ];
        for (path, (wanted, watched)) in cases {
            assert_eq!(unwatched(path), (wanted.to_owned(), watched), "{path}");
        }
    }

    #[test]
    fn paths_are_read() {
        let cases = [
            ("/api/v1/pods", ["", "", "pods", "", ""]),
            ("/api/v1/namespaces", ["", "", "namespaces", "", ""]),
            ("/api/v1/namespaces/a", ["", "", "namespaces", "a", ""]),
            ("/api/v1/namespaces/a/status", ["", "", "namespaces", "a", "status"]),
            ("/api/v1/namespaces/a/pods/b/log", ["", "a", "pods", "b", "log"]),
            ("/apis/apps/v1/namespaces/a/deployments/b", ["apps", "a", "deployments", "b", ""]),
        ];
        for (path, wanted) in cases {
            assert_eq!(parts(path), Some(wanted.map(str::to_owned)), "{path}");
        }
        for path in ["/api", "/apis/apps", "/apis/apps/v1", "/other", "/api/v1/namespaces/a/pods/b/c/d"] {
            assert_eq!(parts(path), None, "{path}");
        }
    }
}

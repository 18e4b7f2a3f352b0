//! Paths inside containers, cleaned by spelling alone: they name places in a file system
//! that does not exist yet, so no real path may be asked.

/// The shortest path that means the same: no doubled slashes, `.` or `..`, no slash at the end.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !absolute => parts.push(".."),
                _ => drop(parts.pop()),
            },
            name => parts.push(name),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_by_spelling() {
        for (given, expected) in [
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("//var/run/docker.sock", "/var/run/docker.sock"),
            ("a/../..", ".."),
            ("", "."),
            ("../../x", "../../x"),
        ] {
            assert_eq!(clean(given), expected, "{given}");
        }
    }
}

//! What a bind of a path becomes: the path of the machine, below the folders that the operator allows,
//! or a refusal.

use d2k_guest::Settings;

use crate::api::{Input, Plan, Refusal};

const HOST: &str = "host";
const REFUSE: &str = "refuse";
const LISTS: [&str; 2] = ["bind-roots", "bind-refused"];

pub fn check(settings: &Settings, problems: &mut Vec<(String, String)>) {
    if let Some(value) = settings.get("bind").filter(|value| ![HOST, REFUSE].contains(value)) {
        problems.push(("bind".into(), format!("\"{value}\" is neither {HOST} nor {REFUSE}")));
    }
    for list in LISTS {
        for folder in settings.list(list).into_iter().filter(|folder| !is_clean(folder)) {
            let words = "is no absolute path without empty, . and .. steps, such as /srv/data";
            problems.push((list.into(), format!("\"{folder}\" {words}")));
        }
    }
}

fn is_clean(folder: &str) -> bool {
    let step = |step: &str| !matches!(step, "" | "." | "..");
    folder == "/" || folder.strip_prefix('/').is_some_and(|rest| rest.split('/').all(step))
}

pub fn is_asked(input: &Input) -> bool {
    of(input, "kind") == Some("bind")
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Plan, Refusal> {
    let embedded = of(input, "cluster") == Some("embedded");
    let default = if embedded { HOST } else { REFUSE };
    if settings.get("bind").unwrap_or(default) == REFUSE {
        return Err(crate::invalid(unsupported(input)));
    }
    let path = of(input, "path").unwrap_or(&input.name);
    let refused = settings.list("bind-refused");
    // A folder above a refused one shows it, too.
    let shows = |folder: &&String| is_in(path, folder) || is_in(folder, path);
    if let Some(folder) = refused.iter().find(shows) {
        let named = named(input, path);
        let words =
            format!("bind mounts: {named} is refused: nothing of {folder} may be seen in a container");
        return Err(crate::forbid(words));
    }
    let roots = settings.list("bind-roots");
    if roots.is_empty() && embedded {
        return Ok(plan(None));
    }
    let root = roots.iter().filter(|root| is_in(path, root)).max_by_key(|root| root.len());
    match root {
        Some(root) => Ok(plan(Some(root))),
        None if roots.is_empty() => Err(crate::forbid(
            "bind mounts: no folder of the nodes may be bound: the operator of d2k lists them in the setting bind-roots of the policy volumes".into(),
        )),
        None => Err(crate::forbid(format!(
            "bind mounts: {} is in none of the folders that may be bound ({})",
            named(input, path),
            roots.join(", ")
        ))),
    }
}

/// The source, and where its links lead if that is elsewhere.
fn named(input: &Input, path: &str) -> String {
    if path == input.name { path.to_owned() } else { format!("{} (which is {path})", input.name) }
}

fn unsupported(input: &Input) -> String {
    let (source, target) = (&input.name, of(input, "target").unwrap_or_default());
    format!(
        "bind mounts are not supported: \"{source}\" (for {target}) would be a directory of the Docker host, and a Kubernetes Pod can run on any node. \
         Use a named volume (-v NAME:{target}), or copy the files with \"docker cp\" into the container between \"docker create\" and \"docker start\"; \
         in a Compose file, give secrets by \"environment:\" and configs by \"content:\", which are copied"
    )
}

fn plan(root: Option<&String>) -> Plan {
    let bind = ("bind".to_owned(), HOST.to_owned());
    Plan {
        size: String::new(),
        storage_class: None,
        access_mode: String::new(),
        labels: Vec::new(),
        annotations: Vec::new(),
        warnings: Vec::new(),
        extra: [bind].into_iter().chain(root.map(|root| ("root".to_owned(), root.clone()))).collect(),
    }
}

fn of<'a>(input: &'a Input, name: &str) -> Option<&'a str> {
    input.extra.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whether a clean path is a clean folder or lies below it.
fn is_in(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(source: &str, path: &str, cluster: &str) -> Input {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Input {
            name: source.into(),
            labels: Vec::new(),
            anonymous: false,
            size: None,
            storage_class: None,
            access_mode: None,
            extra: vec![
                pair("cluster", cluster),
                pair("kind", "bind"),
                pair("path", path),
                pair("target", "/x"),
            ],
        }
    }

    fn root(path: &str, cluster: &str, settings: &[(&str, &str)]) -> Result<Option<String>, String> {
        let plan = crate::decide::decide(&asked(path, path, cluster), &Settings::of(settings));
        let plan = plan.map_err(|refusal| refusal.message)?.unwrap();
        assert_eq!(plan.extra[0], ("bind".to_owned(), "host".to_owned()));
        Ok(plan.extra.get(1).map(|(_, root)| root.clone()))
    }

    #[test]
    fn a_bind_is_mounted_on_the_embedded_cluster_and_refused_on_others() {
        assert_eq!(root("/", "embedded", &[]), Ok(None));
        let words = root("/etc/app", "kubernetes", &[]).unwrap_err();
        assert!(words.contains("named volume (-v NAME:/x)"), "{words}");
        assert!(root("/etc/app", "embedded", &[("bind", "refuse")]).is_err());
    }

    #[test]
    fn on_other_clusters_a_folder_has_to_be_listed() {
        let words = root("/data/a", "kubernetes", &[("bind", "host")]).unwrap_err();
        assert!(words.contains("bind-roots"), "{words}");
        let settings = [("bind", "host"), ("bind-roots.0", "/data"), ("bind-roots.1", "/data/deep")];
        assert_eq!(root("/data/a", "kubernetes", &settings), Ok(Some("/data".into())));
        assert_eq!(root("/data/deep/a", "kubernetes", &settings), Ok(Some("/data/deep".into())));
        for outside in ["/", "/database", "/etc"] {
            let words = root(outside, "kubernetes", &settings).unwrap_err();
            assert!(words.contains("(/data, /data/deep)"), "{words}");
        }
    }

    #[test]
    fn nothing_of_a_refused_folder_is_shown_from_above_or_through_a_link() {
        let settings = [("bind-refused.0", "/etc")];
        for shown in ["/", "/etc", "/etc/passwd"] {
            assert!(root(shown, "embedded", &settings).is_err(), "{shown}");
        }
        assert_eq!(root("/etcetera", "embedded", &settings), Ok(None));
        let refusal = decide(&asked("/srv/link", "/etc", "embedded"), &Settings::of(&settings)).unwrap_err();
        assert!(refusal.message.contains("/srv/link (which is /etc)"), "{}", refusal.message);
        let settings = [("bind-refused.0", "/")];
        assert!(root("/srv", "embedded", &settings).is_err());
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let settings = [("bind", "nfs"), ("bind-roots.0", "data"), ("bind-refused.0", "/a/../b")];
        let problems = crate::decide::check(&Settings::of(&settings));
        let names: Vec<&str> = problems.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bind", "bind-roots", "bind-refused"]);
        assert_eq!(crate::decide::check(&Settings::of(&[("bind-roots.0", "/"), ("bind", "host")])), []);
    }
}

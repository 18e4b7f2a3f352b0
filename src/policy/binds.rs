//! Binds in the hook `volumes`. The interface of 1.0.0 has no record for them, so that what is asked
//! and answered about a bind is in `extra` (`wit/volumes.wit` has the names).

use super::bindings::volumes::exports::d2k::policy::volumes::{Input, Plan};
use super::plans::{Senseless, Sound};

/// Whether a plan says what becomes of a bind.
pub(super) fn is_answer(plan: &Plan) -> bool {
    of(&plan.extra, "bind").is_some()
}

/// The only answer besides a refusal is `host`; a root must be a folder that the path is in.
pub(super) fn sound(input: &Input, plan: &mut Plan) -> Sound {
    let path = of(&input.extra, "path").unwrap_or(&input.name);
    let kind = of(&plan.extra, "bind").unwrap_or_default();
    if kind != "host" {
        return Err(Senseless::Bind { kind: kind.to_owned(), path: path.to_owned() });
    }
    match root(plan).filter(|root| !root.starts_with('/') || rest(path, root).is_none()) {
        Some(root) => Err(Senseless::Root { root: root.to_owned(), path: path.to_owned() }),
        None => Ok(std::mem::take(&mut plan.warnings)),
    }
}

/// The folder that the bind must not lead out of, if there is one.
pub fn root(plan: &Plan) -> Option<&str> {
    of(&plan.extra, "root").filter(|root| !root.is_empty())
}

fn of<'a>(extra: &'a [(String, String)], name: &str) -> Option<&'a str> {
    extra.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The rest of a clean path below a clean folder, empty if they are the same; `None` if it is elsewhere.
pub fn rest<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_a_folder_by_whole_names() {
        for (path, folder, expected) in [
            ("/data/a/b", "/data", Some("a/b")),
            ("/data", "/data", Some("")),
            ("/data/a", "/", Some("data/a")),
            ("/", "/", Some("")),
            ("/database", "/data", None),
            ("/", "/data", None),
        ] {
            assert_eq!(rest(path, folder), expected, "{path} in {folder}");
        }
    }

    #[test]
    fn an_answer_must_be_known_and_its_root_must_hold_the_path() {
        let input = |path: &str| Input {
            name: "/link".into(),
            labels: Vec::new(),
            anonymous: false,
            size: None,
            storage_class: None,
            access_mode: None,
            extra: vec![("path".into(), path.into())],
        };
        let plan = |extra: &[(&str, &str)]| Plan {
            size: String::new(),
            storage_class: None,
            access_mode: String::new(),
            labels: Vec::new(),
            annotations: Vec::new(),
            warnings: Vec::new(),
            extra: extra.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        assert!(!is_answer(&plan(&[])));
        let judged = |path: &str, extra: &[(&str, &str)]| sound(&input(path), &mut plan(extra));
        assert!(judged("/srv/x", &[("bind", "host"), ("root", "/srv")]).is_ok());
        assert!(judged("/srv/x", &[("bind", "host")]).is_ok());
        for wrong in [("bind", "nfs"), ("bind", "")] {
            assert!(judged("/srv/x", &[wrong]).is_err());
        }
        for root in ["/etc", "srv", "/srv/x/y"] {
            assert!(judged("/srv/x", &[("bind", "host"), ("root", root)]).is_err(), "{root}");
        }
    }
}

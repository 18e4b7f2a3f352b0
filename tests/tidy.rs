//! The rules that the source keeps: which member may link what, imports without circles, module docs, and sizes that a
//! reader can hold in mind. Each failure lists every place, so that one run shows all there is to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/links.rs"]
mod links;

const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 500;

/// The parts of the standard library and of crates that `translate` must not name: it is pure.
const NOT_PURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::env",
    "Timestamp::now",
    "SystemTime",
    "Instant",
];

/// A Rust file of the repository.
struct Source {
    path: PathBuf,
    text: String,
    /// The text without comments, strings and characters, line by line the same.
    code: String,
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in folders {
        walk(&Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = blank_out(&text);
            let path = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap().to_owned();
            Source { path, text, code }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The members of the workspace, as folders below `src`.
fn members() -> Vec<String> {
    let manifest =
        fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("Cargo.toml"));
    let line = Regex::new(r#"(?m)^    "src/([a-z0-9-]+)",$"#).unwrap();
    let members: Vec<String> =
        line.captures_iter(&manifest.unwrap()).map(|found| found[1].to_owned()).collect();
    assert!(members.iter().any(|member| member == "daemon"), "the members were not found");
    members
}

/// Replaces comments, strings and characters by spaces, and keeps the line ends.
fn blank_out(text: &str) -> String {
    let tokens = Regex::new(
        r##"(?s)//[^\n]*|/\*.*?\*/|r#"(?:.*?)"#|r"[^"]*"|"(?:\\.|[^"\\])*"|'(?:\\[^']+|[^'\\\n])'"##,
    )
    .unwrap();
    let spaces = |found: &regex::Captures<'_>| -> String {
        found[0].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
    };
    tokens.replace_all(text, spaces).into_owned()
}

#[track_caller]
fn none(what: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{what}:\n{}", places.join("\n"));
}

#[test]
fn translate_does_no_input_or_output_and_reads_no_clock() {
    let mut places = Vec::new();
    let sources = sources(&["src/translate"]);
    assert!(sources.len() > 50, "the sources were not found");
    // A test may read files and the clock.
    for source in sources.iter().filter(|source| !source.path.ends_with("tests.rs")) {
        for word in NOT_PURE {
            let pattern = Regex::new(&format!(r"\b{word}\b")).unwrap();
            for (at, line) in source.code.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
                places.push(format!("{}:{}: {word}: {}", source.path.display(), at + 1, line.trim()));
            }
        }
    }
    none("places that are not pure", places);
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let without = |source: &Source| !source.text.starts_with("//! ");
    let files = sources(&["src", "tests"]);
    assert!(!files.is_empty());
    none(
        "files without a module doc",
        files.iter().filter(|s| without(s)).map(|s| s.path.display().to_string()).collect(),
    );
}

#[test]
fn no_source_file_is_too_long() {
    let long = sources(&["src"])
        .into_iter()
        .map(|source| (source.text.lines().count(), source))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, source)| format!("{}: {lines} lines", source.path.display()))
        .collect();
    none("files that are too long", long);
}

#[test]
fn no_function_is_too_long() {
    let mut places = Vec::new();
    let head = Regex::new(r"\bfn\s+(\w+)").unwrap();
    for source in sources(&["src", "tests"]) {
        for found in head.captures_iter(&source.code) {
            let start = found.get(0).unwrap().start();
            let Some(length) = body_lines(&source.code[start..]) else {
                continue;
            };
            if length > LONGEST_FUNCTION {
                let line = source.code[..start].lines().count().max(1);
                places.push(format!("{}:{line}: {} has {length} lines", source.path.display(), &found[1]));
            }
        }
    }
    none("functions that are too long", places);
}

/// How many lines a function has, from its `fn` to the brace that ends it; `None` without a body.
fn body_lines(code: &str) -> Option<usize> {
    let (mut depth, mut round) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round = round.saturating_sub(1),
            ';' if depth == 0 && round == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(code[..=at].lines().count());
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn modules_are_named_files_and_nothing_is_left_undone() {
    // Written so that this file does not find itself.
    let undone = Regex::new(&["TO", "DO|FIX", "ME|XX", "X"].concat()).unwrap();
    let mut places = Vec::new();
    for source in sources(&["src", "tests"]) {
        if source.path.ends_with("mod.rs") {
            places.push(format!("{} (name it for its folder)", source.path.display()));
        }
        for (at, line) in source.text.lines().enumerate() {
            if undone.is_match(line) {
                places.push(format!("{}:{}: {}", source.path.display(), at + 1, line.trim()));
            }
        }
    }
    none("left undone", places);
}

/// Compares the part of a document between two comments with what the source says, or writes it anew.
fn compare_part(document: &str, name: &str, wanted: &str) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("docs").join(document);
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (part, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("D2K_BLESS").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(part, wanted, "run this test with D2K_BLESS=1 to write {document} anew");
}

#[test]
fn the_documents_tell_what_happens_to_each_field_of_a_create_request() {
    compare_part("create-fields.md", "create fields", &d2k_translate::fields::markdown());
}

#[test]
fn the_documents_list_all_settings() {
    let mut wanted = String::from("| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n");
    for setting in d2k::config::SETTINGS {
        let default =
            if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let (name, flag, value) = (setting.name, setting.flag, setting.value);
        wanted += &format!("| `{name}` | `--{flag} {value}` | {default} | {} |\n", setting.help);
    }
    compare_part("settings.md", "settings", &wanted);
}

#[cfg(target_os = "linux")]
#[test]
fn the_documents_list_the_fields_that_have_no_effect() {
    use d2k_kubeapi::warnings::unsupported::markdown;

    let name = "fields without effect";
    compare_part("embedded.md", name, &markdown(Some(d2k_engine_local::FEATURES)));
    compare_part("k2d.md", name, &markdown(None));
}

#[test]
fn the_readme_is_short() {
    let readme =
        fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("README.md"))
            .unwrap();
    assert!(readme.lines().count() <= 150, "move details of README.md to docs/");
}

#[test]
fn the_security_page_shows_the_rights_of_the_manifest() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let manifest = fs::read_to_string(root.join("deploy/kubernetes.yaml")).unwrap();
    let mut wanted = String::from("| API group | Resources | Verbs |\n|---|---|---|\n");
    let objects =
        manifest.split("\n---\n").map(|text| serde_yaml_ng::from_str::<serde_json::Value>(text).unwrap());
    let words = |value: &serde_json::Value| {
        let words: Vec<_> = value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        words.join(", ")
    };
    for role in objects.filter(|object| object["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            let group = words(&rule["apiGroups"]);
            let group = if group.is_empty() { "core".to_owned() } else { group };
            wanted += &format!("| {group} | {} | {} |\n", words(&rule["resources"]), words(&rule["verbs"]));
        }
    }
    compare_part("SECURITY.md", "role", &wanted);
}

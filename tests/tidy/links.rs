//! Which crates a member of the workspace may use and link, as Cargo resolves them: the heavy ones are each used by
//! one member, and no member links a layer that it must not know.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The members that may name a crate in their code. Tests and benchmarks may name more.
const NAMED_ONLY_BY: &[(&str, &[&str])] = &[
    ("kube", &["d2k-cluster"]),
    ("wasmtime", &["d2k-policy"]),
    ("notify", &["d2k-policy"]),
    ("libcontainer", &["d2k-engine-local"]),
    ("tun", &["d2k-engine-local"]),
    ("rtnetlink", &["d2k-engine-local", "k2d"]),
    ("hickory-proto", &["d2k-network"]),
    ("rcgen", &["d2k-kubeapi"]),
    ("ring", &["d2k-kubeapi"]),
    ("reqwest", &["d2k-registry", "d2k"]),
    ("axum", &["d2k-docker", "d2k-kubeapi", "d2k"]),
    ("hyper", &["d2k-docker", "d2k-kubeapi", "k2d"]),
    ("clap", &["d2k-policy", "d2k", "k2d"]),
    ("bollard-stubs", &["d2k-common", "d2k-registry", "d2k-translate", "d2k-daemon", "d2k-docker"]),
    ("d2k-cluster", &["d2k-daemon", "d2k"]),
    ("d2k-kubeapi", &["d2k", "k2d"]),
    ("d2k-engine-local", &["d2k"]),
];

/// The crates that a member must not link, not even through another crate.
const MUST_NOT_LINK: &[(&str, &[&str])] = &[
    ("d2k-common", &["axum", "hyper", "kube", "k8s-openapi", "wasmtime", "tokio", "reqwest"]),
    ("d2k-translate", &["axum", "hyper", "kube", "wasmtime", "tokio", "reqwest", "d2k-registry"]),
    ("d2k-registry", &["axum", "kube", "k8s-openapi", "wasmtime", "d2k-translate", "d2k-policy"]),
    ("d2k-policy", &["axum", "hyper", "kube", "reqwest", "d2k-registry", "d2k-cluster"]),
    ("d2k-engine", &["axum", "hyper", "kube", "k8s-openapi", "wasmtime", "reqwest", "libcontainer"]),
    (
        "d2k-network",
        &["axum", "hyper", "kube", "k8s-openapi", "wasmtime", "libcontainer", "rtnetlink", "tun"],
    ),
    ("d2k-images", &["axum", "kube", "k8s-openapi", "wasmtime", "libcontainer", "d2k-translate"]),
    ("d2k-engine-local", &["axum", "kube", "wasmtime", "d2k-translate", "d2k-policy", "d2k-kubeapi"]),
    (
        "d2k-kubeapi",
        &[
            "kube",
            "k8s-openapi",
            "schemars",
            "wasmtime",
            "reqwest",
            "libcontainer",
            "d2k-translate",
            "d2k-registry",
            "d2k-policy",
            "d2k-cluster",
            "d2k-daemon",
        ],
    ),
    ("d2k-cluster", &["axum", "wasmtime", "libcontainer", "d2k-policy", "d2k-registry", "d2k-kubeapi"]),
    ("d2k-daemon", &["axum", "libcontainer", "d2k-engine-local", "d2k-kubeapi"]),
    ("d2k-docker", &["libcontainer", "d2k-engine-local", "d2k-kubeapi"]),
    (
        "k2d",
        &[
            "kube",
            "k8s-openapi",
            "schemars",
            "wasmtime",
            "libcontainer",
            "reqwest",
            "d2k-registry",
            "d2k-translate",
        ],
    ),
];

/// Packages by name, each with the names of its dependencies without those for tests and build scripts.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The packages that Cargo.lock resolves to on Linux, with the features that are used.
fn graph() -> Graph {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    // Crates of other platforms are not downloaded by a build, and would be by this.
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let is_linked =
            |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let dependencies = list(&node["deps"]);
        let linked = dependencies.iter().filter(|dependency| is_linked(dependency));
        let linked = linked.map(|dependency| names[&text(&dependency["pkg"])].clone());
        graph.entry(names[&text(&node["id"])].clone()).or_default().extend(linked);
    }
    graph
}

fn is_member(package: &str) -> bool {
    package.starts_with("d2k") || package == "k2d"
}

/// All packages that one links, itself among them.
fn linked<'a>(package: &'a str, graph: &'a Graph) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::from([package]), vec![package]);
    while let Some(next) = open.pop() {
        let dependencies = graph.get(next).into_iter().flatten().map(String::as_str);
        open.extend(dependencies.filter(|dependency| seen.insert(dependency)));
    }
    seen
}

#[test]
fn each_heavy_crate_is_named_by_the_member_that_owns_it() {
    let graph = graph();
    let mut places = Vec::new();
    for (package, members) in NAMED_ONLY_BY {
        assert!(
            graph.contains_key(*package),
            "{package} is not a dependency any more: remove it from the table"
        );
        for member in *members {
            let dependencies = graph.get(*member).unwrap_or_else(|| panic!("no member {member}"));
            assert!(
                dependencies.contains(*package),
                "{member} does not use {package}: remove it from the table"
            );
        }
        let users = graph.iter().filter(|(user, uses)| is_member(user) && uses.contains(*package));
        let others = users.filter(|(user, _)| !members.contains(&user.as_str()));
        places.extend(others.map(|(user, _)| format!("{user} uses {package}")));
    }
    super::none("crates that another member owns", places);
}

#[test]
fn no_member_links_what_it_must_not_know() {
    let graph = graph();
    let mut places = Vec::new();
    for (member, forbidden) in MUST_NOT_LINK {
        assert!(graph.contains_key(*member), "no member {member}");
        let all = linked(member, &graph);
        for package in *forbidden {
            // "schemars" left the graph; the table keeps it out.
            assert!(graph.contains_key(*package) || *package == "schemars", "no package {package}");
            if all.contains(package) {
                places.push(format!("{member} links {package}"));
            }
        }
    }
    super::none("members that link too much", places);
}

//! Files of the source that import each other in a circle: none of them can be read, tested or moved without the
//! others. A parent that names its own child only declares the tree and is not counted.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// The path of a module below the root of its crate: `["attach", "waiting"]`, and nothing for `lib.rs`.
type Module = Vec<String>;
type Edges = BTreeMap<Module, BTreeSet<Module>>;

/// The module of a file, by its path below the folder of its crate.
fn module_of(path: &str) -> Module {
    let steps = path.trim_end_matches(".rs").split('/');
    if path == "lib.rs" { Module::new() } else { steps.map(str::to_owned).collect() }
}

/// The paths that a `use` tree stands for.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split_whitespace().next().unwrap_or_default();
        paths.push(format!("{prefix}{name}"));
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut part) = (0, String::new());
    for c in tree[open + 1..tree.rfind('}').unwrap_or(tree.len())].chars() {
        match c {
            ',' if depth == 0 => {
                expand(&prefix, &std::mem::take(&mut part), paths);
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.push(c);
    }
    if !part.trim().is_empty() {
        expand(&prefix, &part, paths);
    }
}

/// All paths of this crate that code names.
fn paths(code: &str) -> Vec<String> {
    let statement = Regex::new(r"\buse\s+((?:crate|super|self)::[^;]*);").unwrap();
    let inline = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    let mut paths = Vec::new();
    for found in statement.captures_iter(code) {
        expand("", &found[1], &mut paths);
    }
    let rest = statement.replace_all(code, "");
    paths.extend(inline.find_iter(&rest).map(|found| found.as_str().to_owned()));
    paths
}

/// The module file that a path leads to, seen from `module`.
fn target(module: &Module, path: &str, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut place = module.clone();
    for step in path.split("::") {
        match step {
            "crate" => place.clear(),
            "super" => drop(place.pop()),
            "self" => {}
            name => place.push(name.to_owned()),
        }
    }
    while !place.is_empty() && !modules.contains(&place) {
        place.pop();
    }
    (modules.contains(&place) && place != *module).then_some(place)
}

/// Which file names which, of the files of a crate, given by their path below its folder and their code.
fn edges<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Edges {
    let tests = Regex::new(r"(?s)#\[cfg\(test\)\]\s*mod \w+ \{.*").unwrap();
    let files: Vec<(Module, &str)> = files.into_iter().map(|(path, code)| (module_of(path), code)).collect();
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let named = |(module, code): (Module, &str)| {
        let code = tests.replace(code, "");
        let targets = paths(&code).iter().filter_map(|path| target(&module, path, &modules)).collect();
        (module, targets)
    };
    files.into_iter().map(named).collect()
}

/// All modules that can be reached from one.
fn reached(from: &Module, edges: &Edges) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        for next in edges.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// The groups of files that import each other, each as one line.
fn circles(edges: &Edges) -> Vec<String> {
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        edges.keys().map(|module| (module, reached(module, edges))).collect();
    let mut groups = BTreeSet::new();
    for (module, all) in reach.iter().filter(|(module, all)| all.contains(**module)) {
        let back = |other: &&Module| reach.get(*other).is_some_and(|others| others.contains(*module));
        let name = |module: &Module| if module.is_empty() { "lib".to_owned() } else { module.join("::") };
        groups.insert(all.iter().filter(back).map(name).collect::<Vec<_>>().join(", "));
    }
    groups.into_iter().collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.ends_with("testing.rs");
    let (mut imports, mut found) = (0, Vec::new());
    for member in super::members() {
        let files = super::sources(&[&format!("src/{member}")]);
        let files = files.iter().map(|source| {
            let path = source.path.strip_prefix(format!("src/{member}")).unwrap();
            (path.display().to_string(), source.code.as_str())
        });
        let files: Vec<(String, &str)> =
            files.filter(|(path, _)| !path.contains("generate/") && !is_test(path)).collect();
        let edges = edges(files.iter().map(|(path, code)| (path.as_str(), *code)));
        imports += edges.values().map(BTreeSet::len).sum::<usize>();
        found.extend(circles(&edges).into_iter().map(|circle| format!("{member}: {circle}")));
    }
    assert!(imports > 500, "the imports were not found");
    super::none("files that import each other", found);
}

#[test]
fn a_circle_is_found_in_each_way_to_write_an_import() {
    let one = "use crate::{b::{self, Thing}, c};";
    for back in ["use super::a;", "use crate::a::One;", "fn f() { crate::a::f() }"] {
        let files = [("a.rs", one), ("b.rs", back), ("c.rs", "use std::fmt;")];
        assert_eq!(circles(&edges(files)), ["a, b"], "{back}");
    }
    let nested =
        [("a.rs", "mod b;"), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "use self::d::D;\nuse super::b;")];
    assert_eq!(circles(&edges(nested)), ["a::b, a::c"]);
    let tests = [("a.rs", "use crate::b;"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::a; }")];
    assert!(circles(&edges(tests)).is_empty());
}

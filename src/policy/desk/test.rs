//! `d2k policy test`: every fixture against the component, then what the host expects of any policy.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Output;
use super::error::Error;
use super::subject::Subject;
use crate::ask::{Reply, ask};
use crate::component::Hook;
use crate::fixtures::{self, Fixture, RunError};
use crate::limits::Limits;
use crate::value::without_empty;
use d2k_translate::network::is_dns_label;

pub struct Options {
    pub bless: bool,
    pub coverage: bool,
    pub output: Output,
}

struct Case {
    name: String,
    /// Why it fails.
    wrong: Option<String>,
}

pub fn test(paths: &[PathBuf], options: &Options) -> Result<bool, Error> {
    let mut good = true;
    for path in paths {
        let subject = Subject::open(path)?;
        if options.bless {
            bless(&subject)?;
        }
        let all = subject.fixtures()?;
        let mut cases: Vec<Case> = all
            .iter()
            .map(|fixture| {
                let held = fixtures::run(&subject.linked, Limits::default(), fixture);
                Case { name: fixture.name.clone(), wrong: held.err().map(|e| e.to_string()) }
            })
            .collect();
        cases.extend(properties(&subject, &all));
        good &= cases.iter().all(|case| case.wrong.is_none());
        report(&subject, &cases, &all, options);
    }
    Ok(good)
}

fn report(subject: &Subject, cases: &[Case], fixtures: &[Fixture], options: &Options) {
    let failed = cases.iter().filter(|case| case.wrong.is_some()).count();
    let reached = if options.coverage { coverage(subject, fixtures) } else { Vec::new() };
    if options.output == Output::Json {
        let cases: Vec<Value> = cases.iter().map(|c| json!({"name": c.name, "wrong": c.wrong})).collect();
        println!("{:#}", json!({"policy": subject.info.name, "cases": cases, "not-reached": reached}));
        return;
    }
    println!("{} {} ({})", subject.info.name, subject.info.version, subject.shown);
    for case in cases {
        match &case.wrong {
            None => println!("  ok      {}", case.name),
            Some(words) => println!("  FAILED  {words}"),
        }
    }
    for words in reached {
        println!("  not reached: {words}");
    }
    println!("  {} passed, {failed} failed", cases.len() - failed);
}

/// What must hold for any policy, tried with its own fixtures and, for names, with many more.
fn properties(subject: &Subject, fixtures: &[Fixture]) -> Vec<Case> {
    let mut cases = vec![Case { name: "the same question has the same answer".into(), wrong: None }];
    for fixture in fixtures {
        let twice = [0, 1].map(|_| {
            ask(&subject.linked, fixture.hook, &fixture.input, &fixture.settings, Limits::default())
                .map(|asked| asked.reply)
        });
        if let [Ok(first), Ok(second)] = &twice
            && first != second
            && let Some(case) = cases.first_mut()
        {
            case.wrong = Some(format!("{}: two answers to one question", fixture.name));
        }
    }
    if subject.linked.hooks.list_has(Hook::Naming) {
        let wrong = names(subject).err();
        cases.push(Case { name: "names are legal, and no two meet".into(), wrong });
    }
    cases
}

/// Docker names that are hard to keep apart.
fn hard_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "web", "Web", "WEB", "my_App", "my-app", "My.App", "my.app", "my__app", "1web", "0", "_x", "x_",
        "a.b", "a-b",
    ]
    .map(str::to_owned)
    .into();
    names.extend((0..40).map(|n| format!("demo-service_{n}")));
    names.extend((0..40).map(|n| format!("demo-service-{n}")));
    names.extend([44, 45, 46, 63, 64, 200].map(|length| "n".repeat(length)));
    names.extend(["a", "b"].map(|end| format!("{}{end}", "long-name-".repeat(12))));
    names
}

/// Asks for all of them; the error is the line that the report has.
fn names(subject: &Subject) -> Result<(), String> {
    for (what, longest) in [("container", 45), ("volume", 63), ("network", 63)] {
        let mut given = BTreeSet::new();
        for docker_name in hard_names() {
            let input = json!({"what": what, "docker-name": docker_name});
            let asked = ask(&subject.linked, Hook::Naming, &input, &[], Limits::default())
                .map_err(|e| e.to_string())?;
            let Reply::Plan(plan) = asked.reply else { continue };
            let name = plan.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !is_dns_label(&name)
                || name.len() > longest
                || !name.starts_with(|c: char| c.is_ascii_lowercase())
            {
                return Err(format!("the name {name:?} of {what} {docker_name:?} is not legal"));
            }
            if !given.insert(name.clone()) {
                return Err(format!("{what} {docker_name:?} gets the name {name:?}, which another one has"));
            }
        }
    }
    Ok(())
}

/// Settings that no fixture writes, and kinds of answer that none expects.
fn coverage(subject: &Subject, fixtures: &[Fixture]) -> Vec<String> {
    let mut missing = Vec::new();
    for setting in &subject.info.settings {
        let written = fixtures.iter().flat_map(|f| &f.settings);
        if !written.into_iter().any(|(name, _)| crate::settings::matches(&setting.name, name)) {
            missing.push(format!("setting {}", setting.name));
        }
    }
    for hook in subject.linked.hooks.list() {
        let of_hook = || fixtures.iter().filter(move |f| f.hook == hook);
        let refuses = |f: &&Fixture| f.expect.get("refusal").is_some();
        let plans = |f: &&Fixture| f.expect.is_object() && !refuses(f);
        if !of_hook().any(|f| plans(&f)) {
            missing.push(format!("{}: a plan", hook.name()));
        }
        if !of_hook().any(|f| refuses(&f)) {
            missing.push(format!("{}: a refusal", hook.name()));
        }
    }
    missing
}

/// Writes what the policy answers in place of what was expected. Comments above the first line of
/// each document's `expect` stay; what stands below it goes.
fn bless(subject: &Subject) -> Result<(), Error> {
    for file in &subject.fixture_files {
        let shown = file.display().to_string();
        let text = fs::read_to_string(file).map_err(Error::file(file))?;
        let mut written = Vec::new();
        let documents: Vec<&str> = text.split("\n---\n").collect();
        for (document, fixture) in documents.iter().zip(fixtures::parse(&shown, &text)?) {
            let asked =
                ask(&subject.linked, fixture.hook, &fixture.input, &fixture.settings, Limits::default())
                    .map_err(|source| RunError::Ask { name: fixture.name, source })?;
            let kept: Vec<&str> = document.lines().take_while(|line| !line.starts_with("expect:")).collect();
            let expect = json!({"expect": without_empty(asked.reply.json())});
            let yaml = serde_yaml_ng::to_string(&expect)?;
            written.push(format!("{}\n{yaml}", kept.join("\n")));
        }
        fs::write(file, written.join("---\n")).map_err(Error::file(file))?;
    }
    Ok(())
}

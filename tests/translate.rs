//! Golden folders below `tests/translate`: a create request goes in, a Pod template or a claim, the
//! warnings or the refusal come out, all as files that a person can read. `D2K_BLESS=1` rewrites them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bollard_stubs::models::{ContainerCreateBody, VolumeCreateRequest};
use d2k_common::fault::{Fault, Kind};
use d2k_common::image::ImageFacts;
use d2k_translate::mounts::{self, MountKind};
use d2k_translate::pod::context::{HostPath, PodContext, StagedFile};
use d2k_translate::pod::pod_template;
use d2k_translate::record::{Record, RunState};
use d2k_translate::{fields, helper, request, validate, volume};
use serde::Deserialize;
use serde_json::Value;

const ID: &str = "4f66ad9a0b2e5c1d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5";

/// What a case may say besides its request (`setting.json`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Setting {
    image: Option<ImageFacts>,
    name: String,
    restart_policy: String,
    searches: Vec<String>,
    pull_secrets: Vec<String>,
    staged: Vec<Staged>,
    anonymous: bool,
    /// The helper may be used, as the request needs it.
    helper: bool,
}

#[derive(Debug, Deserialize)]
struct Staged {
    secret: String,
    key: String,
    path: String,
    mode: i32,
}

#[test]
fn folders_are_as_expected() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/translate");
    let mut folders: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 20, "only {} cases in {}", folders.len(), root.display());
    let wrong: Vec<String> = folders.iter().flat_map(|folder| compare(folder)).collect();
    assert!(
        wrong.is_empty(),
        "{}\n\nD2K_BLESS=1 rewrites the files; read the difference before",
        wrong.join("\n")
    );
}

/// Runs a case and compares its outputs with the files beside it.
fn compare(folder: &Path) -> Vec<String> {
    let setting: Setting = match fs::read_to_string(folder.join("setting.json")) {
        Ok(text) => {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        }
        Err(_) => Setting::default(),
    };
    let outputs = match fs::read_to_string(folder.join("volume.json")) {
        Ok(text) => volume_outputs(&serde_json::from_str(&text).unwrap(), &setting),
        Err(_) => {
            let text = fs::read_to_string(folder.join("request.json")).unwrap();
            pod_outputs(&serde_json::from_str(&text).unwrap(), &setting)
        }
    };
    let outputs = outputs.unwrap_or_else(|fault| BTreeMap::from([("error.txt", status(&fault))]));
    let names = ["pod.yaml", "warnings.txt", "error.txt", "claim.yaml", "reply.json"];
    names.iter().filter_map(|name| check(&folder.join(name), outputs.get(name))).collect()
}

fn check(file: &Path, actual: Option<&String>) -> Option<String> {
    let expected = fs::read_to_string(file).ok();
    if expected.as_ref() == actual {
        return None;
    }
    if std::env::var_os("D2K_BLESS").is_some() {
        match actual {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        return None;
    }
    Some(format!(
        "{}\n--- expected\n{}\n--- actual\n{}",
        file.display(),
        expected.unwrap_or_default(),
        actual.cloned().unwrap_or_default()
    ))
}

fn status(fault: &Fault) -> String {
    let code = match fault.kind {
        Kind::Invalid => 400,
        Kind::NotFound => 404,
        Kind::Unavailable => 503,
        other => panic!("a client's mistake must not be {other:?}: {fault}"),
    };
    format!("{code} {fault}\n")
}

fn pod_outputs(raw: &Value, setting: &Setting) -> Result<BTreeMap<&'static str, String>, Fault> {
    let mut warnings = fields::check(raw)?;
    let body = request::body(raw)?;
    let image = setting.image.clone().unwrap_or_else(|| ImageFacts {
        cmd: vec!["sh".to_owned()],
        reference: format!("docker.io/library/{}", body.image.clone().unwrap_or_default()),
        ..ImageFacts::default()
    });
    let name = if setting.name.is_empty() { "web" } else { &setting.name };
    validate::name(name)?;
    validate::request(&body, &image)?;
    let plans = mounts::plan(&body, &image, &[])?.plans;
    let claims = plans.iter().filter_map(|plan| match &plan.kind {
        MountKind::Named(name) => Some((name.clone(), name.clone())),
        MountKind::Anonymous => {
            Some((plan.target.clone(), format!("anonymous{}", plan.target.replace('/', "-"))))
        }
        MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Shm(_) => None,
    });
    let mut record = record(name, raw, body, image);
    if setting.helper {
        record.helper = helper::decide(&record, helper::Use::Auto, &mut warnings);
    }
    let staged = |file: &Staged| StagedFile {
        secret: file.secret.clone(),
        key: file.key.clone(),
        path: file.path.clone(),
        mode: file.mode,
    };
    let claims: BTreeMap<_, _> = claims.collect();
    let host_paths = plans.iter().filter_map(|plan| {
        let path = plan.bind()?.source.clone();
        Some((plan.target.clone(), HostPath { path, ..HostPath::default() }))
    });
    let context = PodContext {
        host_paths: host_paths.collect(),
        unused_claims: claims.values().cloned().collect(),
        claims,
        restart_policy: if setting.restart_policy.is_empty() {
            "Always".to_owned()
        } else {
            setting.restart_policy.clone()
        },
        network_searches: setting.searches.clone(),
        docker_host: "tcp://d2k.default.svc:2375".to_owned(),
        pull_secrets: setting.pull_secrets.clone(),
        staged_files: setting.staged.iter().map(staged).collect(),
        labels: BTreeMap::from([("d2k.io/role".to_owned(), "container".to_owned())]),
        ..PodContext::default()
    };
    let plan = pod_template(&record, &context)?;
    warnings.extend(plan.warnings);
    let mut outputs =
        BTreeMap::from([("pod.yaml", without_hash(&serde_yaml_ng::to_string(&plan.template).unwrap()))]);
    if !warnings.is_empty() {
        outputs.insert("warnings.txt", warnings.join("\n") + "\n");
    }
    Ok(outputs)
}

/// The helper's ConfigMap has the digest of its content in its name.
fn without_hash(yaml: &str) -> String {
    let name = helper::config_map_name("amd64");
    let (stem, _) = name.rsplit_once('-').unwrap();
    yaml.replace(&name, &format!("{stem}-DIGEST"))
}

fn record(name: &str, raw: &Value, body: ContainerCreateBody, image: ImageFacts) -> Record {
    Record {
        id: ID.to_owned(),
        name: name.to_owned(),
        object: "web".to_owned(),
        created: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
        body,
        raw: raw.clone(),
        image,
        ports: Vec::new(),
        networks: BTreeMap::new(),
        inherited: None,
        pull_secret: None,
        state: RunState::default(),
        warnings: Vec::new(),
        staged: false,
        helper: None,
        leave: None,
        paused: String::new(),
        decided: BTreeMap::new(),
    }
}

fn volume_outputs(raw: &Value, setting: &Setting) -> Result<BTreeMap<&'static str, String>, Fault> {
    let request: VolumeCreateRequest = serde_json::from_value(raw.clone()).unwrap();
    let name = request.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| ID.to_owned());
    let new = volume::NewVolume {
        object: name.to_lowercase().chars().take(32).collect(),
        name,
        created: "2026-01-02T03:04:05Z".parse().unwrap(),
        anonymous: setting.anonymous,
    };
    volume::check(&request, &new.name)?;
    let options = request.driver_opts.clone().unwrap_or_default().into_iter().collect();
    let asked = volume::asked(&options)?;
    let plan = volume::Plan {
        size: asked.size.map_or_else(|| "1Gi".to_owned(), |size| size.0),
        storage_class: asked.storage_class,
        access_mode: asked.access_mode.unwrap_or_else(|| "ReadWriteOnce".to_owned()),
        ..volume::Plan::default()
    };
    let claim = volume::claim(&request, &new, &plan)?;
    let reply = serde_json::to_value(volume::volume(&claim)).unwrap();
    Ok(BTreeMap::from([
        ("claim.yaml", serde_yaml_ng::to_string(&claim).unwrap()),
        ("reply.json", serde_json::to_string_pretty(&reply).unwrap() + "\n"),
    ]))
}

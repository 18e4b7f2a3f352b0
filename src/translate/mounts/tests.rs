//! Precedence of the many ways to mount, which no single golden request shows.

use serde_json::{Value, json};

use super::*;

fn planned(host: &Value, image: &ImageFacts, inherited: &[MountPlan]) -> Result<Mounts> {
    let body = json!({"Image": "x", "HostConfig": host, "Volumes": {"/anon": {}}});
    plan(&serde_json::from_value(body).unwrap(), image, inherited)
}

fn kind_at<'a>(mounts: &'a Mounts, target: &str) -> Option<&'a MountKind> {
    mounts.plans.iter().find(|plan| plan.target == target).map(|plan| &plan.kind)
}

#[test]
fn the_request_wins_over_other_containers_and_the_image() {
    let image = ImageFacts { volumes: vec!["/data".into(), "/other".into()], ..ImageFacts::default() };
    let inherited =
        ["/data", "/shared"].map(|target| MountPlan::new(MountKind::Named("theirs".into()), target));
    let mounts = planned(&json!({"Binds": ["mine:/data:ro"]}), &image, &inherited).unwrap();
    assert_eq!(kind_at(&mounts, "/data"), Some(&MountKind::Named("mine".into())));
    assert_eq!(kind_at(&mounts, "/shared"), Some(&MountKind::Named("theirs".into())));
    assert_eq!(kind_at(&mounts, "/other"), Some(&MountKind::Anonymous));
    assert_eq!(kind_at(&mounts, "/anon"), Some(&MountKind::Anonymous));
    assert_eq!(mounts.plans.len(), 4);
}

#[test]
fn short_forms_are_read_as_docker_reads_them() {
    let image = ImageFacts::default();
    for wrong in [
        "",
        ":",
        "a:",
        ":/x",
        "vol:/x:rw:ro",
        "/x:ro",
        "vol:relative",
        "vol:/x:what",
        "../up:/x",
        "/a:/x:ro,rw",
        "/a:/x:nocopy",
        "/a:/x:shared,slave",
        "/a:/",
        "/a:x",
    ] {
        assert!(planned(&json!({"Binds": [wrong]}), &image, &[]).is_err(), "{wrong}");
    }
    for good in [
        "/a:/x",
        "/a:/x:ro,Z,cached,rslave",
        "/only",
        "vol:/x",
        "vol:/x:ro,z",
        "vol:/x:nocopy",
        "//var/run/docker.sock:/var/run/docker.sock:ro",
    ] {
        assert!(planned(&json!({"Binds": [good]}), &image, &[]).is_ok(), "{good}");
    }
}

#[test]
fn a_bind_is_read_from_both_spellings() {
    let image = ImageFacts::default();
    let bind = |host: Value| {
        let plan = planned(&host, &image, &[]).unwrap().plans.into_iter().next().unwrap();
        (plan.bind().unwrap().clone(), plan.read_only, plan.mode)
    };
    let short = Bind {
        source: "/b".into(),
        create: true,
        propagation: String::new(),
        below: Below::Mounted,
        conflict: String::new(),
    };
    assert_eq!(bind(json!({"Binds": ["/a/../b/:/x/:ro,z"]})), (short.clone(), true, "ro,z".into()));
    let mount = |extra: Value| {
        let mut mount = json!({"Type": "bind", "Source": "/b", "Target": "/x"});
        mount.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"Mounts": [mount]})
    };
    let long = Bind { create: false, ..short };
    assert_eq!(bind(mount(json!({}))), (long.clone(), false, String::new()));
    let options = json!({"Propagation": "slave", "CreateMountpoint": true, "ReadOnlyForceRecursive": true});
    let asked = Bind { create: true, propagation: "slave".into(), below: Below::ReadOnly, ..long };
    assert_eq!(bind(mount(json!({"ReadOnly": true, "BindOptions": options}))), (asked, true, String::new()));
    for wrong in [
        json!({"Source": ""}),
        json!({"Source": "relative"}),
        json!({"VolumeOptions": {}}),
        json!({"TmpfsOptions": {}}),
        json!({"BindOptions": {"Propagation": "what"}}),
    ] {
        let body = json!({"Image": "x", "HostConfig": mount(wrong.clone())});
        let read = crate::request::body(&body);
        assert!(read.is_err() || plan(&read.unwrap(), &image, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn shared_memory_is_mounted_only_where_it_differs() {
    let image = ImageFacts::default();
    let shm = |host: Value| kind_at(&planned(&host, &image, &[]).unwrap(), "/dev/shm").cloned();
    assert_eq!(shm(json!({"ShmSize": 0})), None);
    assert_eq!(shm(json!({"ShmSize": 67_108_864})), None);
    assert_eq!(shm(json!({"ShmSize": 1 << 27})), Some(MountKind::Shm(1 << 27)));
    assert_eq!(
        shm(json!({"ShmSize": 1 << 27, "Tmpfs": {"/dev/shm": "size=1m"}})),
        Some(MountKind::Tmpfs(Some(1 << 20)))
    );
}

#[test]
fn subpaths_stay_inside_the_volume() {
    let image = ImageFacts::default();
    let with = |subpath: &str, source: &str| {
        let mount = json!({"Type": "volume", "Source": source, "Target": "/x", "VolumeOptions": {"Subpath": subpath}});
        planned(&json!({"Mounts": [mount]}), &image, &[])
    };
    for (subpath, source) in [("../up", "data"), ("/abs", "data"), ("a/../../up", "data"), ("a", "")] {
        assert!(with(subpath, source).is_err(), "{subpath} of {source:?}");
    }
    assert!(with("a/b", "data").is_ok());
}

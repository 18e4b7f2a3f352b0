//! Policies of an operator in a running d2k: they decide from the next request on, and what is bad
//! changes nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{World, eventually, has_all};

/// A policy folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("d2k-policies-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn world(&self) -> Option<World> {
        World::with(&[("D2K_POLICY_DIR", self.0.to_str().unwrap())])
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub fn example(&self, name: &str) {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("plugins/examples");
        std::fs::copy(root.join(name).join(format!("{name}.wasm")), self.0.join(format!("{name}.wasm")))
            .unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn service_type(world: &World, name: &str) -> String {
    world.object(&format!("service/{name}"))["spec"]["type"].as_str().unwrap_or_default().to_owned()
}

/// Waits until d2k has taken note of a change in its folder, at most a second.
pub fn within_a_second(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(1), "not within a second: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[d2k_suite::test]
fn a_setting_decides_from_the_next_request_on_and_what_is_bad_changes_nothing() {
    let folder = Folder::new();
    let Some(world) = folder.world() else { return };
    world.docker("run -d --name first -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "first"), "LoadBalancer");
    folder.write("settings.yaml", "ports: {settings: {service-type: ClusterIP, annotations: {team: web}}}\n");
    within_a_second("the setting", || {
        world.docker("plugin inspect ports").success().contains("service-type=ClusterIP")
    });
    world.docker("run -d --name second -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "second"), "ClusterIP");
    assert_eq!(world.object("service/second")["metadata"]["annotations"]["team"], "web");
    folder.write("garbage.wasm", "garbage");
    within_a_second("the refusal", || {
        world
            .docker("info")
            .both()
            .contains("garbage.wasm refused at compile: it is no WebAssembly component")
    });
    world.docker("run -d --name third -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "third"), "ClusterIP");
    folder.remove("garbage.wasm");
    folder.remove("settings.yaml");
    within_a_second("the defaults", || {
        world.docker("plugin inspect ports").success().contains("service-type=LoadBalancer")
    });
    world.docker("run -d --name fourth -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "fourth"), "LoadBalancer");
}

#[d2k_suite::test]
fn a_component_that_is_dropped_into_the_folder_refuses_with_its_words() {
    let folder = Folder::new();
    let Some(world) = folder.world() else { return };
    world.docker("volume create free").success();
    folder.write("settings.yaml", "quota: {settings: {teams: {web: 2Gi}}}\n");
    folder.example("quota");
    // It is compiled first, which takes an unoptimised d2k on a busy machine longer than a second.
    eventually("the policy", || world.docker("plugin ls").success().contains("quota:1.0.0"));
    world
        .docker("volume create data")
        .failure(1, &["refused by policy quota: volume data has no label team"]);
    world
        .docker("volume create --label team=web --opt size=3Gi data")
        .failure(1, &["a volume of team web may have 2Gi"]);
    world
        .docker("run -d --name web -v data:/data busybox sleep 1000")
        .failure(125, &["refused by policy quota"]);
    assert!(world.names("deployments").is_empty(), "nothing is left of the refused run");
    world.docker("volume create --label team=web --opt size=2Gi data").success();
    world.docker("plugin disable quota").success();
    world.docker("volume create other").success();
}

#[d2k_suite::test]
fn who_decided_is_on_every_object_and_in_inspect() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web -p 80 -v data:/data busybox sleep 1000").success();
    let decided = world.field("web", ".GraphDriver.Data.Policies");
    for hook in ["images", "naming", "ports", "workload"] {
        assert!(decided.contains(&format!("{hook}: {hook}@1.0.0 sha256:")), "{decided}");
    }
    for (object, hook) in [("deployment/web", "naming"), ("service/web", "ports"), ("pvc/data", "volumes")] {
        let notes = &world.object(object)["metadata"]["annotations"]["d2k.io/policies"];
        assert!(
            notes.as_str().unwrap_or_default().contains(&format!("\"{hook}\":\"{hook}@1.0.0 ")),
            "{object}: {notes}"
        );
    }
}

#[d2k_suite::test]
fn a_reload_is_an_event_of_the_daemon() {
    let folder = Folder::new();
    let Some(world) = folder.world() else { return };
    let events = world.docker_spawn("events --filter type=daemon --format '{{json .}}'");
    std::thread::sleep(Duration::from_millis(500));
    folder.write("settings.yaml", "naming: {settings: {prefix: team-}}\n");
    eventually("the event", || events.stdout().contains("\"result\":\"active\""));
    folder.write("settings.yaml", "naming: {settings: {suffix: -x}}\n");
    eventually("the refusal", || events.stdout().contains("naming.settings.suffix: no such setting"));
    let id = world.docker("run -d --name web busybox sleep 1000").success();
    assert_eq!(world.names("deployments -l d2k.io/container"), ["deployment.apps/team-web"]);
    assert!(!id.is_empty());
    events.stop();
}

#[d2k_suite::test]
fn a_policy_shapes_objects_and_puts_others_beside_them() {
    let folder = Folder::new();
    if !has_all("it has no Ingresses") {
        return;
    }
    let Some(world) = folder.world() else { return };
    world
        .kubectl("create role ingresses --verb=get,create,patch --resource=ingresses.networking.k8s.io")
        .success();
    let account =
        format!("create rolebinding ingresses --role=ingresses --serviceaccount={}:d2k", world.name());
    world.kubectl(account).success();
    folder.example("ingress");
    // It is compiled first, which takes an unoptimised d2k on a busy machine longer than a second.
    eventually("the policy", || world.docker("plugin ls").success().contains("ingress:1.0.0"));
    world.docker("run -d --name web --label host=web.example.com -p 8080:80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "web"), "ClusterIP");
    let rule = world.object("ingress/web")["spec"]["rules"][0].clone();
    assert_eq!(rule["host"], "web.example.com");
    assert_eq!(
        rule["http"]["paths"][0]["backend"]["service"],
        json!({"name": "web", "port": {"number": 8080}})
    );
    world.docker("rm -f web").success();
    eventually("the Ingress goes with its Service", || world.names("ingresses").is_empty());
}

#[d2k_suite::test]
fn in_the_cluster_policies_come_from_a_config_map() {
    let Some(world) = World::on_cluster("it has no Roles, and d2k is not one of its Pods") else { return };
    let settings = world.directory().join("settings.yaml");
    let write = |kind: &str| {
        std::fs::write(&settings, format!("ports: {{settings: {{service-type: {kind}}}}}\n")).unwrap();
        let create = format!("create configmap d2k-policies --from-file={}", settings.display());
        let yaml = world.kubectl(format!("{create} --dry-run=client -o yaml")).success();
        world.apply(&yaml);
    };
    write("NodePort");
    let host = crate::deployed::deploy(&world);
    let docker = |words: &str| world.sh(format!("DOCKER_HOST={host} docker {words}"));
    docker("run -d --name first -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "first"), "NodePort");
    write("ClusterIP");
    // The kubelet looks after mounted ConfigMaps about once a minute.
    let begin = Instant::now();
    while !docker("plugin inspect ports").success().contains("service-type=ClusterIP") {
        assert!(begin.elapsed() < Duration::from_secs(150), "the ConfigMap was not seen");
        std::thread::sleep(Duration::from_millis(500));
    }
    docker("run -d --name second -p 80 busybox sleep 1000").success();
    assert_eq!(service_type(&world, "second"), "ClusterIP");
}

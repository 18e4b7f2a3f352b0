//! d2k as a Pod: the image of `deploy/image` by `deploy/kubernetes.yaml`, used through its Service.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::support::{Image, World, eventually, find, manifest, push_archive};

#[d2k_suite::test]
fn the_manifest_runs_d2k_in_the_cluster_without_root_and_with_a_read_only_file_system() {
    let Some(world) = World::on_cluster("it has no Roles, and d2k is not one of its Pods") else { return };
    let host = deploy(&world);
    let inside = |words: &str| world.sh(format!("DOCKER_HOST={host} docker {words}"));
    assert_eq!(inside("run --rm busybox echo hello").success(), "hello");
    let listed = || inside("ps -a --format '{{.Names}}'").lines();
    assert!(listed().is_empty(), "d2k lists itself: {:?}", listed());
    inside("inspect d2k").failure(1, &["d2k"]);
    inside("stop d2k").failure(1, &["No such container: d2k"]);
    // Also where its label is another one.
    let label = r#"[{"op":"replace","path":"/metadata/labels","value":{"team":"a"}}]"#;
    world.kubectl(format!("patch deployment d2k --type=json -p '{label}'")).success();
    inside("rm -f d2k").success();
    assert!(listed().is_empty(), "d2k lists itself: {:?}", listed());
    assert_eq!(world.object("deployment/d2k")["spec"]["replicas"], 1);
}

#[d2k_suite::test]
fn a_pod_runs_containers_through_the_service_of_the_deployed_d2k() {
    let Some(world) = World::on_cluster("it has no Roles, and d2k is not one of its Pods") else { return };
    deploy(&world);
    let image = format!("{}-client", world.name());
    let docker = find("docker").unwrap();
    let mut client = Image::busybox(&image);
    for file in [vec![docker.clone()], libraries(&docker)].concat() {
        let path = if file == docker { "bin/docker".to_owned() } else { file.display().to_string() };
        client = client.file(&path, std::fs::read(&file).unwrap(), 0o755);
    }
    client.push();
    // `kubectl run --rm -i` may lose the output of a Pod that is quicker than its attach.
    let run = |name: &str, command: &str| {
        let labels = "--labels d2k.io/docker=true --env DOCKER_HOST=tcp://d2k:2375";
        world.kubectl(format!("run {name} --image {image} {labels} --restart Never -- {command}")).success();
        let phase = || world.object(&format!("pod/{name}"))["status"]["phase"].as_str().unwrap().to_owned();
        eventually("the client has ended", || ["Succeeded", "Failed"].contains(&phase().as_str()));
        let log = world.kubectl(format!("logs {name}")).success();
        assert_eq!(phase(), "Succeeded", "{log}");
        log
    };
    // Before it may come a warning: not every cluster's registry can be reached from a Pod.
    let output = run("one", "docker run --rm busybox echo hello");
    assert_eq!(output.lines().last(), Some("hello"), "{output}");
    run("two", "docker run -d --name web -v data:/data busybox sleep 1000");
    assert_eq!(run("three", "docker ps --filter name=web --format '{{.Names}}'"), "web");
    assert_eq!(world.object("deployment/web")["spec"]["replicas"], 1);
    assert_eq!(world.names("persistentvolumeclaims"), ["persistentvolumeclaim/data"]);
    run("four", "docker rm -f web");
    assert!(world.names("deployments -l d2k.io/container").is_empty());
}

/// Runs d2k by the manifest in the namespace of a world; returns its `DOCKER_HOST`.
#[track_caller]
pub fn deploy(world: &World) -> String {
    let image = format!("{}-d2k", world.name());
    push_archive(&image, archive());
    let mut objects = manifest(world.name());
    for object in &mut objects {
        if object["kind"] == "Deployment" {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    world.apply(&list.to_string());
    let rollout = world.kubectl("rollout status deployment d2k --timeout=60s");
    assert_eq!(rollout.status, 0, "{rollout}\n{}", world.kubectl("logs deployment/d2k --tail=50").both());
    let address = world.object("service/d2k")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let host = format!("tcp://{address}:2375");
    eventually("the Service leads to the Pod", || {
        world.sh(format!("DOCKER_HOST={host} docker ps")).status == 0
    });
    host
}

/// The image of the built program, made once.
fn archive() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (stripped, archive) = (folder.join("d2k-stripped"), folder.join("d2k.oci.tar"));
        let built = Path::new(env!("CARGO_BIN_EXE_d2k"));
        let status = Command::new("strip").arg("-o").args([&stripped, built]).status();
        let program = if status.is_ok_and(|status| status.success()) { &stripped } else { built };
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/image"));
        let output = command.arg("--output").arg(&archive).arg("--program").arg(program).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        archive
    })
}

/// The libraries that a program of this machine needs, by their paths.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

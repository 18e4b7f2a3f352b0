//! The ways to install k2d: its image as a container or with Compose, and the unit of systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::device::{Device, IMAGE, soon};
use crate::support::{Output, run};

const DEADLINE: Duration = Duration::from_secs(90);

const POD: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: m, image: IMAGE, command: [sleep, '600'], volumeMounts: [{name: c, mountPath: /c}]}]
  volumes: [{name: c, configMap: {name: c}}]
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const SHARED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  containers:
  - name: m
    image: IMAGE
    command: [sleep, '600']
    volumeMounts: [{name: there, mountPath: /there}, {name: made, mountPath: /made}]
  volumes:
  - {name: there, hostPath: {path: PLACE, type: Directory}}
  - {name: made, hostPath: {path: PLACE/deep/er, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec:
  containers: [{name: m, image: IMAGE, command: [sleep, '600']}]
  volumes: [{name: v, hostPath: {path: PLACE, type: File}}]
";

/// Puts the image of the program under test on the engine, as `deploy/image` makes it; its name.
fn load_image(device: &Device) -> String {
    let archive = device.data.with_extension("image");
    pack(device.program(), &archive);
    let loaded = device.docker(&format!("load -i {}", archive.display())).success();
    std::fs::remove_file(archive).unwrap();
    loaded.rsplit(' ').next().unwrap().trim().to_owned()
}

/// Makes the image of a program, as `deploy/image` does.
pub fn pack(program: &Path, archive: &Path) {
    let mut command = Command::new(repository().join("deploy/image"));
    command.args(["--k2d", "--program"]).arg(program).arg("--output").arg(archive);
    run(command, "deploy/image", b"", DEADLINE).success();
}

/// A k2d in a container of the engine that it serves, with the data folder and the port of the device.
fn start_container(device: &Device, image: &str) {
    let (data, port) = (device.data.display(), device.port);
    let mut words = format!("run -d --name k2d-itself --restart always --network host -v {data}:{data}");
    for setting in [
        format!("DOCKER_HOST={}", device.engine()),
        format!("K2D_DATA_PATH={data}"),
        format!("K2D_PORT={port}"),
        "K2D_ADVERTISE_ADDR=127.0.0.1".to_owned(),
        "K2D_NODE=edge".to_owned(),
    ] {
        words.push_str(&format!(" -e {setting}"));
    }
    device.docker(&format!("{words} {image}")).success();
    soon("k2d serves", || device.kubectl("get --raw /healthz").stdout == "ok");
}

#[d2k_suite::test]
fn a_container_of_the_engine_serves_it_and_its_apps_outlive_it() {
    let Some(mut device) = Device::start() else { return };
    device.kill();
    let image = load_image(&device);
    start_container(&device, &image);
    let health = device.docker("inspect -f {{.Config.Healthcheck.Test}} k2d-itself").success();
    assert_eq!(health, "[CMD /k2d health]");
    soon("it is well", || device.docker("exec k2d-itself /k2d health").stdout.contains("the engine answers"));
    device.apply(&POD.replace("IMAGE", IMAGE)).success();
    device.until_ready("p");
    // Its files are the machine's: the engine has found them.
    assert_eq!(device.kubectl("exec p -- cat /c/key").success(), "value");
    // Folders of the machine are the machine's, and not those of k2d's container.
    let shared = std::env::temp_dir().join(format!("k2d-shared-{}", std::process::id()));
    std::fs::create_dir_all(&shared).unwrap();
    let place = shared.display().to_string();
    device.apply(&SHARED.replace("IMAGE", IMAGE).replace("PLACE", &place)).success();
    device.until_ready("shared");
    device.kubectl("exec shared -- touch /there/file /made/file").success();
    assert!(shared.join("file").exists() && shared.join("deep/er/file").exists());
    let words = format!("hostPath type check failed: {place} is not a file, it's a Directory");
    soon("the Pod says what is wrong", || device.kubectl("describe pod wrong").stdout.contains(&words));
    device.kubectl("delete pod shared wrong --now").success();
    std::fs::remove_dir_all(shared).unwrap();
    let before = device.containers();
    device.docker("rm -f k2d-itself").success();
    assert_eq!(device.containers(), before);
    start_container(&device, &image);
    device.until_ready("p");
    assert_eq!(device.containers(), before);
    let shown = device.kubectl("get pods -A").success();
    assert!(!shown.contains("k2d-itself"), "{shown}");
    device.docker("rm -f k2d-itself").success();
}

#[d2k_suite::test]
fn the_unit_starts_the_program_with_its_settings() {
    let Some(mut device) = Device::start() else { return };
    device.kill();
    let unit = std::fs::read_to_string(repository().join("deploy/k2d/k2d.service")).unwrap();
    let field = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let line = field("ExecStart=").replace("/usr/local/bin/k2d", device.program().to_str().unwrap());
    assert_eq!(field("StateDirectory="), "k2d", "the default of K2D_DATA_PATH is below /var/lib");
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env("K2D_DATA_PATH", &device.data).env("K2D_PORT", device.port.to_string());
    command.env("DOCKER_HOST", device.engine()).env("K2D_ADVERTISE_ADDR", "127.0.0.1");
    device.begin_with(command);
    device.kubectl("get nodes").success();
}

#[d2k_suite::test]
fn a_second_k2d_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let Some(device) = Device::start() else { return };
    let mut second = Command::new(device.program());
    second
        .args(["serve", "--port", "0", "--data-path"])
        .arg(&device.data)
        .args(["--engine", device.engine()]);
    let ended = run(second, "a second k2d", b"", DEADLINE);
    ended.failure(1, &["K2D_DATA_PATH", "another k2d uses it"]);
    device.kubectl("get nodes").success();
    let mut printed = Command::new(device.program());
    printed.args(["kubeconfig", "--server", "https://edge.example:6443", "--data-path"]).arg(&device.data);
    let printed = run(printed, "k2d kubeconfig", b"", DEADLINE).success();
    assert!(printed.contains("server: https://edge.example:6443\n"), "{printed}");
}

#[d2k_suite::test]
fn compose_starts_it() {
    let Some(mut device) = Device::start() else { return };
    device.kill();
    let compose = |words: &str| -> Output {
        let file = repository().join("deploy/k2d/compose.yaml");
        let mut command = Command::new("docker");
        command.args(["compose", "-f"]).arg(file).args(words.split(' '));
        command.env("DOCKER_HOST", device.engine()).env("K2D_DATA_PATH", &device.data);
        command.env("K2D_PORT", device.port.to_string()).env("K2D_ADVERTISE_ADDR", "127.0.0.1");
        command.env("K2D_ENGINE", device.engine()).env("K2D_SOCKET", "/dev/null");
        run(command, &format!("docker compose {words}"), b"", DEADLINE)
    };
    if compose("version").status != 0 {
        return crate::support::suite::note_skip("no Docker Compose");
    }
    load_image(&device);
    compose("up -d").success();
    soon("k2d serves", || device.kubectl("get --raw /healthz").stdout == "ok");
    device.kubectl("get nodes").success();
    compose("down").success();
}

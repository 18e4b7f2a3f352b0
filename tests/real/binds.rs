//! Bind mounts where containers run on nodes: refused, unless the `volumes` policy lists folders of the
//! nodes. The node of these tests is this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use serde_json::json;

use crate::support::World;

/// A folder of this machine with `allowed` and `outside` in it, gone when it is dropped.
struct Folders(PathBuf);

impl Folders {
    fn new(test: &str) -> Self {
        let base = std::env::temp_dir().join(format!("d2k-binds-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        for name in ["allowed", "outside"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("outside/secret"), "secret").unwrap();
        Self(base.canonicalize().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A file with the settings of an operator who allows binds below `allowed`.
    fn settings(&self, more: &str) -> String {
        let root = self.at("allowed");
        self.write_settings(&format!("bind: host, bind-roots: [{root}]{more}"))
    }

    fn write_settings(&self, settings: &str) -> String {
        let file = self.at("settings.yaml");
        fs::write(&file, format!("volumes: {{settings: {{{settings}}}}}")).unwrap();
        file
    }

    /// A world of that operator.
    fn world(&self, more: &str) -> Option<World> {
        World::with(&[("D2K_POLICY_SETTINGS", &self.settings(more))])
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn nothing_is_left(world: &World) {
    assert!(world.names("deployments,jobs,persistentvolumeclaims").is_empty());
    assert_eq!(world.docker("ps -aq").success(), "");
}

#[d2k_suite::test]
fn a_bind_is_refused_with_what_to_do_instead() {
    let Some(world) = World::new() else { return };
    for mount in ["-v /etc:/host", "--mount type=bind,source=/etc,target=/host"] {
        world
            .docker(format!("run --rm {mount} busybox true"))
            .failure(125, &["bind mounts are not supported", "\"/etc\"", "-v NAME:/host"]);
    }
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["nonsense"]}});
    world.post("/containers/create", body).error(400);
    nothing_is_left(&world);
}

#[d2k_suite::test]
fn below_an_allowed_folder_both_sides_see_what_the_other_writes() {
    let folders = Folders::new("both");
    let Some(world) = folders.world("") else { return };
    let source = folders.at("allowed/src");
    fs::create_dir(&source).unwrap();
    fs::write(folders.at("allowed/src/here"), "from the machine").unwrap();
    world.docker(format!("run -d --name web -v {source}:/app:z busybox sleep 1000")).success();
    assert_eq!(world.docker("exec web cat /app/here").success(), "from the machine");
    world.docker("exec web sh -c 'echo inside > /app/there; chown 1000:1001 /app/there'").success();
    let there = fs::metadata(folders.at("allowed/src/there")).unwrap();
    assert_eq!((there.uid(), there.gid()), (1000, 1001));
    fs::write(folders.at("allowed/src/here"), "changed").unwrap();
    assert_eq!(world.docker("exec web cat /app/here").success(), "changed");
    let inspect = world.inspect("web");
    let mount = json!({
        "Type": "bind", "Source": source, "Destination": "/app", "Mode": "z", "RW": true, "Propagation": "rprivate",
    });
    assert_eq!(inspect["Mounts"], json!([mount]));
    assert_eq!(inspect["HostConfig"]["Binds"], json!([format!("{source}:/app:z")]));
    let taken = world.docker("run --rm --volumes-from web:ro busybox sh -c 'cat /app/there; touch /app/x'");
    assert_eq!((taken.stdout.trim(), taken.status), ("inside", 1), "{taken}");
    world.docker("rm -f -v web").success();
    assert!(fs::exists(folders.at("allowed/src/there")).unwrap());
}

#[d2k_suite::test]
fn a_missing_folder_is_made_below_the_allowed_one() {
    let folders = Folders::new("missing");
    let Some(world) = folders.world("") else { return };
    let source = folders.at("allowed/new/deep");
    world.docker(format!("run --rm -v {source}:/x busybox touch /x/file")).success();
    assert!(fs::exists(folders.at("allowed/new/deep/file")).unwrap());
}

#[d2k_suite::test]
fn a_single_file_is_mounted_and_can_be_read_only() {
    let folders = Folders::new("file");
    let Some(world) = folders.world("") else { return };
    fs::write(folders.at("allowed/app.conf"), "one").unwrap();
    let mount =
        format!("--mount type=bind,source={},target=/etc/app.conf,readonly", folders.at("allowed/app.conf"));
    let run =
        world.docker(format!("run --rm {mount} busybox sh -c 'cat /etc/app.conf; echo two > /etc/app.conf'"));
    assert_eq!((run.stdout.as_str(), run.status), ("one", 1), "{run}");
    assert!(run.stderr.contains("Read-only file system"), "{run}");
}

#[d2k_suite::test]
fn nothing_outside_the_allowed_folder_is_mounted() {
    let folders = Folders::new("outside");
    let refused = folders.at("allowed/private");
    let Some(world) = folders.world(&format!(", bind-refused: [{refused}]")) else { return };
    let allowed = folders.at("allowed");
    for source in [
        "/".to_owned(),
        folders.at("outside"),
        format!("{allowed}/../outside"),
        format!("{allowed}-other"),
        format!("{allowed}/private/x"),
        allowed.clone(),
    ] {
        for mount in [format!("-v {source}:/x"), format!("--mount type=bind,source={source},target=/x")] {
            let run = world.docker(format!("run --rm {mount} busybox ls /x"));
            run.failure(125, &["bind mounts: "]);
        }
    }
    nothing_is_left(&world);
    // A link is followed on the node, where d2k does not see it.
    symlink(folders.at("outside"), folders.at("allowed/link")).unwrap();
    let run = world.docker(format!("run --rm -v {allowed}/link:/x busybox cat /x/secret"));
    assert!(run.status != 0 && !run.stdout.contains("secret"), "{run}");
}

#[d2k_suite::test]
fn a_folder_of_the_nodes_has_to_be_listed_by_the_operator() {
    let folders = Folders::new("unlisted");
    let settings = folders.write_settings("bind: host");
    let Some(world) = World::with(&[("D2K_POLICY_SETTINGS", &settings)]) else { return };
    world.docker("run --rm -v /etc:/x busybox true").failure(125, &["bind-roots"]);
    nothing_is_left(&world);
}

#[d2k_suite::test]
fn the_refusal_of_pod_security_is_told_at_create() {
    let folders = Folders::new("security");
    let settings = folders.settings("");
    let settings = [("D2K_POLICY_SETTINGS", settings.as_str())];
    let reason = "it admits Pods by no security standard";
    let Some(world) = World::on_cluster_with(reason, &settings) else { return };
    let label = "pod-security.kubernetes.io/enforce=baseline";
    world.kubectl(format!("label namespace {} {label}", world.name())).success();
    let source = folders.at("allowed");
    let create = world.docker(format!("create -v {source}:/x busybox true"));
    create.failure(1, &["violates PodSecurity \"baseline:latest\"", "hostPath"]);
    nothing_is_left(&world);
    world.docker("create -v data:/x busybox true").success();
}

#[d2k_suite::test]
fn a_propagation_to_the_node_is_for_privileged_containers() {
    let folders = Folders::new("propagation");
    let Some(world) = folders.world("") else { return };
    let source = folders.at("allowed");
    world.docker(format!("create -v {source}:/x:ro,rslave busybox true")).success();
    world
        .docker(format!("run --rm -v {source}:/x:rshared busybox true"))
        .failure(125, &["rshared", "--privileged"]);
    let body = json!({"Image": "busybox", "HostConfig": {"Binds": [format!("{source}:/x:what")]}});
    let refused = world.post("/containers/create", body).error(400);
    assert!(refused.contains("invalid mode: what"), "{refused}");
}

//! `docker version`, `info`, `system df`, versions of the API, and the endpoints that have no
//! counterpart on Kubernetes.

use serde_json::{Value, json};

use crate::support::World;

#[d2k_suite::test]
fn ping_answers_with_the_headers_that_clients_negotiate_by() {
    let Some(world) = World::new() else { return };
    for path in ["/_ping", "/v1.24/_ping", "/v1.55/_ping"] {
        let reply = world.get(path);
        assert_eq!((reply.status, reply.text().as_str()), (200, "OK"), "{path}");
        assert_eq!(reply.header("api-version"), Some("1.55"));
        assert_eq!(reply.header("builder-version"), Some("1"));
        assert_eq!(reply.header("docker-experimental"), Some("false"));
        assert_eq!(reply.header("ostype"), Some("linux"));
        assert!(reply.header("server").unwrap().starts_with("Docker/"));
        assert!(reply.header("cache-control").unwrap().contains("no-store"));
    }
    let head = world.http("HEAD", "/_ping", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[d2k_suite::test]
fn version_names_d2k_and_kubernetes() {
    let Some(world) = World::new() else { return };
    let version = world.get("/version").json();
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.55"), &json!("1.24")));
    assert_eq!(version["Os"], "linux");
    assert!(!version["Arch"].as_str().unwrap().is_empty());
    let components = version["Components"].as_array().unwrap();
    let kubernetes = components.iter().find(|c| c["Name"] == "Kubernetes").expect("no Kubernetes");
    assert!(kubernetes["Version"].as_str().unwrap().starts_with("v1."), "{kubernetes}");
    let shown = world.docker("version").success();
    assert!(shown.contains("Kubernetes"), "{shown}");
    let server = world.docker("version --format '{{.Server.APIVersion}}'").success();
    assert!(!server.is_empty());
}

#[d2k_suite::test]
fn info_counts_what_there_is() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name runs busybox sleep 1000").success();
    world.docker("create --name idle busybox true").success();
    let info = world.get("/info").json();
    assert_eq!(info["Containers"], 2);
    assert_eq!(info["ContainersRunning"], 1);
    assert_eq!(info["ContainersStopped"], 1);
    assert_eq!(info["ContainersPaused"], 0);
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert!(info["NCPU"].is_i64() && info["MemTotal"].is_i64(), "{info}");
    assert!(info["DriverStatus"].is_array() && info["SecurityOptions"].is_array(), "{info}");
    assert!(!info["ID"].as_str().unwrap().is_empty() && !info["Name"].as_str().unwrap().is_empty());
    let shown = world.docker("info").success();
    assert!(shown.contains("Containers: 2") && shown.contains("Running: 1"), "{shown}");
    assert!(shown.contains(world.name()), "the namespace is not named: {shown}");
}

#[d2k_suite::test]
fn df_lists_volumes_and_containers() {
    let Some(world) = World::new() else { return };
    world.docker("volume create data").success();
    world.docker("create --name idle busybox true").success();
    let table = world.docker("system df").success();
    for kind in ["Images", "Containers", "Local Volumes", "Build Cache"] {
        assert!(table.contains(kind), "{table}");
    }
    let verbose = world.docker("system df -v").success();
    assert!(verbose.contains("data") && verbose.contains("idle"), "{verbose}");
    let old = world.get("/v1.51/system/df").json();
    assert_eq!(old["Volumes"][0]["Name"], "data");
    assert!(old["Images"].is_array() && old["Containers"].is_array() && old["BuildCache"].is_array());
    let both = world.get("/v1.52/system/df").json();
    assert!(both["VolumeUsage"].is_object() && both["Volumes"].is_array(), "{both}");
    assert!(both["VolumeUsage"].get("Items").is_none(), "{both}");
    let new = world.get("/v1.53/system/df").json();
    assert!(new.get("Volumes").is_none() && new.get("LayersSize").is_none(), "{new}");
}

#[d2k_suite::test]
fn df_tells_what_is_in_use_from_what_can_be_reclaimed() {
    let Some(world) = World::new() else { return };
    world.docker("volume create --opt size=2Gi spare").success();
    world.docker("pull -q nginx").success();
    world.docker("run -d --name web -v data:/data busybox sleep 1000").success();
    world.docker("create --name other busybox true").success();
    let df = world.get("/v1.53/system/df?verbose=1").json();
    let usage =
        |kind: &str, field: &str| df[kind][field].as_i64().unwrap_or_else(|| panic!("{kind} {field}: {df}"));
    assert_eq!((usage("ContainerUsage", "TotalCount"), usage("ContainerUsage", "ActiveCount")), (2, 1));
    assert_eq!((usage("VolumeUsage", "TotalCount"), usage("VolumeUsage", "ActiveCount")), (2, 1));
    assert_eq!((usage("VolumeUsage", "TotalSize"), usage("VolumeUsage", "Reclaimable")), (3 << 30, 2 << 30));
    assert_eq!((usage("ImageUsage", "TotalCount"), usage("ImageUsage", "ActiveCount")), (2, 1));
    assert!(usage("ImageUsage", "Reclaimable") < usage("ImageUsage", "TotalSize"), "{df}");
    assert_eq!(df["VolumeUsage"]["Items"].as_array().unwrap().len(), 2);
    let only = world.get("/v1.53/system/df?type=volume").json();
    assert!(only["VolumeUsage"].is_object() && only.get("ImageUsage").is_none(), "{only}");
}

#[d2k_suite::test]
fn every_version_of_the_api_is_spoken_and_others_are_refused_in_dockers_words() {
    let Some(world) = World::new() else { return };
    for minor in 24..=55 {
        let reply = world.get(&format!("/v1.{minor}/containers/json"));
        assert_eq!((reply.status, reply.json()), (200, json!([])), "1.{minor}");
    }
    let error = world.get("/v1.99/containers/json").error(400);
    assert_eq!(error, "client version 1.99 is too new. Maximum supported API version is 1.55");
    let reply = world.get("/v1.23/containers/json");
    assert_eq!(reply.status, 400);
    let words = "client version 1.23 is too old. Minimum supported API version is 1.24, \
                 please upgrade your client to a newer version";
    assert!(reply.text().contains(words), "{}", reply.text());
    assert_eq!(reply.header("api-version"), Some("1.55"));
}

#[d2k_suite::test]
fn the_cli_works_with_old_and_new_versions_of_the_api() {
    let Some(world) = World::new() else { return };
    for version in ["1.24", "1.41", "1.44"] {
        let run = world.sh(format!("DOCKER_API_VERSION={version} docker run --rm busybox echo hello"));
        assert_eq!(run.success(), "hello", "{version}");
        world.sh(format!("DOCKER_API_VERSION={version} docker ps -a")).success();
        world.sh(format!("DOCKER_API_VERSION={version} docker images")).success();
    }
}

#[d2k_suite::test]
fn images_have_the_fields_of_the_clients_version() {
    let Some(world) = World::new() else { return };
    world.docker("pull -q busybox").success();
    let old = world.get("/v1.43/images/json").json();
    assert!(old[0]["VirtualSize"].is_i64(), "{old}");
    let new = world.get("/v1.50/images/json").json();
    assert!(new[0].get("VirtualSize").is_none(), "{new}");
    assert_eq!(new[0]["Containers"], -1);
    assert_eq!(world.get("/v1.51/images/json").json()[0]["Containers"], 0);
}

#[d2k_suite::test]
fn swarm_is_told_to_be_off_in_dockers_words() {
    let Some(world) = World::new() else { return };
    for path in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        let error = world.get(path).error(503);
        assert!(error.starts_with("This node is not a swarm manager."), "{path}: {error}");
    }
    world.docker("node ls").failure(1, &["This node is not a swarm manager"]);
    world.post("/secrets/create", json!({"Name": "x"})).error(503);
}

#[d2k_suite::test]
fn policies_are_plugins_that_can_be_switched_off_and_on() {
    let Some(world) = World::new() else { return };
    world.get("/plugins/nosuch/json").error(404);
    world.docker("plugin install vieux/sshfs").failure(1, &["D2K_POLICY_DIR"]);
    let names = |filter: &str| world.docker(format!("plugin ls {filter} --format {{{{.Name}}}}")).lines();
    let all = names("");
    assert!(all.contains(&"ports:1.0.0".to_owned()) && all.len() == 6, "{all:?}");
    assert_eq!(names("-f capability=d2k.ports/1.0"), ["ports:1.0.0"]);
    let plugin = world.docker("plugin inspect ports").success();
    assert!(plugin.contains("service-type=LoadBalancer"), "{plugin}");
    world.docker("plugin disable ports").success();
    assert_eq!(names("-f enabled=false"), ["ports:1.0.0"]);
    world.docker("run -d -p 80 busybox sleep 1").failure(125, &["no policy decides on ports"]);
    world.docker("plugin disable ports").failure(1, &["already disabled"]);
    world.docker("plugin enable ports").success();
    world.docker("run -d busybox sleep 1000").success();
}

#[d2k_suite::test]
fn unknown_paths_are_not_found_and_options_are_answered() {
    let Some(world) = World::new() else { return };
    for (method, path) in [("GET", "/nosuch"), ("PATCH", "/containers/json"), ("GET", "/v1.47/debug/vars")] {
        let reply = world.http(method, path, &[], b"");
        assert_eq!(reply.status, 404, "{method} {path}");
        assert!(reply.text().contains("page not found"), "{}", reply.text());
    }
    assert_eq!(world.http("OPTIONS", "/containers/json", &[], b"").status, 200);
}

#[d2k_suite::test]
fn system_prune_removes_what_is_not_used() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name runs busybox sleep 1000").success();
    world.docker("create --name idle busybox true").success();
    world.docker("network create backend").success();
    let pruned = world.docker("system prune -f").success();
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    assert_eq!(world.docker("ps -a --format '{{.Names}}'").success(), "runs");
    assert_eq!(world.docker("network ls --filter type=custom -q").success(), "");
}

#[d2k_suite::test]
fn a_page_of_another_site_cannot_use_the_api() {
    let Some(world) = World::new() else { return };
    let reply = world.http("GET", "/containers/json", &[("Origin", "http://evil.example")], b"");
    assert_eq!(reply.status, 403, "{}", reply.text());
    let body = json!({"Image": "busybox", "Cmd": ["true"]}).to_string();
    let headers = [("Origin", "http://evil.example"), ("Content-Type", "application/json")];
    assert_eq!(world.http("POST", "/containers/create", &headers, body.as_bytes()).status, 403);
    assert_eq!(world.get("/containers/json?all=1").json(), Value::Array(Vec::new()));
}

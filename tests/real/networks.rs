//! `docker network`: synthetic, persisted, warned about, and names that resolve inside the Pods.

use serde_json::{Value, json};

use crate::support::{World, eventually, fetch};

#[d2k_suite::test]
fn dockers_own_networks_are_always_there() {
    let Some(world) = World::new() else { return };
    let mut names = world.docker("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'").lines();
    names.sort();
    assert_eq!(names, ["bridge bridge local", "host host local", "none null local"]);
    let bridge = world.get("/networks/bridge").json();
    assert!(bridge["IPAM"]["Config"][0]["Gateway"].is_string(), "{bridge}");
    assert!(bridge["IPAM"]["Config"][0]["Subnet"].is_string(), "{bridge}");
    let error = world.http("DELETE", "/networks/bridge", &[], b"").error(403);
    assert!(error.contains("is a pre-defined network and cannot be removed"), "{error}");
    let error = world.post("/networks/create", json!({"Name": "bridge"})).error(403);
    assert!(error.contains("predefined"), "{error}");
}

#[d2k_suite::test]
fn a_created_network_is_listed_inspected_and_removed_and_its_lack_of_isolation_is_logged() {
    let Some(world) = World::new() else { return };
    let create = "network create --label a.b/c='D e' --opt x=y --subnet 10.9.0.0/24 backend";
    let id = world.docker(create).success();
    assert_eq!(id.len(), 64);
    let network = world.inspect("backend");
    assert_eq!((&network["Id"], &network["Name"]), (&json!(id), &json!("backend")));
    assert_eq!(network["Labels"], json!({"a.b/c": "D e"}));
    assert_eq!(network["Options"], json!({"x": "y"}));
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "10.9.0.0/24");
    assert_eq!(network["Containers"], json!({}));
    let log = world.log();
    assert!(log.contains("backend") && log.to_lowercase().contains("isolat"), "no warning is logged");
    assert_eq!(world.docker(format!("network rm {}", &id[..12])).success(), id[..12]);
    world.docker("network inspect backend").failure(1, &["network backend not found"]);
    eventually("its objects have gone", || {
        world.names("services,configmaps,endpointslices -l d2k.io/role=network").is_empty()
    });
}

#[d2k_suite::test]
fn a_network_survives_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("network create --label a=b backend").success();
    world.docker("run -d --name web --network backend busybox sleep 1000").success();
    let before = world.inspect("backend");
    world.restart_d2k();
    assert_eq!(world.inspect("backend"), before);
    assert_eq!(before["Containers"].as_object().unwrap().len(), 1);
}

#[d2k_suite::test]
fn a_member_is_found_under_its_new_address_after_a_restart() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    let serve = "sh -c 'mkdir /www; echo again > /www/index.html; httpd -f -h /www'";
    world.docker(format!("run -d --name web --network backend busybox {serve}")).success();
    let before = world.field("web", ".NetworkSettings.Networks.backend.IPAddress");
    world.docker("restart -t 1 web").success();
    assert_ne!(world.field("web", ".NetworkSettings.Networks.backend.IPAddress"), before);
    let fetched = world.docker(format!("run --rm --network backend {}", fetch("web")));
    assert_eq!(fetched.success(), "again");
}

#[d2k_suite::test]
fn a_network_name_in_use_is_refused() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("network create backend").failure(1, &["network with name backend already exists"]);
    world.docker("network create --driver nosuch other").failure(1, &["nosuch"]);
}

#[d2k_suite::test]
fn networks_are_listed_by_filters() {
    let Some(world) = World::new() else { return };
    let id = world.docker("network create --label tier=db backend").success();
    world.docker("network create frontend").success();
    let list = |filter: &str| {
        let mut names =
            world.docker(format!("network ls --filter {filter} --format '{{{{.Name}}}}'")).lines();
        names.sort();
        names
    };
    assert_eq!(list("name=end"), ["backend", "frontend"]);
    assert_eq!(list("label=tier=db"), ["backend"]);
    assert_eq!(list(&format!("id={}", &id[..8])), ["backend"]);
    assert_eq!(list("type=custom"), ["backend", "frontend"]);
    assert_eq!(list("type=builtin"), ["bridge", "host", "none"]);
    assert_eq!(list("driver=bridge"), ["backend", "bridge", "frontend"]);
    assert_eq!(list("scope=local").len(), 5);
    assert_eq!(list("dangling=true"), ["backend", "frontend"]);
    world.docker("network ls --filter nosuch=1").failure(1, &["invalid filter 'nosuch'"]);
}

#[d2k_suite::test]
fn names_and_aliases_of_a_network_resolve_inside_its_containers() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world
        .docker("run -d --name web --network backend --network-alias store --hostname front nginx")
        .success();
    for host in ["web", "store", "front"] {
        let run = world.docker(format!("run --rm --network backend {}", fetch(host)));
        assert!(run.stdout.contains("Welcome to nginx"), "{host}: {run}");
    }
}

#[d2k_suite::test]
fn two_networks_may_have_the_same_alias_for_different_containers() {
    let Some(world) = World::new() else { return };
    for name in ["one", "two"] {
        world.docker(format!("network create net-{name}")).success();
        let command =
            format!("busybox sh -c 'mkdir /www; echo from-{name} > /www/index.html; httpd -f -h /www'");
        world.docker(format!("run -d --network net-{name} --network-alias db {command}")).success();
    }
    for name in ["one", "two"] {
        let run = world.docker(format!("run --rm --network net-{name} {}", fetch("db")));
        assert_eq!(run.success(), format!("from-{name}"));
    }
}

#[d2k_suite::test]
fn a_name_does_not_resolve_outside_of_its_network() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("run -d --name web --network backend nginx").success();
    world.docker(format!("run --rm --network backend {}", fetch("web"))).success();
    let outside = world.docker("run --rm busybox wget -q -O- http://web");
    outside.failure(1, &["bad address 'web'"]);
}

#[d2k_suite::test]
fn a_restarted_container_is_found_under_its_new_address() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("run -d --name web --network backend nginx").success();
    world.docker(format!("run --rm --network backend {}", fetch("web"))).success();
    world.docker("restart -t 1 web").success();
    world.docker(format!("run --rm --network backend {}", fetch("web"))).success();
}

#[d2k_suite::test]
fn containers_connect_and_disconnect() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    let id = world.docker("run -d --name web nginx").success();
    world.docker("network connect --alias late backend web").success();
    let networks = world.inspect("web")["NetworkSettings"]["Networks"].clone();
    assert!(networks.get("bridge").is_some() && networks.get("backend").is_some(), "{networks}");
    assert!(networks["backend"]["Aliases"].as_array().unwrap().contains(&json!("late")));
    assert_eq!(world.inspect("backend")["Containers"][&id]["Name"], "web");
    let run = world.docker(format!("run --rm --network backend {}", fetch("late")));
    assert!(run.stdout.contains("Welcome to nginx"), "{run}");
    world.docker("network connect backend web").failure(1, &["already exists in network backend"]);
    world.docker("network disconnect backend web").success();
    assert_eq!(world.inspect("backend")["Containers"], json!({}));
    assert!(world.inspect("web")["NetworkSettings"]["Networks"].get("backend").is_none());
    world.docker("network disconnect backend web").failure(1, &["is not connected to"]);
}

#[d2k_suite::test]
fn a_created_container_can_be_connected_before_it_starts() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("create --name web nginx").success();
    world.docker("network connect backend web").success();
    world.docker("start web").success();
    let run = world.docker(format!("run --rm --network backend {}", fetch("web")));
    assert!(run.stdout.contains("Welcome to nginx"), "{run}");
}

#[d2k_suite::test]
fn a_network_in_use_is_not_removed() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("run -d --name web --network backend busybox sleep 1000").success();
    world.docker("network rm backend").failure(1, &["has active endpoints"]);
    world.docker("network disconnect -f backend web").success();
    world.docker("network rm backend").success();
}

#[d2k_suite::test]
fn prune_removes_what_no_container_uses() {
    let Some(world) = World::new() else { return };
    world.docker("network create used").success();
    world.docker("network create unused").success();
    world.docker("run -d --network used busybox sleep 1000").success();
    let pruned = world.docker("network prune -f").success();
    assert!(pruned.contains("unused"), "{pruned}");
    let names = world.docker("network ls --filter type=custom --format '{{.Name}}'").lines();
    assert_eq!(names, ["used"]);
    let reply = world.post("/networks/prune", Value::Null).json();
    assert_eq!(reply["NetworksDeleted"], Value::Null);
}

#[d2k_suite::test]
fn an_unknown_network_is_not_found() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run --rm --network nosuch busybox true");
    run.failure(125, &["network nosuch not found"]);
    assert_eq!(world.docker("ps -aq").success(), "");
    world.docker("network rm nosuch").failure(1, &["network nosuch not found"]);
    world.docker("create --name web busybox true").success();
    world.docker("network connect nosuch web").failure(1, &["network nosuch not found"]);
    world.docker("network connect bridge nosuch").failure(1, &["No such container: nosuch"]);
}

#[d2k_suite::test]
fn networks_are_found_by_name_id_and_unique_prefix() {
    let Some(world) = World::new() else { return };
    let id = world.docker("network create backend").success();
    for name in ["backend", id.as_str(), &id[..12]] {
        assert_eq!(world.get(&format!("/networks/{name}")).json()["Id"], id);
    }
}

#[d2k_suite::test]
fn the_host_network_and_none_are_mapped_or_refused_with_words() {
    let Some(world) = World::new() else { return };
    for mode in ["host", "none"] {
        let create = world.docker(format!("create --network {mode} busybox true"));
        assert!(create.status == 0 || create.stderr.contains(mode), "{create}");
    }
    world.docker("run -d --name web nginx").success();
    let run = world.docker(format!("run --rm --network container:web {}", fetch("127.0.0.1")));
    assert!(run.status == 0 || run.stderr.contains("container:"), "{run}");
}

#[d2k_suite::test]
fn an_alias_that_cannot_resolve_is_warned_about() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    let aliases = "--network-alias db.example.com --network-alias my_db --network-alias db";
    let run = world.docker(format!("create --network backend {aliases} busybox true"));
    for alias in ["db.example.com", "my_db"] {
        assert!(run.stderr.contains(&format!("the alias \"{alias}\" does not resolve")), "{run}");
    }
    assert_eq!(run.stderr.matches("does not resolve").count(), 2, "{run}");
}

//! `docker volume` and mounts: claims with their options, anonymous ones, tmpfs.

use serde_json::{Value, json};

use crate::support::{Image, World, eventually};

#[d2k_suite::test]
fn a_volume_is_a_claim_of_one_gibibyte_of_the_default_class() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.docker("volume create data").success(), "data");
    let claim = &world.object("persistentvolumeclaim/data")["spec"];
    assert_eq!(claim["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(claim["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(claim["storageClassName"], "standard");
    assert_eq!(world.docker("volume ls -q").success(), "data");
}

#[d2k_suite::test]
fn size_class_and_mode_of_a_volume_can_be_chosen() {
    let Some(world) = World::new() else { return };
    let options = "--opt size=5Gi --opt storageClass=standard --opt accessMode=ReadWriteMany";
    world.docker(format!("volume create {options} --label a.b/c='D e' data")).success();
    let claim = &world.object("persistentvolumeclaim/data")["spec"];
    assert_eq!(claim["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(claim["accessModes"], json!(["ReadWriteMany"]));
    let inspect = world.get("/volumes/data").json();
    assert_eq!(inspect["Name"], "data");
    assert_eq!(inspect["Driver"], "local");
    assert_eq!(inspect["Scope"], "local");
    assert_eq!(inspect["Labels"], json!({"a.b/c": "D e"}));
    assert_eq!(inspect["Options"]["size"], "5Gi");
    assert!(!inspect["Mountpoint"].as_str().unwrap().is_empty());
    assert!(inspect["CreatedAt"].as_str().unwrap().starts_with("20"));
}

#[d2k_suite::test]
fn a_size_that_is_none_is_refused() {
    let Some(world) = World::new() else { return };
    world.docker("volume create --opt size=5Gigs data").failure(1, &["5Gigs"]);
    world.docker("volume create --opt accessMode=Sometimes data").failure(1, &["Sometimes"]);
    for size in ["0", "-1Gi", "lots"] {
        let body = json!({"Name": "data", "DriverOpts": {"size": size}});
        world.post("/volumes/create", body).error(400);
    }
    assert!(world.names("persistentvolumeclaims").is_empty());
}

#[d2k_suite::test]
fn options_unknown_to_d2k_are_refused_or_warned_about() {
    let Some(world) = World::new() else { return };
    let create = world.docker("volume create --opt nosuch=1 data");
    assert!(create.status != 0 || world.log().contains("nosuch"), "{create}");
    world.docker("volume create --driver nosuch other").failure(1, &["nosuch"]);
}

#[d2k_suite::test]
fn an_empty_volume_gets_the_images_files_with_their_owners_and_modes() {
    let Some(world) = World::new() else { return };
    // Without them, there would be no program.
    world.docker("run --rm -v tools:/bin busybox true").success();
    assert!(world.docker("run --rm -v tools:/mnt busybox ls /mnt").lines().contains(&"busybox".to_owned()));
    let modes = world.docker("run --rm -v temp:/tmp -v tools:/bin busybox stat -c '%a %u' /tmp /bin").lines();
    assert_eq!(modes, ["1777 0", "755 0"]);
    let restarts = "run -d --name web --restart always --read-only -u 1000 -v other:/bin busybox sleep 1000";
    world.docker(restarts).success();
    assert_eq!(world.docker("exec web id -u").success(), "1000");
    world.docker("run --rm -v bare:/bin:nocopy busybox true").failure(127, &["executable file not found"]);
    let volume =
        json!({"Type": "volume", "Source": "bare", "Target": "/bin", "VolumeOptions": {"NoCopy": true}});
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [volume]}});
    let id = world.post("/containers/create", body).json()["Id"].as_str().unwrap().to_owned();
    world.post(&format!("/containers/{id}/start"), Value::Null).error(400);
}

#[d2k_suite::test]
fn a_volume_that_has_files_keeps_them_as_they_are() {
    let Some(world) = World::new() else { return };
    world.docker("run --rm -v data:/srv/none busybox touch /srv/none/own").success();
    // As if nothing were known of it.
    world.kubectl("annotate persistentvolumeclaim/data d2k.io/used-").success();
    let mode = world.docker("run --rm -v data:/mnt busybox stat -c %a /mnt").success();
    world.kubectl("annotate persistentvolumeclaim/data d2k.io/used-").success();
    let after = world.docker("run --rm -v data:/tmp busybox sh -c 'stat -c %a /tmp; ls -A /tmp'").lines();
    assert_eq!(after, [&mode, "own"]);
}

#[d2k_suite::test]
fn what_is_written_to_a_volume_is_there_for_the_next_container() {
    let Some(world) = World::new() else { return };
    world.docker("run --rm -v data:/data busybox sh -c 'echo kept > /data/file'").success();
    assert_eq!(world.docker("run --rm -v data:/data busybox cat /data/file").success(), "kept");
    assert_eq!(world.docker("volume ls -q").success(), "data");
}

#[d2k_suite::test]
fn a_volume_can_be_mounted_read_only_and_by_the_long_form() {
    let Some(world) = World::new() else { return };
    world.docker("run --rm -v data:/data busybox sh -c 'echo kept > /data/file'").success();
    let write = world.docker("run --rm -v data:/data:ro busybox sh -c 'cat /data/file; touch /data/new'");
    assert_eq!((write.status, write.stdout.contains("kept")), (1, true), "{write}");
    let mount = "--mount type=volume,source=data,target=/mnt";
    assert_eq!(world.docker(format!("run --rm {mount} busybox cat /mnt/file")).success(), "kept");
}

#[d2k_suite::test]
fn an_anonymous_volume_goes_with_its_container_when_told_to() {
    let Some(world) = World::new() else { return };
    world.docker("run --name one -v /data busybox true").success();
    let volume = world.docker("volume ls -q").success();
    assert!(volume.len() == 64, "{volume}");
    assert_eq!(world.field("one", "(index .Mounts 0).Name"), volume);
    world.docker("rm one").success();
    assert_eq!(world.docker("volume ls -q").success(), volume);
    world.docker("run --name two -v /data -v named:/named busybox true").success();
    world.docker("rm -v two").success();
    let mut left = world.docker("volume ls -q").lines();
    left.sort();
    let mut expected = vec![volume, "named".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
}

#[d2k_suite::test]
fn a_run_with_rm_takes_its_anonymous_volumes_away() {
    let Some(world) = World::new() else { return };
    world.docker("run --rm -v /data -v named:/named busybox touch /data/x").success();
    eventually("only the named one is left", || world.docker("volume ls -q").success() == "named");
}

#[d2k_suite::test]
fn a_volume_that_the_image_declares_is_made() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-volume", world.name());
    Image::busybox(&image).config(json!({"Volumes": {"/data": {}}})).push();
    world.docker(format!("run --name one {image} sh -c 'mount | grep -q /data'")).success();
    assert_eq!(world.field("one", "(index .Mounts 0).Destination"), "/data");
    assert_eq!(world.docker("volume ls -q").lines().len(), 1);
}

#[d2k_suite::test]
fn volumes_are_listed_by_filters() {
    let Some(world) = World::new() else { return };
    world.docker("volume create --label tier=db alpha").success();
    world.docker("volume create beta").success();
    world.docker("create --name user -v beta:/data busybox true").success();
    let list = |filter: &str| world.docker(format!("volume ls -q --filter {filter}")).lines();
    assert_eq!(list("name=alp"), ["alpha"]);
    assert_eq!(list("label=tier"), ["alpha"]);
    assert_eq!(list("label=tier=web"), [""; 0]);
    assert_eq!(list("dangling=true"), ["alpha"]);
    assert_eq!(list("dangling=false"), ["beta"]);
    assert_eq!(list("driver=local").len(), 2);
    world.docker("volume ls --filter nosuch=1").failure(1, &["invalid filter 'nosuch'"]);
    let empty = world.get("/volumes?filters={\"name\":[\"none-such\"]}").json();
    assert_eq!(empty["Volumes"], json!([]));
}

#[d2k_suite::test]
fn a_volume_in_use_is_not_removed() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name user -v data:/data busybox true").success();
    world.docker("volume rm data").failure(1, &["volume is in use", &id]);
    world.docker("rm user").success();
    assert_eq!(world.docker("volume rm data").success(), "data");
    eventually("the claim has gone", || world.names("persistentvolumeclaims").is_empty());
    world.docker("volume rm data").failure(1, &["get data: no such volume"]);
    let forced = world.http("DELETE", "/volumes/data?force=1", &[], b"");
    assert_eq!(forced.status, 204);
}

#[d2k_suite::test]
fn prune_takes_unused_anonymous_volumes_and_with_all_the_named_ones() {
    let Some(world) = World::new() else { return };
    world.docker("volume create named").success();
    world.docker("run --name gone -v /data busybox true").success();
    world.docker("create --name user -v used:/data busybox true").success();
    world.docker("rm gone").success();
    world.docker("volume prune -f").success();
    let mut left = world.docker("volume ls -q").lines();
    left.sort();
    assert_eq!(left, ["named", "used"]);
    world.docker("volume prune -f --all").success();
    assert_eq!(world.docker("volume ls -q").success(), "used");
    let reply = world.post("/volumes/prune", Value::Null).json();
    assert_eq!(reply, json!({"VolumesDeleted": [], "SpaceReclaimed": 0}));
}

#[d2k_suite::test]
fn creating_a_volume_twice_gives_the_first_one() {
    let Some(world) = World::new() else { return };
    let body = json!({"Name": "data", "Labels": {"a": "b"}});
    let first = world.post("/volumes/create", body.clone());
    let second = world.post("/volumes/create", body);
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json()["CreatedAt"], second.json()["CreatedAt"]);
    assert_eq!(world.names("persistentvolumeclaims").len(), 1);
}

#[d2k_suite::test]
fn volume_names_that_kubernetes_forbids_are_kept_apart() {
    let Some(world) = World::new() else { return };
    for name in ["my_data", "My-Data", "my-data"] {
        world.docker(format!("volume create {name}")).success();
        world.docker(format!("run --rm -v {name}:/d busybox sh -c 'echo {name} > /d/f'")).success();
    }
    for name in ["my_data", "My-Data", "my-data"] {
        assert_eq!(world.docker(format!("run --rm -v {name}:/d busybox cat /d/f")).success(), name);
    }
    world.docker("volume create -- -bad").failure(1, &[]);
}

#[d2k_suite::test]
fn a_file_system_in_memory_and_shared_memory_have_their_size() {
    let Some(world) = World::new() else { return };
    let run = "run --rm --tmpfs /scratch:size=16m --shm-size 32m busybox sh -c 'df -m /scratch /dev/shm'";
    let table = world.docker(run).success();
    let size = |path: &str| -> u64 {
        let line = table.lines().find(|line| line.ends_with(path)).unwrap_or_else(|| panic!("{table}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!((size("/scratch"), size("/dev/shm")), (16, 32), "{table}");
    let mount = "--mount type=tmpfs,destination=/t,tmpfs-size=8m";
    let table = world.docker(format!("run --rm {mount} busybox df -m /t")).success();
    assert!(table.contains("tmpfs"), "{table}");
}

#[d2k_suite::test]
fn the_docker_socket_is_replaced_by_d2ks_address() {
    let Some(world) = World::new() else { return };
    let run = world
        .docker("run --rm -v /var/run/docker.sock:/var/run/docker.sock busybox sh -c 'echo $DOCKER_HOST'");
    assert_eq!(run.status, 0, "{run}");
    assert!(run.stdout.starts_with("tcp://"), "{run}");
}

#[d2k_suite::test]
fn a_claim_that_d2k_did_not_make_is_a_volume() {
    let Some(world) = World::new() else { return };
    world.apply(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: foreign}\nspec:\n  \
         accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n",
    );
    eventually("it is listed", || world.docker("volume ls -q").success() == "foreign");
    world.docker("run --rm -v foreign:/d busybox touch /d/f").success();
    world.docker("volume prune -f --all").success();
    assert_eq!(world.docker("volume ls -q").success(), "foreign", "prune took what is not d2k's");
    world.sh("docker volume rm -f $(docker volume ls -q)").failure(1, &["a claim that d2k did not make"]);
    assert_eq!(world.names("pvc"), ["persistentvolumeclaim/foreign"]);
}

#[d2k_suite::test]
fn volumes_from_another_container_are_shared() {
    let Some(world) = World::new() else { return };
    world.docker("run --name one -v data:/data busybox sh -c 'echo kept > /data/f'").success();
    assert_eq!(world.docker("run --rm --volumes-from one busybox cat /data/f").success(), "kept");
}

#[d2k_suite::test]
fn an_anonymous_volume_stays_while_another_container_has_it() {
    let Some(world) = World::new() else { return };
    world.docker("run --name one -v /data busybox sh -c 'echo kept > /data/f'").success();
    world.docker("run -d --name two --volumes-from one busybox sleep 1000").success();
    world.docker("rm -v one").success();
    assert_eq!(world.docker("exec two cat /data/f").success(), "kept");
    assert_eq!(world.docker("volume ls -q").lines().len(), 1);
    let deleted = "get persistentvolumeclaims -o jsonpath={.items[*].metadata.deletionTimestamp}";
    assert_eq!(world.kubectl(deleted).success(), "", "it goes with its last Pod");
}

#[d2k_suite::test]
fn a_create_whose_second_volume_is_refused_leaves_no_first_one() {
    let file = std::env::temp_dir().join(format!("d2k-volumes-{}.yaml", std::process::id()));
    std::fs::write(&file, "volumes: {settings: {max-size: 2Gi}}").unwrap();
    let Some(world) = World::with(&[("D2K_POLICY_SETTINGS", file.to_str().unwrap())]) else { return };
    let large = "type=volume,source=large,target=/b,volume-opt=size=5Gi";
    let create = world.docker(format!("create -v first:/a --mount {large} busybox true"));
    create.failure(1, &["5Gi is more than the 2Gi"]);
    assert!(world.names("persistentvolumeclaims,deployments,jobs").is_empty());
    std::fs::remove_file(file).unwrap();
}

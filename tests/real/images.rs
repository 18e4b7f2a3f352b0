//! `docker pull`, images, login: what the registry says, and what d2k says where it cannot.

use serde_json::{Value, json};

use crate::support::{GuardedRegistry, Image, World, eventually, registry};

#[d2k_suite::test]
fn inspect_tells_since_when_an_image_has_its_name() {
    let Some(world) = World::new() else { return };
    world.docker("pull busybox").success();
    let since: jiff::Timestamp =
        world.field("busybox", "json .Metadata.LastTagTime").trim_matches('"').parse().unwrap();
    assert!(
        (jiff::Timestamp::now() - since).total(jiff::Unit::Second).unwrap() < 86_400.0 * 365.0,
        "{since}"
    );
}

#[d2k_suite::test]
fn a_pull_shows_progress_and_the_digest_and_the_second_one_that_it_is_up_to_date() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-app", world.name());
    let digest = Image::busybox(&image).push();
    let pull = world.docker(format!("pull {image}")).success();
    assert!(pull.contains("Using default tag: latest"), "{pull}");
    assert!(pull.contains(&format!("latest: Pulling from library/{image}")), "{pull}");
    assert!(pull.contains("Pulling fs layer"), "{pull}");
    assert!(pull.contains(&format!("Digest: {digest}")), "{pull}");
    assert!(pull.contains(&format!("Status: Downloaded newer image for {image}:latest")), "{pull}");
    let again = world.docker(format!("pull {image}")).success();
    assert!(again.contains(&format!("Status: Image is up to date for {image}:latest")), "{again}");
}

#[d2k_suite::test]
fn a_pull_of_what_does_not_exist_fails_with_the_registrys_words() {
    let Some(world) = World::new() else { return };
    let missing = world.docker("pull nosuch-image");
    assert_eq!(missing.status, 1, "{missing}");
    assert!(
        missing.stderr.contains("pull access denied") || missing.stderr.contains("not found"),
        "{missing}"
    );
    world.docker("pull busybox:nosuch-tag").failure(1, &["not found"]);
    world.docker("pull upper/CASE").failure(1, &["must be lowercase"]);
    assert_eq!(world.docker("images -q").success(), "");
}

#[d2k_suite::test]
fn the_progress_of_a_pull_is_one_object_a_line() {
    let Some(world) = World::new() else { return };
    let reply = world.post("/images/create?fromImage=busybox&tag=latest", Value::Null);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["progressDetail"]["total"].is_u64()), "{lines:?}");
    let last = lines.last().unwrap()["status"].as_str().unwrap();
    assert!(last.starts_with("Status: "), "{last}");
}

#[d2k_suite::test]
fn a_pull_is_acknowledged_where_no_registry_answers() {
    let Some(world) = World::with(&[("D2K_REGISTRY_MIRRORS", "*=http://127.0.0.1:1")]) else {
        return;
    };
    let pull = world.docker("pull 127.0.0.1:1/library/busybox");
    assert_eq!(pull.status, 0, "{pull}");
    world.docker("run --rm 127.0.0.1:1/library/busybox echo hello").success();
}

#[d2k_suite::test]
fn a_pulled_image_shows_what_its_registry_says() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-app", world.name());
    let digest = Image::busybox(&image)
        .config(json!({
            "Env": ["A=b"], "Cmd": ["httpd"], "Entrypoint": ["/bin/busybox"], "WorkingDir": "/srv", "User": "33",
            "ExposedPorts": {"8080/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"made.by": "suite"},
            "StopSignal": "SIGINT", "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000},
        }))
        .push();
    world.docker(format!("pull {image}")).success();
    let inspect = world.inspect(&image);
    assert!(inspect["Id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(inspect["RepoTags"], json!([format!("{image}:latest")]));
    assert_eq!(inspect["RepoDigests"], json!([format!("{image}@{digest}")]));
    let config = &inspect["Config"];
    assert_eq!(config["Env"], json!(["A=b"]));
    assert_eq!(config["Cmd"], json!(["httpd"]));
    assert_eq!(config["Entrypoint"], json!(["/bin/busybox"]));
    assert_eq!(config["WorkingDir"], "/srv");
    assert_eq!(config["User"], "33");
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Labels"], json!({"made.by": "suite"}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "true"]));
    assert_eq!(inspect["Os"], "linux");
    assert!(inspect["Size"].as_u64().unwrap() > 100_000);
    assert_eq!(inspect["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert!(inspect["Created"].as_str().unwrap().starts_with("2026-01-02T03:04:05"));
}

#[d2k_suite::test]
fn images_are_listed_with_their_filters() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-app", world.name());
    Image::busybox(&image).config(json!({"Labels": {"tier": "db"}})).push();
    world.docker(format!("pull -q {image}")).success();
    world.docker("pull -q busybox").success();
    let list = |filter: &str| {
        let mut names =
            world.docker(format!("images {filter} --format '{{{{.Repository}}}}:{{{{.Tag}}}}'")).lines();
        names.sort();
        names
    };
    let own = format!("{image}:latest");
    let mut both = vec!["busybox:latest".to_owned(), own.clone()];
    both.sort();
    assert_eq!(list(""), both);
    assert_eq!(list("busybox"), ["busybox:latest"]);
    assert_eq!(list(&format!("--filter reference='{image}*'")), std::slice::from_ref(&own));
    assert_eq!(list("--filter label=tier=db"), std::slice::from_ref(&own));
    assert_eq!(list("--filter dangling=true"), [""; 0]);
    assert_eq!(list("--filter dangling=false"), both);
    // busybox is a week or a day old; the suite's image says that it is of January.
    assert!(
        list(&format!("--filter since={image}")).len() + list(&format!("--filter before={image}")).len() == 1
    );
    world.docker("images --filter nosuch=1").failure(1, &["invalid filter 'nosuch'"]);
    let digests = world.docker("images --digests --format '{{.Digest}}'").lines();
    assert!(digests.iter().all(|digest| digest.starts_with("sha256:")), "{digests:?}");
    let items = world.get("/images/json").json();
    for item in items.as_array().unwrap() {
        assert!(item["RepoTags"].is_array() && item["RepoDigests"].is_array(), "{item}");
    }
}

#[d2k_suite::test]
fn the_image_of_a_container_is_listed_although_nobody_pulled_it() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web nginx").success();
    assert_eq!(world.docker("images --format '{{.Repository}}'").success(), "nginx");
    assert_eq!(world.field("web", ".Image"), world.docker("images -q --no-trunc").success());
}

#[d2k_suite::test]
fn an_image_is_run_under_the_tag_it_was_given() {
    let Some(world) = World::new() else { return };
    world.docker("pull -q busybox").success();
    world.docker("tag busybox mine/app:1").success();
    assert_eq!(world.inspect("mine/app:1")["Id"], world.inspect("busybox")["Id"]);
    assert_eq!(world.docker("run --rm mine/app:1 echo hello").success(), "hello");
    world.docker("tag nosuch-image:1 other").failure(1, &["No such image: nosuch-image:1"]);
    assert_eq!(world.post("/images/busybox/tag?repo=BAD", Value::Null).status, 400);
}

#[d2k_suite::test]
fn an_image_is_untagged_and_forgotten_unless_a_container_uses_it() {
    let Some(world) = World::new() else { return };
    world.docker("pull -q busybox").success();
    world.docker("tag busybox mine").success();
    assert_eq!(world.docker("rmi mine").success(), "Untagged: mine:latest");
    world.docker("create --name user busybox true").success();
    world
        .docker("rmi busybox")
        .failure(1, &["conflict: unable to remove repository reference", "is using its referenced image"]);
    world.docker("rm user").success();
    let removed = world.docker("rmi busybox").success();
    assert!(
        removed.contains("Untagged: busybox:latest") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    world.docker("rmi busybox").failure(1, &["No such image: busybox"]);
}

#[d2k_suite::test]
fn the_history_of_an_image_has_its_layers() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-app", world.name());
    Image::busybox(&image).push();
    world.docker(format!("pull -q {image}")).success();
    let history = world.docker(format!("history --no-trunc --format '{{{{.CreatedBy}}}}' {image}")).success();
    assert_eq!(history, "the suite of d2k");
    world.docker("history nosuch-image").failure(1, &["No such image: nosuch-image"]);
}

#[d2k_suite::test]
fn prune_forgets_images_that_no_container_uses() {
    let Some(world) = World::new() else { return };
    world.docker("pull -q busybox").success();
    world.docker("create --name web nginx").success();
    world.docker("image prune -f").success();
    assert_eq!(world.docker("images -q").lines().len(), 2);
    world.docker("image prune -f --all").success();
    assert_eq!(world.docker("images --format '{{.Repository}}'").success(), "nginx");
}

#[d2k_suite::test]
fn a_private_image_is_pulled_and_run_with_a_login_only() {
    // A mirror gets no credentials, so that this registry is asked itself.
    let mirrors = format!("docker.io=http://{}", registry());
    let Some(world) = World::with(&[("D2K_REGISTRY_MIRRORS", &mirrors)]) else {
        return;
    };
    let registry = GuardedRegistry::start();
    let host = format!("127.0.0.1:{}", registry.port);
    let image = format!("{host}/library/busybox");
    let refused = world.docker(format!("pull {image}"));
    assert_eq!(refused.status, 1, "{refused}");
    assert!(
        refused.stderr.contains("authentication required") || refused.stderr.contains("pull access denied"),
        "{refused}"
    );
    let wrong = world.docker_in(format!("login -u tester --password-stdin {host}"), "wrong");
    assert_eq!(wrong.status, 1, "{wrong}");
    assert!(wrong.stderr.contains("unauthorized"), "{wrong}");
    let login = world.docker_in(format!("login -u tester --password-stdin {host}"), "s3cret");
    assert!(login.success().contains("Login Succeeded"));
    world.docker(format!("pull {image}")).success();
    assert_eq!(world.docker(format!("run --rm {image} echo hello")).success(), "hello");
    let secrets = world.object("secrets");
    let kept =
        secrets["items"].as_array().unwrap().iter().any(|s| s["type"] == "kubernetes.io/dockerconfigjson");
    assert!(kept, "no Secret lets the cluster pull it");
    assert!(!world.log().contains("s3cret"), "the password is in the log");
}

#[d2k_suite::test]
fn what_needs_an_image_store_is_refused_with_what_to_use_instead() {
    let Some(world) = World::new() else { return };
    world.docker("pull -q busybox").success();
    world.docker("create --name web busybox true").success();
    for reply in [
        world.post("/commit?container=web", json!({})),
        world.post("/build", Value::Null),
        world.post("/images/load", Value::Null),
        world.get("/images/busybox/get"),
        world.get("/images/get?names=busybox"),
        world.post("/images/busybox/push", Value::Null),
        world.post("/images/create?fromSrc=-", Value::Null),
    ] {
        let error = reply.error(501);
        assert!(error.len() > 20, "no pointer: {error}");
    }
    world.docker("commit web mine").failure(1, &[]);
    world.docker("save busybox -o x.tar").failure(1, &[]);
    let builds = world.post("/build/prune", Value::Null);
    assert_eq!((builds.status, builds.json()["SpaceReclaimed"].clone()), (200, json!(0)));
}

#[d2k_suite::test]
fn search_answers_and_a_distribution_has_its_digest() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-app", world.name());
    let digest = Image::busybox(&image).push();
    let reply = world.get(&format!("/distribution/{image}/json")).json();
    assert_eq!(reply["Descriptor"]["digest"], digest);
    assert_eq!(world.get("/distribution/nosuch-image/json").status, 404);
    let search = world.get("/images/search?term=busybox");
    assert!(search.status == 200 && search.json().is_array() || search.status == 501, "{}", search.text());
}

#[d2k_suite::test]
fn an_image_that_only_the_cluster_cannot_pull_fails_at_start_with_the_clusters_words() {
    let mirrors = [("D2K_REGISTRY_MIRRORS", "*=http://127.0.0.1:1")];
    let Some(world) = World::with(&mirrors) else {
        return;
    };
    let run = world.docker("run -d 127.0.0.1:1/library/nosuch-image true");
    assert_eq!(run.status, 125, "{run}");
    assert!(run.stderr.contains("nosuch-image"), "{run}");
    eventually("no Pod tries on", || {
        world.object("pods")["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|pod| pod["metadata"].get("deletionTimestamp").is_some())
    });
}

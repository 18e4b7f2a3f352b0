//! A registry login serves the containers of the client that presented it, and nobody else.

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{GuardedRegistry, Reply, World, eventually, registry};

/// Where the other client comes from.
const OTHER: &str = "127.0.0.2";

/// A world whose d2k asks registries other than Docker Hub themselves: a mirror gets no credentials.
#[track_caller]
fn world() -> Option<World> {
    World::with(&[("D2K_REGISTRY_MIRRORS", &format!("docker.io=http://{}", registry()))])
}

fn image(guarded: &GuardedRegistry) -> String {
    format!("127.0.0.1:{}/library/busybox", guarded.port)
}

/// The value of `X-Registry-Auth`.
fn login(password: &str) -> String {
    let text = json!({"username": "tester", "password": password}).to_string();
    base64::engine::general_purpose::URL_SAFE.encode(text)
}

fn pull(world: &World, from: &str, image: &str, password: Option<&str>) -> Reply {
    let auth = password.map(login);
    let headers: Vec<(&str, &str)> = auth.iter().map(|value| ("X-Registry-Auth", value.as_str())).collect();
    world.http_from(from, "POST", &format!("/images/create?fromImage={image}&tag=latest"), &headers, b"")
}

fn create(world: &World, from: &str, name: &str, image: &str) -> Reply {
    let body = json!({
        "Image": image, "Cmd": ["sleep", "1000"], "HostConfig": {"RestartPolicy": {"Name": "always"}},
    });
    let path = format!("/containers/create?name={name}");
    let headers = [("Content-Type", "application/json")];
    world.http_from(from, "POST", &path, &headers, body.to_string().as_bytes())
}

/// The names of the Secrets that the Pods of a container name.
#[track_caller]
fn named_secrets(world: &World, name: &str) -> Vec<String> {
    let object = world.object(&format!("deployment/{name}"));
    let named = object["spec"]["template"]["spec"]["imagePullSecrets"].as_array().cloned();
    named.unwrap_or_default().iter().map(|secret| secret["name"].as_str().unwrap().to_owned()).collect()
}

/// The Secrets with logins, and what is in each.
#[track_caller]
fn secrets(world: &World) -> Vec<(String, Value)> {
    let all = world.object("secrets")["items"].as_array().unwrap().clone();
    let logins = all.into_iter().filter(|secret| secret["type"] == "kubernetes.io/dockerconfigjson");
    logins
        .map(|secret| {
            let config = secret["data"][".dockerconfigjson"].as_str().unwrap();
            let config = base64::engine::general_purpose::STANDARD.decode(config).unwrap();
            let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_slice(&config).unwrap())
        })
        .collect()
}

fn has_password(config: &Value, password: &str) -> bool {
    config["auths"].as_object().unwrap().values().all(|entry| entry["password"] == password)
}

#[d2k_suite::test]
fn a_client_without_credentials_does_not_run_what_another_ones_login_opened() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    let own = "127.0.0.1";
    assert_eq!(create(&world, own, "early", &image).status, 404, "nobody has pulled it");
    assert_eq!(pull(&world, own, &image, Some("s3cret")).status, 200);
    assert_eq!(create(&world, own, "mine", &image).status, 201);
    world.docker("start mine").success();
    // Another client is asked for a login of its own, as by the registry.
    let refused = create(&world, OTHER, "theirs", &image).error(404);
    assert!(refused.contains("No such image"), "{refused}");
    assert_eq!(pull(&world, OTHER, &image, None).status, 404);
    let id = world.get(&format!("/images/{image}/json")).json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(create(&world, OTHER, "theirs", &id).status, 404, "not by its ID either");
    let tag = world.post(&format!("/images/{image}/tag?repo=renamed&tag=1"), Value::Null);
    assert_eq!(tag.status, 201);
    assert_eq!(create(&world, OTHER, "theirs", "renamed:1").status, 404, "nor by another name");
    // With one it runs it, and the first client goes on.
    assert_eq!(pull(&world, OTHER, &image, Some("s3cret")).status, 200);
    assert_eq!(create(&world, OTHER, "theirs", &image).status, 201);
    assert_eq!(create(&world, own, "again", "renamed:1").status, 201);
    assert_eq!(secrets(&world).len(), 1);
    // Another d2k knows what this one was told.
    let second = world.second_d2k(&[]);
    let body = json!({"Image": image});
    assert_eq!(second.post("/containers/create?name=there", &body).status, 201);
    assert!(!world.log().contains("s3cret"), "the password is in the log");
}

#[d2k_suite::test]
fn a_user_at_the_unix_socket_is_another_client_than_one_at_the_port() {
    let socket = std::env::temp_dir().join(format!("d2k-login-{}.sock", std::process::id()));
    let mirrors = format!("docker.io=http://{}", registry());
    let settings = [("D2K_REGISTRY_MIRRORS", mirrors.as_str()), ("D2K_SOCKET", socket.to_str().unwrap())];
    let Some(world) = World::with(&settings) else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    let there = |words: &str| world.sh(format!("DOCKER_HOST=unix://{} docker {words}", socket.display()));
    there(&format!("create --pull never {image}")).failure(1, &["No such image"]);
    there(&format!("login -u tester -p s3cret 127.0.0.1:{}", guarded.port)).success();
    there(&format!("pull {image}")).success();
    there(&format!("create --pull never --name one {image}")).success();
    there(&format!("create --pull never --name two {image}")).success();
    let _ = std::fs::remove_file(socket);
}

#[d2k_suite::test]
fn credentials_that_are_sent_with_the_create_serve_that_container() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    let body = json!({"Image": image, "HostConfig": {"RestartPolicy": {"Name": "always"}}}).to_string();
    let create = |name: &str, password: &str| {
        let auth = login(password);
        let headers = [("Content-Type", "application/json"), ("X-Registry-Auth", auth.as_str())];
        world.http("POST", &format!("/containers/create?name={name}"), &headers, body.as_bytes()).status
    };
    assert_eq!(create("wrong", "guessed"), 404);
    assert_eq!(create("right", "s3cret"), 201);
    assert_eq!(named_secrets(&world, "right").len(), 1);
}

#[d2k_suite::test]
fn wrong_credentials_do_no_harm_to_good_ones() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    let wrong = pull(&world, OTHER, &image, Some("guessed"));
    assert_eq!(wrong.status, 401, "{}", wrong.text());
    assert!(secrets(&world).iter().all(|(_, config)| has_password(config, "s3cret")));
    assert_eq!(create(&world, "127.0.0.1", "mine", &image).status, 201);
    world.docker("start mine").success();
}

#[d2k_suite::test]
fn credentials_that_no_registry_has_checked_are_kept_apart() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    drop(guarded);
    let nobody = "127.0.0.3";
    assert!(pull(&world, nobody, &image, None).text().contains("no registry in reach"));
    assert_eq!(create(&world, nobody, "nobodys", &image).status, 404, "it is still known to be private");
    let unchecked = pull(&world, OTHER, &image, Some("guessed"));
    assert!(unchecked.text().contains("no registry in reach"), "{}", unchecked.text());
    for (from, name, password) in [("127.0.0.1", "mine", "s3cret"), (OTHER, "theirs", "guessed")] {
        let made = create(&world, from, name, &image);
        assert_eq!(made.status, 201, "{}", made.text());
        let named = named_secrets(&world, name);
        let all = secrets(&world);
        let own = all.iter().find(|(secret, _)| named == [secret.as_str()]).expect("its Secret");
        assert!(has_password(&own.1, password), "{name} has the other one's login");
    }
}

#[d2k_suite::test]
fn a_public_image_names_no_login_however_old_it_is() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    assert_eq!(create(&world, "127.0.0.1", "before", &image).status, 201);
    assert_eq!(named_secrets(&world, "before").len(), 1, "it is private");
    guarded.set_password("changed");
    guarded.make_public();
    let pulled = pull(&world, "127.0.0.1", &image, Some("s3cret"));
    assert_eq!(pulled.status, 200, "{}", pulled.text());
    for (from, name) in [("127.0.0.1", "mine"), (OTHER, "theirs")] {
        let made = create(&world, from, name, &image);
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(named_secrets(&world, name), Vec::<String>::new());
    }
    assert_eq!(pull(&world, "127.0.0.1", "busybox", Some("stale")).status, 200);
    assert_eq!(create(&world, OTHER, "other", "busybox").status, 201);
    assert_eq!(secrets(&world).len(), 1, "nothing is kept that nobody needs");
    world.docker("start mine theirs other").success();
}

#[d2k_suite::test]
fn a_login_that_its_registry_refuses_is_deleted() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    assert_eq!(create(&world, "127.0.0.1", "mine", &image).status, 201);
    assert_eq!(secrets(&world).len(), 1);
    // Presented again after it was revoked.
    guarded.set_password("changed");
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 401);
    assert!(secrets(&world).is_empty());
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("changed")).status, 200);
    // Nobody presents it, but a node fails with it: a Pod that no node takes stands for one.
    let (name, _) = secrets(&world).pop().expect("a Secret");
    guarded.set_password("changed again");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fails"},
        "spec": {
            "nodeSelector": {"no-such": "node"}, "imagePullSecrets": [{"name": name}],
            "containers": [{"name": "main", "image": image}],
        },
    });
    world.apply(&pod.to_string());
    let waiting = json!({"status": {"containerStatuses": [{
        "name": "main", "image": image, "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull"}},
    }]}});
    world.kubectl(format!("patch pod fails --subresource=status --type merge -p '{waiting}'")).success();
    eventually("the login is deleted", || secrets(&world).is_empty());
    assert_eq!(named_secrets(&world, "mine"), [name], "that it is gone does not harm the container");
    world.docker("start mine").success();
}

#[d2k_suite::test]
fn a_login_goes_when_no_container_needs_it_and_its_image_with_it() {
    let Some(world) = world() else { return };
    let guarded = GuardedRegistry::start();
    let image = image(&guarded);
    assert_eq!(pull(&world, "127.0.0.1", &image, Some("s3cret")).status, 200);
    assert_eq!(create(&world, "127.0.0.1", "mine", &image).status, 201);
    let (name, _) = secrets(&world).pop().expect("a Secret");
    let noted = world.object(&format!("configmap/{name}"))["data"].clone();
    let client = noted.as_object().unwrap().keys().find(|key| key.starts_with("client-")).unwrap().clone();
    let earlier = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(20)).to_string();
    let patch = json!({"data": {client: format!("{earlier} address 127.0.0.1")}});
    world.kubectl(format!("patch configmap {name} --type merge -p '{patch}'")).success();
    // Two looks and more.
    std::thread::sleep(std::time::Duration::from_secs(25));
    assert_eq!(secrets(&world).len(), 1, "a container needs it");
    world.docker("rm mine").success();
    eventually("the login is gone", || secrets(&world).is_empty());
    eventually("what tells of it is gone", || world.names("configmaps -l d2k.io/role=registry").is_empty());
    eventually("the image is pulled again by who wants it", || {
        world.get(&format!("/images/{image}/json")).status == 404
    });
}

#[d2k_suite::test]
fn a_login_of_an_earlier_version_stays_while_a_container_names_it() {
    let Some(mut world) = world() else { return };
    let old = |registry: &str| format!("d2k-registry-{}", &hex::encode(Sha256::digest(registry))[..16]);
    let secret = |name: String| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name, "labels": {"d2k.io/role": "registry"}},
            "stringData": {".dockerconfigjson": json!({"auths": {}}).to_string()},
        })
    };
    world.docker("run -d --name web busybox sleep 1000").success();
    let used = old("docker.io");
    world.apply(&secret(used.clone()).to_string());
    let patch = json!({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": used}]}}}});
    world.kubectl(format!("patch deployment web --type merge -p '{patch}'")).success();
    eventually("it names the Secret", || named_secrets(&world, "web") == [used.as_str()]);
    world.restart_d2k();
    world.docker("restart -t 1 web").success();
    assert_eq!(named_secrets(&world, "web"), [used.as_str()], "a restart keeps it");
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(secrets(&world).len(), 1);
    world.docker("rm -f web").success();
    eventually("it is gone", || secrets(&world).is_empty());
}

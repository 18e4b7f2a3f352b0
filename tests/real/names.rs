//! A container's name is unique in the namespace, also where two d2k create and rename at one moment, where
//! an answer is lost on its way, and where a d2k was killed in the middle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Reply, World, admin_kubeconfig, eventually};

/// Rounds of each race.
const ROUNDS: usize = 30;

fn body() -> Value {
    json!({"Image": "busybox", "Cmd": ["sleep", "1000"]})
}

/// The name of the ConfigMap that reserves a name.
fn reservation(name: &str) -> String {
    format!("d2k-name-{}", &hex::encode(Sha256::digest(name))[..32])
}

/// Does both at one moment, as nearly as threads can.
fn race(one: impl FnOnce() -> Reply + Send, other: impl FnOnce() -> Reply + Send) -> [Reply; 2] {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            barrier.wait();
            other()
        });
        barrier.wait();
        [one(), other.join().unwrap()]
    })
}

/// One has succeeded, and the other was told Docker's words.
#[track_caller]
fn one_wins(replies: &[Reply; 2], success: u16, name: &str) {
    let mut all: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    all.sort_unstable();
    let words = replies.iter().map(Reply::text).collect::<Vec<_>>().join(" | ");
    assert_eq!(all, [success, 409], "{name}: {words}");
    let lost = replies.iter().find(|reply| reply.status == 409).unwrap().error(409);
    let expected = format!("The container name \"/{name}\" is already in use by container \"");
    assert!(lost.contains(&expected), "{lost}");
}

#[track_caller]
fn all_names(world: &World) -> Vec<String> {
    let mut names = world.docker("ps -a --format '{{.Names}}'").lines();
    names.sort();
    names
}

#[d2k_suite::test]
fn of_two_d2ks_that_create_one_name_one_makes_the_container() {
    let Some(world) = World::new() else { return };
    let second = world.second_d2k(&[]);
    for round in 0..ROUNDS {
        let path = format!("/containers/create?name=n{round}");
        let replies = race(|| world.post(&path, body()), || second.post(&path, &body()));
        one_wins(&replies, 201, &format!("n{round}"));
    }
    eventually("both have made all of them", || all_names(&world).len() == ROUNDS);
    let mut once = all_names(&world);
    once.dedup();
    assert_eq!(once.len(), ROUNDS, "no name is there twice");
}

#[d2k_suite::test]
fn of_two_d2ks_that_give_one_name_to_two_containers_one_succeeds() {
    let Some(world) = World::new() else { return };
    let second = world.second_d2k(&[]);
    for round in 0..ROUNDS {
        for name in ["x", "y"] {
            assert_eq!(world.post(&format!("/containers/create?name={name}{round}"), body()).status, 201);
        }
        let path = |name: &str| format!("/containers/{name}{round}/rename?name=z{round}");
        eventually("the second one knows", || {
            second.post(&format!("/containers/y{round}/rename?name=y{round}"), &Value::Null).status == 400
        });
        let replies = race(|| world.post(&path("x"), Value::Null), || second.post(&path("y"), &Value::Null));
        one_wins(&replies, 204, &format!("z{round}"));
    }
    let names = all_names(&world);
    let count = |letter: char| names.iter().filter(|name| name.starts_with(letter)).count();
    assert_eq!((count('z'), count('x') + count('y')), (ROUNDS, ROUNDS), "{names:?}");
    // The old names are free.
    let free = if names.contains(&"x0".to_owned()) { "y0" } else { "x0" };
    assert_eq!(second.post(&format!("/containers/create?name={free}"), &body()).status, 201);
}

#[d2k_suite::test]
fn a_name_is_free_again_as_soon_as_its_container_is_gone_or_could_not_be_made() {
    let Some(world) = World::new() else { return };
    let second = world.second_d2k(&[]);
    for round in 0..5 {
        let path = "/containers/create?name=web";
        let made = if round % 2 == 0 { world.post(path, body()) } else { second.post(path, &body()) };
        assert_eq!(made.status, 201, "{}", made.text());
        eventually("the first one knows", || world.get("/containers/web/json").status == 200);
        world.docker("rm web").success();
        eventually("the second one knows", || {
            second.post("/containers/web/rename?name=web", &Value::Null).status == 404
        });
    }
    let wrong = json!({"Image": "busybox", "HostConfig": {"Binds": ["d:/d"], "PortBindings": {"80/tcp": [{"HostPort": "nine"}]}}});
    assert_eq!(world.post("/containers/create?name=web", wrong).status, 400);
    let begin = Instant::now();
    assert_eq!(world.post("/containers/create?name=web", body()).status, 201);
    world.docker("rm web").success();
    world.docker("run --rm --name web busybox true").success();
    assert_eq!(world.post("/containers/create?name=web", body()).status, 201);
    assert!(begin.elapsed() < Duration::from_secs(8), "nothing was waited for: {:?}", begin.elapsed());
    world.docker("rm web").success();
    eventually("no reservation is left", || world.names("configmaps -l d2k.io/role=name").is_empty());
}

#[d2k_suite::test]
fn a_reservation_that_a_killed_d2k_has_left_holds_for_seconds() {
    let Some(mut world) = World::new() else { return };
    let left = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": reservation(name), "labels": {"d2k.io/role": "name"}},
            "data": {"name": name, "id": "0".repeat(64)},
        })
    };
    world.apply(&left("web").to_string());
    let begin = Instant::now();
    assert_eq!(world.post("/containers/create?name=web", body()).status, 201);
    assert!(begin.elapsed() > Duration::from_secs(9), "another d2k may be about to make it");
    assert_eq!(world.post("/containers/create?name=web", body()).status, 409);
    // One that nobody asks for goes as well.
    world.apply(&left("other").to_string());
    world.restart_d2k();
    eventually("it is collected", || world.names("configmaps -l d2k.io/role=name").len() == 1);
    assert_eq!(world.post("/containers/create?name=web", body()).status, 409);
}

#[d2k_suite::test]
fn a_container_of_an_earlier_version_keeps_its_name_without_a_reservation() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web busybox true").success();
    world.kubectl(format!("delete configmap {}", reservation("web"))).success();
    assert!(world.post("/containers/create?name=web", body()).error(409).contains("already in use"));
    world.docker("rename web old").success();
    assert_eq!(world.post("/containers/create?name=web", body()).status, 201);
    world.docker("rm web old").success();
}

#[d2k_suite::test]
fn a_service_of_somebody_else_takes_no_name_away() {
    let Some(world) = World::new() else { return };
    world.kubectl("create service clusterip web --tcp=80").success();
    world.docker("create --name web -p 0:80 busybox true").success();
    assert_eq!(all_names(&world), ["web"]);
    assert_eq!(world.object("service/web")["metadata"]["labels"]["app"], "web", "it was left alone");
}

/// `kubectl proxy`: the API server without TLS and without a login.
struct PlainApi {
    child: Child,
    address: String,
}

impl PlainApi {
    fn start() -> Self {
        let mut command = Command::new("kubectl");
        command.args(["--kubeconfig", &admin_kubeconfig().unwrap(), "proxy", "--port=0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for PlainApi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy that lets everything through and answers 504 to the first tries to make one of some objects,
/// although they have succeeded.
struct Gateway {
    port: u16,
    lost: Arc<AtomicUsize>,
}

impl Gateway {
    fn start(api: &PlainApi, objects: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lost = Arc::new(AtomicUsize::new(0));
        let (counter, upstream) = (Arc::clone(&lost), api.address.clone());
        std::thread::spawn(move || {
            let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
            for client in listener.incoming().flatten() {
                let (counter, upstream, seen) = (Arc::clone(&counter), upstream.clone(), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let first = |line: &str| {
                        let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
                        let made = objects.iter().any(|kind| path.ends_with(&format!("/{kind}")));
                        let mut seen = seen.lock().unwrap();
                        let first = line.starts_with("POST") && made && !seen.contains(&path);
                        if first {
                            seen.push(path);
                            counter.fetch_add(1, Ordering::Relaxed);
                        }
                        first
                    };
                    pass(client, &upstream, first)
                });
            }
        });
        Self { port, lost }
    }
}

/// Passes one request on and its answer back, unless that one is to be lost.
fn pass(mut client: TcpStream, upstream: &str, is_lost: impl Fn(&str) -> bool) -> Option<()> {
    let (mut request, mut part) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let read = client.read(&mut part).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&part[..read]);
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while request.len() < end + length.unwrap_or(0) {
        let read = client.read(&mut part).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&part[..read]);
    }
    let mut server = TcpStream::connect(upstream).ok()?;
    let kept = head.lines().filter(|line| {
        let line = line.to_lowercase();
        !line.is_empty() && !line.starts_with("connection:") && !line.starts_with("host:")
    });
    let head_there = kept.collect::<Vec<_>>().join("\r\n");
    write!(server, "{head_there}\r\nHost: {upstream}\r\nConnection: close\r\n\r\n").ok()?;
    server.write_all(&request[end..]).ok()?;
    if is_lost(head.lines().next().unwrap_or_default()) {
        server.read_to_end(&mut Vec::new()).ok()?;
        let answer = "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer.as_bytes()).ok();
    }
    std::io::copy(&mut server, &mut client).ok().map(|_| ())
}

#[d2k_suite::test]
fn a_create_whose_answers_were_lost_on_their_way_makes_one_container() {
    let Some(world) = World::new() else { return };
    let api = PlainApi::start();
    let kinds = &["deployments", "jobs", "services", "configmaps", "persistentvolumeclaims"];
    let gateway = Gateway::start(&api, kinds);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://127.0.0.1:{}", gateway.port)}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = world.directory().join("gateway.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    let second = world.second_d2k(&[("D2K_KUBECONFIG", path.to_str().unwrap())]);
    let host = json!({
        "RestartPolicy": {"Name": "always"}, "Binds": ["data:/data"], "PortBindings": {"80/tcp": [{"HostPort": "0"}]},
    });
    let service = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host});
    for (name, body) in [("web", &service), ("once", &body())] {
        let reply = second.post(&format!("/containers/create?name={name}"), body);
        assert_eq!(reply.status, 201, "{}", reply.text());
        let twice = second.post(&format!("/containers/create?name={name}"), body);
        assert_eq!(twice.status, 409, "{}", twice.text());
    }
    // A Deployment or a Job, the reservation, the claim and the Service at least.
    assert!(gateway.lost.load(Ordering::Relaxed) >= 4, "the gateway lost nothing");
    eventually("there are two containers", || all_names(&world) == ["once", "web"]);
    assert_eq!(world.names("deployments,jobs").len(), 2);
    assert_eq!(world.names("persistentvolumeclaims").len(), 1);
    assert_eq!(world.names("services").len(), 1);
    drop(second);
}

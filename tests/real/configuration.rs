//! Settings, the start and the end of d2k, and the manifest in `deploy/` on the cluster itself.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{World, admin_kubeconfig, command, eventually, free_port, http_get, run};

#[d2k_suite::test]
fn no_cluster_in_reach_is_one_clear_line_that_names_what_was_tried() {
    let file = std::env::temp_dir().join(format!("d2k-unreachable-{}", std::process::id()));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let mut d2k = command();
    d2k.arg("serve")
        .env("D2K_KUBECONFIG", &file)
        .env("D2K_PORT", free_port().to_string())
        .env("D2K_ADMIN_PORT", "0");
    let output = run(d2k, "d2k serve", b"", Duration::from_secs(30));
    std::fs::remove_file(file).unwrap();
    assert_ne!(output.status, 0, "{output}");
    assert!(output.both().contains("127.0.0.1:1"), "{output}");
}

#[d2k_suite::test]
fn a_port_in_use_is_told() {
    let Some(world) = World::new() else { return };
    let mut second = world.d2k();
    second.arg("serve").env("D2K_PORT", world.port().to_string());
    let output = run(second, "d2k serve", b"", Duration::from_secs(30));
    assert_ne!(output.status, 0, "{output}");
    assert!(output.both().contains(&world.port().to_string()), "{output}");
}

#[d2k_suite::test]
fn every_setting_is_a_flag_too() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    let mut second = world.d2k();
    second
        .env_remove("D2K_NAMESPACE")
        .args(["serve", "--namespace", world.name(), "--port", &port.to_string()])
        .args(["--log-level", "warn", "--log-format", "json", "--low-port-threshold", "1024"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut second = second.spawn().unwrap();
    let answers = || http_get(("127.0.0.1", port), "/_ping").is_some_and(|reply| reply.status == 200);
    eventually("it answers on the port of the flag", answers);
    let _ = second.kill();
    let _ = second.wait();
}

#[d2k_suite::test]
fn the_log_is_json_where_asked_for_and_keeps_to_its_level() {
    let Some(world) = World::with(&[("D2K_LOG_FORMAT", "json"), ("D2K_LOG_LEVEL", "info")]) else {
        return;
    };
    world.docker("run --rm -e SECRET=hidden-value busybox true").success();
    let log = world.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    assert!(lines.iter().all(|line| line["level"] != "DEBUG"), "{log}");
    assert!(!log.contains("hidden-value"), "a value of the environment is in the log");
}

#[d2k_suite::test]
fn the_log_tells_whether_there_are_metrics() {
    let Some(world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else {
        return;
    };
    assert!(world.log().to_lowercase().contains("metrics"), "{}", world.log());
}

#[d2k_suite::test]
fn health_readiness_and_metrics_are_on_the_admin_port() {
    let port = free_port();
    let Some(world) = World::with(&[("D2K_ADMIN_PORT", &port.to_string())]) else {
        return;
    };
    world.docker("ps").success();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http_get(("127.0.0.1", port), path).unwrap().status, 200, "{path}");
    }
    let metrics = http_get(("127.0.0.1", port), "/metrics").unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("d2k_"), "{}", metrics.text());
}

#[d2k_suite::test]
fn outside_a_cluster_it_listens_on_loopback_only() {
    let Some(world) = World::new() else { return };
    let other = Command::new("hostname").arg("-I").output().ok();
    let addresses = other.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    for address in addresses.split_whitespace().filter(|a| !a.contains(':')) {
        let stream = std::net::TcpStream::connect((address, world.port()));
        assert!(stream.is_err(), "{address} answers");
    }
}

#[d2k_suite::test]
fn sigterm_and_interrupt_end_open_streams_within_ten_seconds() {
    for signal in ["TERM", "INT"] {
        let Some(mut world) = World::new() else {
            return;
        };
        world.docker("run -d --name web busybox sh -c 'while :; do echo tick; sleep 0.1; done'").success();
        let clients = [
            world.docker_spawn("logs -f web"),
            world.docker_spawn("events"),
            world.docker_spawn("attach --no-stdin web"),
            world.docker_spawn("wait web"),
        ];
        clients[0].wait_for("tick");
        let begin = Instant::now();
        let status = world.daemon().end(signal, Duration::from_secs(12));
        assert!(status.is_some_and(|status| status.success()), "{signal}: {status:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{signal}: {:?}", begin.elapsed());
        for client in clients {
            client.finish();
        }
        // The container is the cluster's, not d2k's.
        assert_eq!(world.object("deployment/web")["status"]["readyReplicas"], 1);
    }
}

#[d2k_suite::test]
fn the_unix_socket_serves_the_same() {
    let socket = std::env::temp_dir().join(format!("d2k-{}.sock", std::process::id()));
    let Some(mut world) = World::with(&[("D2K_SOCKET", socket.to_str().unwrap())]) else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let over = |words: &str| world.sh(format!("DOCKER_HOST=unix://{} docker {words}", socket.display()));
    assert_eq!(over("ps --format '{{.Names}}'").success(), "web");
    assert_eq!(over("exec web echo inside").success(), "inside");
    // What a killed d2k leaves is no hindrance for the next one.
    world.kill_d2k();
    world.restart_d2k();
    let over = |words: &str| world.sh(format!("DOCKER_HOST=unix://{} docker {words}", socket.display()));
    assert_eq!(over("ps --format '{{.Names}}'").success(), "web");
    let _ = std::fs::remove_file(socket);
}

/// A certificate for loopback, or for a client, signed by `issuer`; PEM of it and of its key.
fn certificate(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, client: bool) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let usage = if client {
        rcgen::ExtendedKeyUsagePurpose::ClientAuth
    } else {
        rcgen::ExtendedKeyUsagePurpose::ServerAuth
    };
    params.extended_key_usages = vec![usage];
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

#[d2k_suite::test]
fn tls_lets_in_only_clients_with_a_certificate_and_takes_a_new_certificate_of_its_own() {
    let folder = std::env::temp_dir().join(format!("d2k-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write("ca.pem", &params.clone().self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, key);
    let serve = |(certificate, key): (String, String)| {
        write("server-key.pem", &key);
        write("server-cert.pem", &certificate);
    };
    serve(certificate(&issuer, false));
    let (certificate_pem, key_pem) = certificate(&issuer, true);
    write("cert.pem", &certificate_pem);
    write("key.pem", &key_pem);
    let settings = [
        ("D2K_TLS_CERT", path("server-cert.pem")),
        ("D2K_TLS_KEY", path("server-key.pem")),
        ("D2K_TLS_CA", path("ca.pem")),
    ];
    let Some(kubeconfig) = admin_kubeconfig() else { return };
    let port = free_port();
    let mut daemon = command();
    daemon
        .args(["serve", "--admin-port", "0"])
        .env("D2K_PORT", port.to_string())
        .env("D2K_KUBECONFIG", kubeconfig);
    let mut daemon = daemon.envs(settings).stderr(std::process::Stdio::null()).spawn().unwrap();
    let docker = |words: &str| {
        let host = format!("tcp://127.0.0.1:{port}");
        Command::new("bash").args(["-c", &format!("docker -H {host} {words}")]).output().unwrap()
    };
    let keys = format!(
        "--tlsverify --tlscacert {} --tlscert {} --tlskey {}",
        path("ca.pem"),
        path("cert.pem"),
        path("key.pem")
    );
    eventually("it answers over TLS", || docker(&format!("{keys} version")).status.success());
    let stranger = docker(&format!("--tlsverify --tlscacert {} version", path("ca.pem")));
    assert!(!stranger.status.success(), "a client without a certificate got in");
    assert!(!docker("version").status.success(), "a client without TLS got in");
    serve(certificate(&issuer, false));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(docker(&format!("{keys} version")).status.success());
    let _ = daemon.kill();
    let _ = daemon.wait();
    let _ = std::fs::remove_dir_all(&folder);
}

/// Passes connections on to the API server until it is cut.
struct Proxy {
    port: u16,
    cut: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Proxy {
    fn to(address: String) -> Self {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        use std::sync::atomic::Ordering;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let gone = cut.clone();
        let pass = move |mut from: TcpStream,
                         mut to: TcpStream,
                         gone: std::sync::Arc<std::sync::atomic::AtomicBool>| {
            from.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut buffer = vec![0; 1 << 16];
            while !gone.load(Ordering::Relaxed) {
                match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if gone.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&address) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, gone) = (from.try_clone().unwrap(), to.try_clone().unwrap(), gone.clone());
                    std::thread::spawn(move || pass(from, to, gone));
                }
            }
        });
        Self { port, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, std::sync::atomic::Ordering::Relaxed);
    }
}

#[d2k_suite::test]
fn readiness_ends_with_the_api_server_and_everything_goes_on_when_it_is_back() {
    let admin_port = free_port();
    let Some(mut world) = World::with(&[("D2K_ADMIN_PORT", &admin_port.to_string())]) else { return };
    let file = world.directory().join("kubeconfig");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut kubeconfig: Value = serde_yaml_ng::from_str(&text).unwrap();
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap().trim_start_matches("https://").to_owned();
    let proxy = Proxy::to(server.clone());
    cluster["tls-server-name"] = json!(server.split(':').next().unwrap());
    cluster["server"] = json!(format!("https://127.0.0.1:{}", proxy.port));
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    world.kill_d2k();
    world.restart_d2k();
    let ready = || http_get(("127.0.0.1", admin_port), "/readyz").map_or(0, |reply| reply.status);
    eventually("it is ready", || ready() == 200);
    world.docker("run -d --name web busybox sleep 1000").success();
    let events = world.docker_spawn("events --format '{{.Action}}'");
    let wait = world.docker_spawn("wait web");
    proxy.cut(true);
    eventually("it is not ready without the API server", || ready() == 503);
    assert_eq!(world.docker("ps --format '{{.Names}}'").success(), "web", "what was known is shown");
    let begin = Instant::now();
    assert_ne!(world.docker("run -d busybox true").status, 0);
    assert!(begin.elapsed() < Duration::from_secs(40), "an error, and soon: {:?}", begin.elapsed());
    assert_eq!(http_get(("127.0.0.1", admin_port), "/healthz").map(|reply| reply.status), Some(200));
    proxy.cut(false);
    eventually("it is ready again", || ready() == 200);
    world.docker("kill web").success();
    assert_eq!(wait.finish().success(), "137");
    eventually("the events go on", || events.stdout().contains("die"));
    events.stop();
}

#[d2k_suite::test]
fn without_metrics_stats_are_zeroes_and_no_error() {
    let Some(mut world) = World::on_cluster("its single user has all rights, also to read metrics") else {
        return;
    };
    world.kubectl("delete rolebinding d2k-metrics").success();
    world.kill_d2k();
    world.restart_d2k();
    assert!(
        world.log().contains("no metrics: metrics.k8s.io is not there or not granted"),
        "{}",
        world.log()
    );
    world.docker("run -d --name web busybox sleep 1000").success();
    let stats =
        world.docker("stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' web").success();
    assert!(stats.starts_with("web 0.00% 0B / "), "{stats}");
}

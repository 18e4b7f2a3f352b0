//! Requests to a Service while its Pods are replaced: a new version of a Deployment must not cost a single one. Both clusters of
//! this repository are tested with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::http::get;
use super::process::Output;
use super::world::eventually;

/// Pods without a readiness probe, which count as ready before their program listens, and which end at once when they are told
/// to; and a client in a Pod.
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: IMAGE
        command: [sh, -c, 'mkdir /page && echo Welcome >/page/index.html; trap \"exit 0\" TERM; sleep 0.3; httpd -f -p 80 -h /page & wait']
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: IMAGE
    command:
    - sh
    - -c
    - |
      while [ ! -e /stop ]; do
        answer=$(wget -q -O - http://web 2>&1)
        if [ \"$answer\" = Welcome ]; then echo good; else echo bad: $answer; fi >>/answers
        sleep 0.02
      done
      touch /stopped; exec sleep 10000
";

/// Between two requests of a client: other tests want the processors, too.
const PAUSE: Duration = Duration::from_millis(20);

/// Answers to requests from the machine.
#[derive(Default)]
struct Answers {
    good: AtomicUsize,
    bad: AtomicUsize,
    stop: AtomicBool,
}

impl Answers {
    fn ask(&self, port: u16) {
        while !self.stop.load(Ordering::Relaxed) {
            let count = if answers(port) { &self.good } else { &self.bad };
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
    }
}

fn answers(port: u16) -> bool {
    get(("127.0.0.1", port), "/").is_some_and(|reply| reply.text().contains("Welcome"))
}

/// Updates a Deployment of this image so many times, while a client on the machine and one in a Pod ask its Service.
///
/// # Panics
/// A request has failed.
pub fn no_request_fails(
    image: &str,
    updates: usize,
    apply: impl FnOnce(&str),
    kubectl: impl Fn(&[&str]) -> Output,
) {
    apply(&MANIFEST.replace("IMAGE", image));
    let status = ["rollout", "status", "deployment/web", "--timeout=45s"];
    kubectl(&status).success();
    kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=45s"]).success();
    let port = kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let port = port.success().parse().unwrap();
    let outside = Answers::default();
    eventually("the node port answers", || answers(port));
    // What was asked before the first Pod listened does not count.
    let until = "until wget -q -O - http://web; do :; done; rm -f /answers";
    kubectl(&["exec", "client", "--", "sh", "-c", until]).success();
    std::thread::scope(|scope| {
        scope.spawn(|| outside.ask(port));
        for update in 0..updates {
            kubectl(&["set", "env", "deployment/web", &format!("UPDATE={update}")]).success();
            kubectl(&status).success();
        }
        outside.stop.store(true, Ordering::Relaxed);
    });
    let client = |words: &[&str]| kubectl(&[&["exec", "client", "--"], words].concat());
    client(&["touch", "/stop"]).success();
    eventually("the client has ended", || client(&["test", "-e", "/stopped"]).status == 0);
    let said = client(&["cat", "/answers"]).success();
    let bad: Vec<&str> = said.lines().filter(|line| line.starts_with("bad")).collect();
    let outside = (outside.good.into_inner(), outside.bad.into_inner());
    let good = said.lines().filter(|line| *line == "good").count();
    let inside = (good, bad.len());
    println!("{updates} updates; good and bad answers: {outside:?} on the machine, {inside:?} in a Pod");
    assert_eq!((outside.1, inside.1), (0, 0), "requests failed, in the Pod by: {:?}", bad.first());
    assert!(outside.0 > updates && inside.0 > updates, "hardly anything was asked");
}

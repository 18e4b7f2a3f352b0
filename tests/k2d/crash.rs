//! k2d is killed again and again while it is asked for objects. What it has answered is so, no container is touched or made twice, and
//! Services answer all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use crate::device::{Device, IMAGE, soon};
use crate::support::Running;

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: IMAGE, command: [httpd, -f, -p, '8080', -h, /www]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// Asks a Service without an end, in a container that was run by hand.
const ASK: &str = "while :; do
  if [ \"$(wget -q -O- http://ADDRESS/)\" = 'a page' ]; then echo good; else echo bad; fi
  sleep 0.05
done";

/// Of so many objects that are applied, one is a Pod.
const PODS: usize = 10;

/// Random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed: u64 = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
        println!("seed {seed}");
        Self(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What was answered, of all rounds.
#[derive(Default)]
struct Answered {
    /// ConfigMaps and the round that they are of.
    configs: BTreeMap<String, usize>,
    pods: BTreeSet<String>,
    /// Pods that were applied, whether that was answered or not.
    asked: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// All answers, and rounds in which some objects were answered and others were not.
    count: usize,
    cut: usize,
}

impl Answered {
    /// Notes the lines that `kubectl` has printed, one for each answer.
    fn note(&mut self, round: usize, said: &str) {
        for line in said.lines() {
            let name = line.split(['/', ' ']).nth(1).unwrap_or_default().trim_matches('"').to_owned();
            if line.starts_with("configmap/") {
                self.configs.insert(name, round);
            } else if line.starts_with("pod/") {
                self.pods.insert(name);
            } else if line.contains("force deleted") {
                self.pods.remove(&name);
                self.asked.remove(&name);
                self.removed.insert(name);
            }
        }
    }
}

fn manifest(round: usize, applies: usize) -> String {
    let one = |number: usize| match number % PODS {
        0 => format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{round}-{number}}}\nspec: {{terminationGracePeriodSeconds: 0, \
             containers: [{{name: main, image: {IMAGE}, command: [sleep, '600']}}]}}\n"
        ),
        _ => format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-{number}}}\ndata: {{round: 'r{round}'}}\n"
        ),
    };
    (0..applies).map(one).collect()
}

fn kubectl(device: &Device, words: &[&str]) -> Running {
    let mut command = Command::new("kubectl");
    command.env("KUBECONFIG", device.data.join("kubeconfig")).args(words);
    Running::spawn(command, &format!("kubectl {}", words.join(" ")))
}

/// Applies objects, deletes the Pods of the rounds before, and kills k2d in the middle of that.
fn round(device: &mut Device, round: usize, applies: usize, random: &mut Random, all: &mut Answered) {
    let file = device.data.with_extension("yaml");
    std::fs::write(&file, manifest(round, applies)).unwrap();
    let old: Vec<String> = all.asked.iter().cloned().collect();
    all.asked.extend((0..applies).step_by(PODS).map(|number| format!("pod-{round}-{number}")));
    let mut load = vec![kubectl(device, &["apply", "-f", file.to_str().unwrap()])];
    if !old.is_empty() {
        let mut words =
            vec!["delete", "pod", "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"];
        words.extend(old.iter().map(String::as_str));
        load.push(kubectl(device, &words));
    }
    // `kubectl` reads all of the manifests before it asks for the first one, and then asks 25 to 100 times a second.
    let applies = u64::try_from(applies).unwrap();
    std::thread::sleep(Duration::from_millis(15 * applies + random.below(45 * applies)));
    device.kill();
    for running in load {
        let said = running.finish();
        all.count += said.stdout.lines().count();
        all.cut += usize::from(!said.stdout.is_empty() && said.status != 0);
        all.note(round, &said.stdout);
    }
    std::fs::remove_file(file).unwrap();
}

fn objects(device: &Device, kind: &str) -> BTreeMap<String, Value> {
    let list: Value =
        serde_json::from_str(&device.kubectl(&format!("get {kind} -o json")).success()).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object.clone())).collect()
}

/// UID of the Pod and name of each container of a Pod.
fn of_pods(device: &Device) -> Vec<String> {
    let format = "{{.Label \"k2d.io/uid\"}} {{.Label \"k2d.io/container\"}}";
    device.docker_with(&["ps", "-a", "--filter", "label=k2d.io/container", "--format", format]).lines()
}

fn check(device: &Device, all: &Answered) {
    let configs = objects(device, "configmaps");
    for (name, round) in &all.configs {
        let found =
            configs.get(name).unwrap_or_else(|| panic!("{name} of round {round} was answered and is lost"));
        let written: usize = found["data"]["round"].as_str().unwrap()[1..].parse().unwrap();
        // One that was written and not answered may be there, too.
        assert!(written >= *round, "{name} is of round {written} and was answered in round {round}");
    }
    let pods = objects(device, "pods");
    for name in &all.pods {
        assert!(pods.contains_key(name), "{name} was answered and is lost");
    }
    for name in &all.removed {
        assert!(!pods.contains_key(name), "{name} was deleted and is back");
    }
    soon("each Pod has its containers, once", || {
        let pods = objects(device, "pods");
        let mut wanted: Vec<String> = pods
            .values()
            .filter(|pod| pod["metadata"]["name"] != "asker")
            .map(|pod| format!("{} main", pod["metadata"]["uid"].as_str().unwrap()))
            .collect();
        let mut found = of_pods(device);
        wanted.sort();
        found.sort();
        wanted == found
    });
    let ready = || device.kubectl("wait --for=condition=Ready pods --all --timeout=30s").status == 0;
    soon("all Pods run", ready);
}

/// When the Service was asked, in milliseconds, and whether it has answered well.
fn answers(device: &Device) -> Vec<(i64, bool)> {
    let said = device.docker("logs -t asker").success();
    let lines = said.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(time, word)| (time.parse::<Timestamp>().unwrap().as_millisecond(), word == "good")).collect()
}

fn kill(rounds: usize, applies: usize) {
    let Some(mut device) = Device::start() else { return };
    device.apply(&APP.replace("IMAGE", IMAGE)).success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    let ask = ASK.replace("ADDRESS", &device.field("service/web", ".spec.clusterIP"));
    device
        .docker_with(&["run", "-d", "--name", "asker", "--network", "k2d", IMAGE, "sh", "-c", &ask])
        .success();
    soon("the Service answers", || device.docker("logs asker").stdout.contains("good"));
    let begun = answers(&device).len();
    let before = device.containers_of("web");
    let (mut random, mut all) = (Random::new(), Answered::default());
    for number in 0..rounds {
        round(&mut device, number, applies, &mut random, &mut all);
        device.begin();
        check(&device, &all);
        assert_eq!(device.containers_of("web"), before, "round {number}");
    }
    let asked = answers(&device).len();
    soon("the Service is still asked", || answers(&device).len() > asked);
    let said = answers(&device).split_off(begun);
    let bad = said.iter().filter(|(_, good)| !good).count();
    let longest = said.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    println!(
        "{rounds} rounds, {} answers, {} commands cut off in the middle; the Service: {} answers, {bad} bad, {longest} ms at most",
        all.count,
        all.cut,
        said.len()
    );
    assert_eq!(bad, 0, "the Service has not answered");
    assert!(longest < 5_000, "the Service has answered after {longest} ms");
    assert!(said.len() > rounds && all.count > rounds && all.cut > 0, "hardly anything was asked");
    device.docker("rm -f asker").success();
    let log = device.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[d2k_suite::test]
fn nothing_that_was_answered_is_lost_when_k2d_is_killed() {
    kill(10, 20);
}

/// Takes a quarter of an hour.
#[d2k_suite::test(ignored)]
fn nothing_that_was_answered_is_lost_when_k2d_is_killed_a_hundred_times() {
    kill(100, 200);
}

//! Bad input: manifests of all kinds, changed at random, are sent in every way that there is to a cluster with its controllers and
//! a kubelet over an engine that runs nothing. Each answer is one of Kubernetes, nothing panics, and the cluster works afterwards.
//! The numbers are those of a generator with a seed, so that a failure comes back.

mod manifests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::testing::{Answer, Server};
use crate::controllers::storage::Folders;
use crate::controllers::{self, testing};
use crate::identities::Identities;
use crate::kinds::{self, KINDS, Kind};
use crate::kubelet::testing::Idle;
use crate::kubelet::{self, Kubelet};
use crate::meta;
use crate::schema;
use crate::tokens::testing::key;
use crate::verbs::{Api, Target};
use manifests::manifest;

/// Bodies that one cluster is sent, and clusters of the long test.
const BODIES: u32 = 2_000;
const CLUSTERS: u64 = 50;
/// Pods that the Node takes.
const PLACES: usize = 20;
/// Beginnings of the messages with which Kubernetes itself answers 500 to a request that is wrong.
const INTERNAL: [&str; 7] = [
    "resourceVersion should not be set on objects to be created",
    "strconv.ParseUint: parsing",
    "failed to create typed patch object",
    "map: ",
    "unknown patch type: ",
    "no kind ",
    "target.name: Required value",
];
const JSON: &str = "application/json";
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// A value that may be none of what is expected.
fn odd(random: &mut Random) -> Value {
    let nested = |depth: usize, key: Option<&str>| {
        (0..depth).fold(json!(null), |inner, _| key.map_or(json!([inner]), |key| json!({key: inner})))
    };
    match random.below(24) {
        0 => Value::Null,
        1 => random.one_in(2).into(),
        2 => (-1).into(),
        3 => 0.into(),
        4 => 2_000_000_000.into(),
        5 => i64::MAX.into(),
        6 => i64::MIN.into(),
        7 => u64::MAX.into(),
        8 => 1.5e300.into(),
        9 => "".into(),
        10 => "a".repeat(253).into(),
        11 => "a".repeat(254).into(),
        12 => "grün \u{1f980}\u{0}\u{202e}".into(),
        13 => json!([]),
        14 => json!({}),
        15 => json!([null, {}, "", 0]),
        16 => nested(60, None),
        17 => nested(60, Some("spec")),
        18 => nested(200, None),
        19 => random
            .pick(&["-1", "99999999999999999999%", "9223372036854775807%", "1e99", "-0.0001n", "10E", "3m"])
            .into(),
        20 => random
            .pick(&["Always", "Never", "None", "Local", "Delete", "Retain", "Recreate", "OnDelete", "IPv6"])
            .into(),
        21 => random
            .pick(&["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0-2000000000", "../../x", "a.b.c/d"])
            .into(),
        22 => json!({"$patch": random.pick(&["delete", "replace", "merge", "x"]), "name": "c"}),
        _ => json!({"name": "c", "image": "i"}),
    }
}

/// Another value of the same type, which is more often accepted.
fn similar(value: &Value, random: &mut Random) -> Value {
    let fits = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(value);
    (0..40).map(|_| odd(random)).find(fits).unwrap_or_default()
}

/// The pointers of all that is in a value.
fn pointers(value: &Value, here: String, all: &mut Vec<String>) {
    let step = |key: &str| format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, step(key), all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| pointers(item, step(&at.to_string()), all));
        }
        _ => {}
    }
    all.push(here);
}

fn somewhere(value: &Value, random: &mut Random) -> String {
    let mut all = Vec::new();
    pointers(value, String::new(), &mut all);
    all.swap_remove(random.below(all.len()))
}

/// Changes an object at one place.
fn change(object: &mut Value, random: &mut Random) {
    let (place, other) = (somewhere(object, random), somewhere(object, random));
    let taken = object.pointer(&other).cloned().unwrap_or_default();
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    let key = key.replace("~1", "/").replace("~0", "~");
    match (random.below(8), object.pointer_mut(parent)) {
        (0, Some(Value::Object(map))) => drop(map.remove(&key)),
        (0, Some(Value::Array(items))) => drop(items.pop()),
        (1, Some(Value::Object(map))) => {
            let value = map.remove(&key).unwrap_or_default();
            map.insert(odd(random).as_str().unwrap_or("x").to_owned(), value);
        }
        (2, Some(Value::Array(items))) => items.extend(items.clone()),
        (3, _) => drop(object.pointer_mut(&place).map(|slot| *slot = taken)),
        (4..7, _) => drop(object.pointer_mut(&place).map(|slot| *slot = similar(slot, random))),
        _ => drop(object.pointer_mut(&place).map(|slot| *slot = odd(random))),
    }
}

/// A request.
struct Sent {
    method: &'static str,
    uri: String,
    media: &'static str,
    body: Vec<u8>,
}

fn collection(kind: &Kind) -> String {
    let prefix = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("{prefix}/{}{namespace}/{}", kind.version, kind.plural)
}

/// The name of an object that is there, or may be.
fn name(api: &Api, kind: &Kind, random: &mut Random) -> String {
    let namespace = if kind.namespaced { "default" } else { "" };
    let there = api.list(kind, namespace).items;
    let there = there.iter().map(|object| meta::name(object)).filter(|name| *name != "node");
    let mut there: Vec<String> = there.map(str::to_owned).collect();
    there.push("a".to_owned());
    there.push(odd(random).as_str().unwrap_or("-").to_owned());
    let name = there.swap_remove(random.below(there.len()));
    // Without a name a delete is one of all: the Node of the test has to stay.
    if kind.name == "Node" && name.is_empty() { "-".to_owned() } else { name }
}

fn parameters(random: &mut Random) -> String {
    let mut all = vec!["fieldManager=m"];
    for parameter in [
        "dryRun=All",
        "fieldValidation=Strict",
        "fieldValidation=Ignore",
        "force=true",
        "dryRun=x",
        "%00=%ff",
    ] {
        if random.one_in(12) {
            all.push(parameter);
        }
    }
    all.join("&")
}

/// The steps of a JSON patch of an object.
fn steps(object: &Value, random: &mut Random) -> Value {
    let step = |random: &mut Random| {
        let mut step = json!({
            "op": random.pick(&["add", "remove", "replace", "move", "copy", "test", "x"]),
            "path": somewhere(object, random), "from": somewhere(object, random), "value": odd(random),
        });
        if random.one_in(8) {
            change(&mut step, random);
        }
        step
    };
    (0..random.below(5)).map(|_| step(random)).collect()
}

/// A patch of a kind of object, which is one with few fields.
fn patch(object: &Value, media: &str, random: &mut Random) -> Value {
    if media == PATCHES[0] {
        return steps(object, random);
    }
    let mut patch = object.clone();
    if random.one_in(2) {
        let kept = random.pick(&["spec", "metadata", "status", "data"]);
        let part = patch.get(kept).cloned().unwrap_or_default();
        let mut map = Map::from_iter([(kept.to_owned(), part)]);
        for directive in ["$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"]
        {
            if random.one_in(20) {
                map.insert(directive.to_owned(), odd(random));
            }
        }
        patch = Value::Object(map);
    }
    patch
}

/// Text that is almost what was meant.
fn garble(text: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next().to_le_bytes()[0]),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(1 << 20);
    }
    bytes
}

/// The next request.
fn request(api: &Api, random: &mut Random) -> Sent {
    let kind = random.pick(KINDS);
    let mut object = manifest(kind);
    let name = name(api, kind, random);
    let one = format!("{}/{}", collection(kind), utf8_percent_encode(&name, NON_ALPHANUMERIC));
    let parameters = parameters(random);
    match random.below(3) {
        0 => meta::set(&mut object, "name", name),
        1 => meta::set(&mut object, "name", format!("n{}", random.below(100))),
        _ => {}
    }
    (0..random.below(4)).for_each(|_| change(&mut object, random));
    let subresource =
        random.pick(&["status", "scale", "resize", "ephemeralcontainers", "finalize", "eviction", "binding"]);
    let patched = random.pick(&PATCHES);
    let text = object.to_string();
    let (method, uri, media, body) = match random.below(16) {
        0..=5 => ("POST", collection(kind), JSON, text.into_bytes()),
        6 | 7 => ("PUT", one, JSON, text.into_bytes()),
        8..=10 => ("PATCH", one, patched, patch(&object, patched, random).to_string().into_bytes()),
        11 => ("PUT", format!("{one}/{subresource}"), JSON, text.into_bytes()),
        12 if random.one_in(2) => ("POST", format!("{one}/{subresource}"), JSON, text.into_bytes()),
        12 | 13 => {
            let body = patch(&object, patched, random).to_string();
            ("PATCH", format!("{one}/{subresource}"), patched, body.into_bytes())
        }
        14 => {
            let media = random.pick(&[
                JSON,
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
                "text/plain",
                "",
            ]);
            let mut body = garble(&text, random);
            if media.ends_with("protobuf") {
                body.splice(0..0, *b"k8s\0");
            }
            ("POST", collection(kind), media, body)
        }
        _ => {
            let mut options = json!({
                "gracePeriodSeconds": 1, "propagationPolicy": random.pick(&["Orphan", "Foreground", "Background"]),
                "preconditions": {"uid": "x"},
            });
            (0..=random.below(3)).for_each(|_| change(&mut options, random));
            ("DELETE", one, JSON, options.to_string().into_bytes())
        }
    };
    Sent { method, uri: format!("{uri}?{parameters}"), media, body }
}

/// An answer is what was asked for, or says in Kubernetes' form what is wrong.
fn check(sent: &Sent, answer: &Answer, counts: &mut BTreeMap<u16, u32>) {
    *counts.entry(answer.code).or_default() += 1;
    if answer.code < 300 {
        return;
    }
    let status = answer.value();
    let text = |field: &str| meta::string(&status, &[field]).to_owned();
    let (message, reason) = (text("message"), text("reason"));
    let shown = || {
        format!(
            "{} {} {}\n{}\n{}",
            sent.method,
            sent.uri,
            sent.media,
            String::from_utf8_lossy(&sent.body),
            answer.text
        )
    };
    assert_eq!((text("kind").as_str(), &status["code"]), ("Status", &json!(answer.code)), "{}", shown());
    assert!(!message.is_empty() && (400..=500).contains(&answer.code), "{}", shown());
    if answer.code < 500 {
        return assert!(!reason.is_empty(), "{}", shown());
    }
    // A body of a delete that is none is one, too.
    let kubernetes = INTERNAL.iter().any(|known| message.starts_with(known)) || sent.method == "DELETE";
    assert!(kubernetes && reason.is_empty(), "{}", shown());
}

/// A cluster over an engine that runs nothing.
struct Cluster {
    api: Arc<Api>,
    server: Server,
    folder: PathBuf,
    stopping: CancellationToken,
}

impl Cluster {
    fn start(seed: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("d2k-bad-input-{seed}-{}", std::process::id()));
        let mut context = testing::context();
        context.storage = Arc::new(Folders(folder.join("volumes")));
        let (api, stopping) = (context.api.clone(), CancellationToken::new());
        let options = kubelet::Options {
            node: context.node.clone(),
            address: context.address,
            folder: folder.join("pods"),
            dns: Ipv4Addr::LOCALHOST.into(),
            domain: "cluster.local".to_owned(),
            variables: Vec::new(),
        };
        let identities = Arc::new(Identities::new(api.clone(), key(), "token".to_owned()));
        let engine = Arc::new(Idle::default());
        let kubelet = Kubelet::new(api.clone(), engine, options, identities, stopping.clone());
        kubelet.register();
        let few = |node: &mut Value| node["status"]["allocatable"]["pods"] = PLACES.to_string().into();
        api.modify(&Target::own(&kinds::NODE, "", "node").of("status"), few).unwrap();
        controllers::start(&context, &stopping);
        tokio::spawn(kubelet.run());
        Self { server: Server::new(api.clone()), api, folder, stopping }
    }

    /// Every object is one of its kind, and can be listed in each form.
    async fn check_lists(&self) {
        for kind in KINDS {
            let all = self.server.send("GET", &collection(kind), "", "").await;
            assert_eq!(all.code, 200, "{}", all.text);
            for item in meta::items(&all.value(), &["items"]) {
                let (typed, unknown) = schema::conform(kind, item.clone()).expect(kind.name);
                assert!(typed.is_object() && unknown.is_empty(), "{}: {unknown:?}: {item}", kind.name);
            }
            let objects = self.api.list(kind, "").items;
            let objects: Vec<&Value> = objects.iter().map(|object| &**object).collect();
            let table = crate::table::of(kind, &objects, "1", true, crate::table::Include::Object);
            assert_eq!(meta::items(&table, &["rows"]).len(), objects.len(), "{}", kind.name);
        }
    }

    /// Removes all that makes Pods, and then runs one.
    async fn check_works(&self) {
        let makers = ["CronJob", "Job", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Pod"];
        for _ in 0..100 {
            let mut left = 0;
            for kind in KINDS.iter().filter(|kind| makers.contains(&kind.name)) {
                for object in self.api.list(kind, "").items {
                    left += 1;
                    let target = Target::own(kind, meta::namespace(&object), meta::name(&object));
                    let _ = self.api.modify(&target, |object| meta::unset(object, "finalizers"));
                    let now =
                        crate::verbs::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
                    let _ = self.api.delete(&target, &now);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if left == 0 {
                break;
            }
        }
        let pods = self.api.list(&kinds::POD, "").items;
        assert!(pods.is_empty(), "{} Pods are left, the first is {}", pods.len(), pods[0]);
        // A namespace of its own: somebody may have spoilt what the other one has for Pods.
        let space = json!({"metadata": {"name": "sane"}});
        assert_eq!(self.server.make(&collection(&kinds::NAMESPACE), &space).await.code, 201);
        let object = json!({"metadata": {"name": "sane"}, "spec": {
            "selector": {"matchLabels": {"sane": "yes"}},
            "template": {
                "metadata": {"labels": {"sane": "yes"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]},
            },
        }});
        let uri = collection(&kinds::DEPLOYMENT).replace("default", "sane");
        let made = self.server.make(&uri, &object).await;
        assert_eq!(made.code, 201, "{}", made.text);
        let available = || {
            let now = self.api.get(&kinds::DEPLOYMENT, "sane", "sane").unwrap();
            meta::number(&now, &["status", "availableReplicas"]) == Some(1)
        };
        for _ in 0..200 {
            if available() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let events = self.api.list(&kinds::EVENT, "sane").items;
        let words: Vec<&str> = events.iter().map(|event| meta::string(event, &["message"])).collect();
        panic!("the cluster does not work any more: {words:#?}");
    }
}

/// What has panicked, in tasks too: of this test's thread, or one of the runtime.
fn watch_panics() -> Arc<Mutex<Vec<String>>> {
    let (all, here) = (Arc::<Mutex<Vec<String>>>::default(), std::thread::current().id());
    let (noted, before) = (all.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread.id() == here || thread.name().is_some_and(|name| name.starts_with("tokio")) {
            noted.lock().push(info.to_string());
        }
        before(info);
    }));
    all
}

async fn send_all(seed: u64, panics: &Mutex<Vec<String>>) {
    let (cluster, count) = (Cluster::start(seed), BODIES);
    let (mut random, mut counts) = (Random(seed), BTreeMap::new());
    for number in 0..count {
        let sent = request(&cluster.api, &mut random);
        let answer = cluster.server.send(sent.method, &sent.uri, sent.media, sent.body.clone()).await;
        check(&sent, &answer, &mut counts);
        // The controllers and the kubelet see what was accepted.
        tokio::task::yield_now().await;
        if number % 500 == 0 {
            cluster.check_lists().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(panics.lock().is_empty(), "{} {}: {:?}", sent.method, sent.uri, panics.lock());
    }
    cluster.check_lists().await;
    cluster.check_works().await;
    cluster.stopping.cancel();
    let _ = std::fs::remove_dir_all(&cluster.folder);
    assert!(panics.lock().is_empty(), "{:?}", panics.lock());
    let part = |codes: std::ops::Range<u16>| counts.range(codes).map(|(_, count)| count).sum::<u32>();
    println!("answers with seed {seed}: {counts:?}");
    assert!(part(200..300) * 10 > count && part(400..500) * 10 > count, "both are tried: {counts:?}");
}

#[tokio::test]
async fn bad_input_is_refused_and_breaks_nothing() {
    send_all(0, &watch_panics()).await;
}

#[tokio::test]
#[ignore = "100,000 bodies take minutes; run it after a change of what reads or checks objects"]
async fn much_bad_input_is_refused_and_breaks_nothing() {
    let panics = watch_panics();
    for seed in 1..=CLUSTERS {
        send_all(seed, &panics).await;
    }
}

#[tokio::test]
async fn every_manifest_that_is_changed_is_a_valid_one() {
    for kind in KINDS {
        let server = Server::new(testing::context().api);
        let made = server.make(&collection(kind), &manifest(kind)).await;
        assert_eq!(made.code, 201, "{}: {}", kind.name, made.text);
    }
}

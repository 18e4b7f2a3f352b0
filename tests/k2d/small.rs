//! A device of 512 MB: an engine, k2d as a container of it and 20 Pods, in one cgroup with that limit. The engine is the test's own,
//! in namespaces of its own, so that nothing of it is left on the machine: it needs `dockerd` and its helpers on the PATH.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::device::{IMAGE, import, program, soon, turn, write_archive};
use crate::install::pack;
use crate::memory_limit::MemoryLimit;
use crate::support::{Output, find, run, suite};

const MEMORY: u64 = 512 << 20;
/// MiB that are left for apps besides these, at least.
const LEFT: u64 = 200;
const DEPLOYMENTS: usize = 10;
const PODS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(120);

/// What an engine needs besides the commands of the system.
const NEEDED: [&str; 5] = ["dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-proxy"];

/// Starts the engine in the folder `$1`, after entering the cgroup by the file `$2`; the rest are its programs. They are copied by a
/// process within the limit, so that their pages count, as on a device where nobody else has read them. The first process of the
/// namespace stays to take leave of those that have no parent any more.
const START: &str = r#"
folder=$1
echo $$ >"$2"
shift 2
mkdir "$folder/bin"
cp "$@" "$folder/bin"
export PATH="$folder/bin:$PATH"
exec unshare --mount --net --pid --fork --kill-child --mount-proc sh -ec '
    ip link set lo up
    # An engine asks the kernel for the memory of the machine: this one is told that of the device.
    mount --bind "$1/meminfo" /proc/meminfo
    dockerd --config-file "$1/daemon.json" &
    wait
' sh "$folder"
"#;

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: IMAGE
        command: [httpd, -f, -p, '8080', -h, /www]
        resources: {requests: {memory: 4Mi}, limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: 8080}]}
---
";

/// An engine with its memory, and what is on it.
struct Small {
    folder: PathBuf,
    process: Child,
    limit: MemoryLimit,
}

impl Small {
    fn start(limit: MemoryLimit) -> Self {
        let folder = std::env::temp_dir().join(format!("k2d-small-{}", std::process::id()));
        fs::create_dir_all(folder.join("k2d")).unwrap();
        fs::write(folder.join("meminfo"), meminfo()).unwrap();
        fs::write(folder.join("daemon.json"), settings(&folder.display().to_string(), &limit)).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-ec", START, "sh"]).arg(&folder).arg(limit.entrance());
        command.args(NEEDED.iter().filter_map(|name| find(name)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let small = Self { process: command.spawn().unwrap(), folder, limit };
        soon("the engine answers", || small.docker("version").status == 0);
        small
    }

    fn docker(&self, words: &str) -> Output {
        self.docker_with(&words.split(' ').collect::<Vec<_>>())
    }

    fn docker_with(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}/docker.sock", self.folder.display())).args(arguments);
        run(command, &format!("docker {}", arguments.join(" ")), b"", DEADLINE)
    }

    /// Runs `kubectl` as on the device.
    fn kubectl(&self, words: &str, input: &str) -> Output {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.process.id()))
            .arg("kubectl")
            .args(words.split(' '));
        command.env("KUBECONFIG", self.folder.join("k2d/kubeconfig"));
        run(command, &format!("kubectl {words}"), input.as_bytes(), DEADLINE)
    }

    /// Loads the images, and runs k2d as its documentation says.
    fn install(&self) {
        let archive = self.folder.join("image.tar");
        write_archive(&archive);
        self.docker_with(&import(archive.to_str().unwrap())).success();
        pack(program(), &archive);
        let loaded = self.docker(&format!("load -i {}", archive.display())).success();
        fs::remove_file(archive).unwrap();
        let (folder, image) = (self.folder.display(), loaded.rsplit(' ').next().unwrap().trim());
        self.docker(&format!(
            "run -d --name k2d --restart always --network host -v {folder}/docker.sock:/var/run/docker.sock \
             -v {folder}/k2d:{folder}/k2d -e K2D_DATA_PATH={folder}/k2d -e K2D_ADVERTISE_ADDR=127.0.0.1 \
             -e K2D_NODE=edge {image}"
        ))
        .success();
        soon("k2d serves", || self.kubectl("get --raw /healthz", "").stdout == "ok");
    }

    /// Memory by program, in a table.
    fn by_program(&self) -> String {
        let mut programs: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
        for process in self.limit.processes() {
            // It may have ended.
            let Some((name, resident, anonymous)) = memory(process) else { continue };
            let sum = programs.entry(name).or_default();
            *sum = (sum.0 + 1, sum.1 + resident, sum.2 + anonymous);
        }
        let mut table = "| program | processes | VmRSS, kB | RssAnon, kB |\n|---|---|---|---|\n".to_owned();
        for (name, (count, resident, anonymous)) in programs {
            table.push_str(&format!("| {name} | {count} | {resident} | {anonymous} |\n"));
        }
        table
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the engine\n{}",
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            eprintln!("--- log of k2d\n{}", self.docker("logs k2d").both());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.limit.wait_until_empty();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// This machine's, with the memory of the device.
fn meminfo() -> String {
    let of_machine = fs::read_to_string("/proc/meminfo").unwrap();
    let line = |line: &str| match line.split_once(':') {
        Some(("MemTotal", _)) => format!("MemTotal: {} kB\n", MEMORY / 1024),
        Some(("SwapTotal" | "SwapFree", _)) => String::new(),
        _ => format!("{line}\n"),
    };
    of_machine.lines().map(line).collect()
}

/// Without seccomp, which not every `runc` is built with.
fn settings(folder: &str, limit: &MemoryLimit) -> String {
    serde_json::json!({
        "data-root": format!("{folder}/data"), "exec-root": format!("{folder}/exec"), "pidfile": format!("{folder}/pid"),
        "hosts": [format!("unix://{folder}/docker.sock")], "iptables": false, "ip6tables": false,
        "cgroup-parent": limit.parent(), "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "seccomp-profile": "unconfined", "userland-proxy-path": format!("{folder}/bin/docker-proxy"),
    })
    .to_string()
}

/// What a process is, its resident memory and that part of it which no file has, in kB.
fn memory(process: u32) -> Option<(String, u64, u64)> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let (status, line) = (read("status")?, read("cmdline")?);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
    let number = |name: &str| field(name).trim().trim_end_matches(" kB").parse().ok();
    let mut words = line.split('\0');
    let mut name = words.next()?.rsplit('/').next()?.to_owned();
    if name == "k2d" {
        name = format!("{name} {}", words.next()?);
    }
    Some((name, number("VmRSS:")?, number("RssAnon:")?))
}

#[d2k_suite::test(ignored)]
fn an_engine_with_k2d_and_twenty_pods_runs_in_512_mb() {
    if let Some(missing) = NEEDED.iter().find(|name| find(name).is_none()) {
        return suite::note_skip(&format!("no {missing} on the PATH"));
    }
    let _turn = turn();
    let limit = match MemoryLimit::create(&format!("k2d-small-{}", std::process::id()), MEMORY) {
        Ok(limit) => limit,
        Err(error) => return suite::note_skip(&format!("no cgroup can be made: {error}")),
    };
    let small = Small::start(limit);
    small.install();
    let apps: String =
        (0..DEPLOYMENTS).map(|n| APP.replace("NAME", &format!("app-{n}")).replace("IMAGE", IMAGE)).collect();
    small.kubectl("apply -f -", &apps).success();
    for n in 0..DEPLOYMENTS {
        small.kubectl(&format!("rollout status deployment/app-{n} --timeout=90s"), "").success();
    }
    let pods = small.kubectl("get pods --field-selector status.phase=Running -o name", "").lines();
    assert_eq!(pods.len(), PODS);
    let page = "exec deployment/app-0 -- wget -q -O- http://app-9.default.svc.cluster.local/";
    soon("a Service answers", || small.kubectl(page, "").stdout == "a page\n");

    let shown = small.kubectl("describe nodes", "").success();
    println!("{shown}\n\n{}", small.by_program());
    let ((now, most), cached) = (small.limit.used(), small.limit.cached());
    let [limit, now, cached, most] = [MEMORY, now, cached, most].map(|bytes| bytes >> 20);
    println!(
        "of {limit} MiB: {now} MiB used, of which {cached} MiB are files that can be read again; at most {most} MiB"
    );
    assert!(limit - (now - cached) > LEFT, "other apps have {} MiB", limit - (now - cached));
    let memory = shown.lines().filter(|line| line.trim().starts_with("memory:")).collect::<Vec<_>>();
    assert!(memory.len() == 2 && memory.iter().all(|line| line.ends_with(" 512Mi")), "{memory:?}");
    assert!(shown.contains("HolderIdentity:  edge\n"), "{shown}");
    assert!(shown.contains(&format!("({PODS} in total)")), "{shown}");

    assert_eq!(small.limit.killed(), 0, "processes were killed for lack of memory");
    let ids = small.docker("ps -aq").lines();
    let states =
        format!("inspect -f {{{{.Name}}}}={{{{.RestartCount}}}}={{{{.State.Status}}}} {}", ids.join(" "));
    let states = small.docker(&states).lines();
    assert!(
        states.len() == PODS + 2 && states.iter().all(|state| state.ends_with("=0=running")),
        "{states:?}"
    );
}

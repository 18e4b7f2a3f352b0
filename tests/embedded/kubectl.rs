//! The commands of `kubectl` on the embedded cluster, whose answers are those of a real one.

use crate::own::Own;
use crate::support::{eventually, http_get};

const TOOL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tool}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'echo begun; touch /mark; exec sleep 10000']}
";

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: nginx, image: nginx, ports: [{name: http, containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080, targetPort: http}]}
";

fn with(manifest: &str, ready: &str) -> Option<Own> {
    let own = Own::start()?;
    own.apply(manifest);
    own.kubectl(format!("wait {ready} --timeout=45s")).success();
    Some(own)
}

#[d2k_suite::test]
fn a_terminal_has_its_size_from_the_first_moment() {
    let Some(own) = with(TOOL, "--for=condition=Ready pod/tool") else { return };
    for variable in ["", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false "] {
        for _ in 0..3 {
            let output = own.in_terminal(&format!("{variable}kubectl exec -it tool -- stty size")).finish();
            assert!(output.stdout.contains("33 101"), "{variable}{output}");
        }
    }
    let mut shell = own.in_terminal("kubectl exec -it tool -- sh");
    shell.write("stty size; tty; exit 5\n");
    let output = shell.finish();
    assert!(output.stdout.contains("/dev/pts/0") && output.status == 5, "{output}");
}

#[d2k_suite::test]
fn a_container_is_put_beside_one_that_runs_and_sees_its_processes() {
    let Some(own) = with(TOOL, "--for=condition=Ready pod/tool") else { return };
    own.kubectl("debug tool --image=busybox --target=main -c look -- sh -c 'ls /proc/1/cwd/mark; exit 3'")
        .success();
    let ended = ".status.ephemeralContainerStatuses[0].state.terminated.exitCode";
    eventually("it has ended", || own.field("pod/tool", ended) == "3");
    assert_eq!(own.kubectl("logs tool -c look").success(), "/proc/1/cwd/mark");
    assert!(own.kubectl("describe pod tool").success().contains("Ephemeral Containers:"));
    assert_eq!(own.field("pod/tool", ".status.phase"), "Running");
    own.kubectl("debug tool --copy-to=copy --set-image=main=busybox:latest").success();
    own.kubectl("wait --for=condition=Ready pod/copy --timeout=45s").success();
}

#[d2k_suite::test]
fn a_pod_whose_image_is_changed_runs_the_other_one() {
    let Some(own) = with(TOOL, "--for=condition=Ready pod/tool") else { return };
    own.kubectl("set image pod/tool main=nosuch:1").success();
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    eventually("the other image is missed", || own.field("pod/tool", waiting) == "ImagePullBackOff");
    own.kubectl("set image pod/tool main=busybox:latest").success();
    eventually("it runs", || own.field("pod/tool", ".status.containerStatuses[0].ready") == "true");
    assert_eq!(own.field("pod/tool", ".status.containerStatuses[0].restartCount"), "1");
    let events = own.kubectl("events --for pod/tool").success();
    for words in ["definition changed, will be restarted", "Back-off pulling image \"nosuch:1\""] {
        assert!(events.contains(words), "{events}");
    }
}

#[d2k_suite::test]
fn logs_and_files_go_both_ways() {
    let Some(own) = with(TOOL, "--for=condition=Ready pod/tool") else { return };
    assert_eq!(own.kubectl("logs tool").success(), "begun");
    assert_eq!(own.kubectl("logs tool --all-containers --prefix").success(), "[pod/tool/main] begun");
    own.kubectl("logs tool --previous").failure(1, &["previous terminated container \"main\""]);
    own.kubectl("logs tool -c other").failure(1, &["container other is not valid for pod tool"]);
    std::fs::create_dir(own.folder().path().join("there")).unwrap();
    std::fs::write(own.folder().path().join("there/file"), "both ways").unwrap();
    own.kubectl("cp there tool:/tmp/there").success();
    own.kubectl("cp tool:/tmp/there back").success();
    assert_eq!(std::fs::read_to_string(own.folder().path().join("back/file")).unwrap(), "both ways");
    assert_eq!(own.kubectl("exec tool -- cat /tmp/there/file").success(), "both ways");
    own.kubectl("exec tool -- sh -c 'exit 7'").failure(7, &["exit code 7"]);
    own.kubectl("exec tool -- nosuch").failure(1, &["executable file not found in $PATH"]);
    let mut attached = own.start_line("kubectl logs -f tool");
    attached.wait_for("begun");
    attached.close_stdin();
    own.kubectl("delete pod tool --wait=false").success();
    assert_eq!(attached.finish().success(), "begun");
}

#[d2k_suite::test]
fn ports_of_pods_and_services_are_forwarded() {
    let Some(own) = with(WEB, "--for=condition=Available deployment/web") else { return };
    for target in ["deployment/web 0:80", "service/web 0:8080", "service/web 0:8080 --address 127.0.0.1"] {
        let forward = own.start_line(&format!("kubectl port-forward {target}"));
        let line = forward.wait_for("Forwarding from 127.0.0.1:");
        let port = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        for _ in 0..3 {
            let page = http_get(("127.0.0.1", port), "/").expect(target).text();
            assert!(page.contains("Welcome to nginx"), "{target}: {page}");
        }
        forward.stop();
    }
}

#[d2k_suite::test]
fn a_rollout_goes_forward_and_back() {
    let Some(own) = with(WEB, "--for=condition=Available deployment/web") else { return };
    let done = || own.kubectl("rollout status deployment/web --timeout=45s").success();
    own.kubectl("set env deployment/web COLOUR=blue").success();
    done();
    assert_eq!(own.kubectl("rollout history deployment/web").lines().len(), 4);
    own.kubectl("rollout undo deployment/web").success();
    done();
    assert_eq!(own.kubectl("set env deployment/web --list").success(), "# Deployment web, container nginx");
    own.kubectl("rollout pause deployment/web").success();
    own.kubectl("rollout pause deployment/web").failure(1, &["already paused"]);
    own.kubectl("rollout resume deployment/web").success();
    own.kubectl("rollout restart deployment/web").success();
    done();
    own.kubectl("scale deployment/web --replicas=1 --current-replicas=2").success();
    eventually("one is left", || own.kubectl("get pods -o name").lines().len() == 1);
}

const STORE: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  replicas: 2
  serviceName: store
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, command: [sleep, '10000'], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {clusterIP: None, selector: {app: store}, ports: [{port: 80}]}
";

#[d2k_suite::test]
fn a_stateful_set_keeps_the_names_and_the_files_of_its_pods() {
    let Some(own) = with(STORE, "--for=jsonpath={.status.availableReplicas}=2 statefulset/store") else {
        return;
    };
    own.kubectl("exec store-1 -- sh -c 'hostname >/data/name'").success();
    let answer = own.kubectl("exec store-0 -- sh -c 'nslookup store-1.$(hostname -d)'").success();
    assert!(answer.contains("Name:"), "{answer}");
    own.kubectl("set env statefulset/store COLOUR=blue").success();
    own.kubectl("rollout status statefulset/store --timeout=45s").success();
    assert_eq!(own.kubectl("exec store-1 -- cat /data/name").success(), "store-1");
    assert_eq!(own.kubectl("rollout history statefulset/store").lines().len(), 4);
    own.kubectl("rollout undo statefulset/store").success();
    own.kubectl("rollout status statefulset/store --timeout=45s").success();
    let said = own.kubectl("set env statefulset/store --list").success();
    assert_eq!(said, "# StatefulSet store, container main");
    own.kubectl("scale statefulset/store --replicas=1").success();
    eventually("the highest ends", || own.kubectl("get pods -o name").stdout.trim() == "pod/store-0");
    own.kubectl("delete statefulset store").success();
    assert_eq!(own.kubectl("get pvc -o name").lines().len(), 2);
}

const AGENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, command: [sleep, '10000']}
";

#[d2k_suite::test]
fn a_daemon_set_has_one_pod_also_on_a_node_that_takes_no_others() {
    let Some(own) = with(AGENT, "--for=jsonpath={.status.numberAvailable}=1 daemonset/agent") else { return };
    own.kubectl("cordon d2k").success();
    own.kubectl("rollout restart daemonset/agent").success();
    own.kubectl("rollout status daemonset/agent --timeout=45s").success();
    assert_eq!(own.kubectl("rollout history daemonset/agent").lines().len(), 4);
    own.kubectl("uncordon d2k").success();
    own.kubectl("label node d2k place=here").success();
    let elsewhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"place":"elsewhere"}}}}}"#;
    own.kubectl(format!("patch daemonset agent -p '{elsewhere}'")).success();
    eventually("none is left", || own.kubectl("get pods -o name").stdout.trim().is_empty());
    own.kubectl("rollout undo daemonset/agent").success();
    own.kubectl("rollout status daemonset/agent --timeout=45s").success();
    eventually("one is back", || own.kubectl("get pods -o name").lines().len() == 1);
}

const TICK: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '@every 2s'
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - {name: main, image: busybox, command: [echo, ticked]}
";

#[d2k_suite::test]
fn a_cron_job_makes_jobs_and_keeps_the_last_one() {
    let Some(own) = with(TICK, "--for=jsonpath={.status.lastSuccessfulTime} cronjob/tick") else { return };
    own.kubectl("patch cronjob tick -p '{\"spec\":{\"suspend\":true}}'").success();
    eventually("none runs", || own.field("cronjob/tick", ".status.active").is_empty());
    eventually("one is kept", || own.kubectl("get jobs -o name").lines().len() == 1);
    own.kubectl("create job --from=cronjob/tick by-hand").success();
    own.kubectl("wait --for=condition=Complete job/by-hand --timeout=45s").success();
    assert_eq!(own.kubectl("logs job/by-hand").success(), "ticked");
    own.kubectl("delete cronjob tick").success();
    eventually("its Jobs go with it", || own.kubectl("get jobs -o name").stdout.trim().is_empty());
}

#[d2k_suite::test]
fn objects_are_changed_in_every_way() {
    let Some(own) = with(WEB, "--for=condition=Available deployment/web") else { return };
    let replicas = || own.field("deployment/web", ".spec.replicas");
    own.kubectl("patch deployment web -p '{\"spec\":{\"replicas\":3}}'").success();
    own.kubectl("patch deployment web --type=merge -p '{\"metadata\":{\"labels\":{\"m\":\"1\"}}}'").success();
    own.kubectl(
        "patch deployment web --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/labels/m\"}]'",
    )
    .success();
    assert_eq!(replicas(), "3");
    own.kubectl("patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":1}}'")
        .success();
    assert_eq!(replicas(), "1");
    let edit =
        own.start_line("env KUBE_EDITOR='sed -i s/replicas:.1/replicas:\\ 2/' kubectl edit deployment web");
    edit.finish().success();
    assert_eq!(replicas(), "2");
    let same = own.start_line("env KUBE_EDITOR=true kubectl edit deployment web").finish();
    assert!(same.success().is_empty());
    own.kubectl("diff -f manifest.yaml").success();
    own.kubectl("label deployment web tier=front").success();
    own.kubectl("label deployment web tier=back").failure(1, &["--overwrite is false"]);
    own.kubectl("annotate deployment web note=kept --overwrite").success();
    own.kubectl("delete deployment web --cascade=orphan").success();
    assert_eq!(own.kubectl("get replicasets -o name").lines().len(), 1);
    own.kubectl("delete replicasets --all --cascade=foreground").success();
    eventually("all Pods are gone", || own.kubectl("get pods -o name").success().is_empty());
}

#[d2k_suite::test]
fn a_node_is_drained_and_takes_pods_again() {
    let Some(own) = with(WEB, "--for=condition=Available deployment/web") else { return };
    own.kubectl("drain d2k --timeout=45s").success();
    eventually("its Pods wait", || {
        own.field("pods", ".items[*].status.phase").split(' ').all(|phase| phase == "Pending")
    });
    assert!(own.kubectl("get node d2k").success().contains("Ready,SchedulingDisabled"));
    own.kubectl("uncordon d2k").success();
    own.kubectl("wait --for=condition=Available deployment/web --timeout=45s").success();
    own.kubectl("taint node d2k key=value:NoSchedule").success();
    own.kubectl("scale deployment web --replicas=3").success();
    eventually("one waits for its taint to go", || {
        own.field("deployment/web", ".status.unavailableReplicas") == "1"
    });
    own.kubectl("taint node d2k key-").success();
    own.kubectl("rollout status deployment/web --timeout=45s").success();
}

#[d2k_suite::test]
fn it_tells_what_there_is() {
    let Some(own) = with(WEB, "--for=condition=Available deployment/web") else { return };
    for (words, told) in [
        ("describe node d2k", "ephemeral-storage"),
        ("describe deployment web", "ScalingReplicaSet"),
        ("describe service web", "TargetPort:               http/TCP"),
        ("get pods -o wide", "d2k"),
        ("get all -A", "deployment.apps/web"),
        ("get pods -o custom-columns=NAME:.metadata.name,ON:.spec.nodeName", "d2k"),
        ("explain deployment.spec --recursive", "revisionHistoryLimit"),
        ("api-resources", "persistentvolumeclaims"),
        ("api-versions", "apps/v1"),
        ("auth whoami", "system:masters"),
        ("auth can-i create pods", "yes"),
        ("version", "v1.34"),
        ("cluster-info", "Kubernetes control plane is running at"),
        ("top node", "d2k"),
    ] {
        let said = own.kubectl(words).success();
        assert!(said.contains(told), "{words}: {said}");
    }
    eventually("top knows the Pods", || own.kubectl("top pods").stdout.contains("Mi"));
    own.kubectl("create quota small --hard=pods=3").failure(1, &["could not find the requested resource"]);
    own.kubectl("get nonsense").failure(1, &["the server doesn't have a resource type \"nonsense\""]);
}

#[d2k_suite::test]
fn a_field_that_has_no_effect_is_told_and_the_rest_is_done() {
    let Some(own) = Own::start() else { return };
    let file = own.folder().path().join("quiet.yaml");
    let manifest = WEB.replace("replicas: 2", "replicas: 0").replace(
        "terminationGracePeriodSeconds: 1",
        "hostPID: true\n      securityContext: {seccompProfile: {type: RuntimeDefault}}",
    );
    std::fs::write(&file, manifest).unwrap();
    let words = [
        "Warning: spec.template.spec.hostPID: this cluster gives each Pod namespaces of its own",
        "Warning: spec.template.spec.securityContext.seccompProfile.type: this cluster runs containers without a seccomp profile",
    ];
    for (options, told) in [
        ("--dry-run=server", true),
        ("", true),
        // Nothing changes, so that Kubernetes does not look at it, and neither does this one.
        ("", false),
        ("--server-side --force-conflicts", false),
        ("--server-side --force-conflicts --dry-run=server", false),
    ] {
        let output = own.kubectl(format!("apply {options} -f {}", file.display()));
        assert_eq!(output.status, 0, "{output}");
        for words in words {
            assert_eq!(output.stderr.contains(words), told, "{options}: {output}");
        }
    }
    own.kubectl("delete deployment web").success();
    let output = own.kubectl(format!("apply --server-side -f {}", file.display()));
    assert!(output.status == 0 && words.iter().all(|words| output.stderr.contains(words)), "{output}");
}

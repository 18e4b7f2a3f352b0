//! The life of Pods as Kubernetes describes it: what is beside the main containers, probes, hooks,
//! messages and limits of time.

use crate::own::Own;
use crate::support::eventually;

/// A Pod with this spec, in YAML's flow style.
fn pod(own: &Own, name: &str, spec: &str) {
    let head = "apiVersion: v1\nkind: Pod\nmetadata:";
    own.apply(&format!("{head} {{name: {name}, labels: {{app: {name}}}}}\nspec: {{{spec}}}\n"));
}

#[d2k_suite::test]
fn a_sidecar_is_there_before_the_others_and_ends_after_them() {
    let Some(own) = Own::start() else { return };
    let side = "{name: side, image: busybox, restartPolicy: Always, startupProbe: {exec: {command: [cat, /up]}, periodSeconds: 1, timeoutSeconds: 20}, \
                command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; sleep 1; touch /up; while :; do sleep 0.1; done']}";
    let init = "{name: init, image: busybox, command: [echo, begun]}";
    let main = "{name: main, image: busybox, command: [sleep, '4']}";
    pod(
        &own,
        "one",
        &format!("restartPolicy: Never, initContainers: [{side}, {init}], containers: [{main}]"),
    );
    eventually("both run", || own.kubectl("get pod one").success().contains("2/2     Running"));
    own.kubectl("wait --for=jsonpath='{.status.phase}'=Succeeded pod/one --timeout=45s").success();
    assert_eq!(own.kubectl("logs one -c side").success(), "bye");
    assert_eq!(own.field("pod/one", ".status.initContainerStatuses[*].state.terminated.exitCode"), "0 0");
    assert_eq!(own.field("pod/one", ".status.initContainerStatuses[1].ready"), "true");
    assert!(own.kubectl("get pod one").success().contains("0/2     Completed"));
}

#[d2k_suite::test]
fn an_init_container_that_fails_keeps_the_others_from_beginning() {
    let Some(own) = Own::start() else { return };
    let main = "{name: main, image: busybox, command: [echo, never]}";
    let init = "{name: init, image: busybox, command: ['false']}";
    pod(&own, "one", &format!("restartPolicy: Never, initContainers: [{init}], containers: [{main}]"));
    eventually("it has failed", || own.kubectl("get pod one").success().contains("Init:Error"));
    assert_eq!(own.field("pod/one", ".status.phase"), "Failed");
    own.kubectl("logs one").failure(1, &["waiting to start: PodInitializing"]);
}

#[d2k_suite::test]
fn a_container_is_ready_and_alive_as_its_probes_say() {
    let Some(own) = Own::start() else { return };
    let probes = "readinessProbe: {exec: {command: [cat, /ready]}, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 1}, \
                  livenessProbe: {exec: {command: [test, '!', -e, /dead]}, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 1, initialDelaySeconds: 1}";
    let main = format!(
        "{{name: main, image: busybox, command: [sleep, '1000'], ports: [{{containerPort: 80}}], {probes}}}"
    );
    pod(&own, "one", &format!("terminationGracePeriodSeconds: 1, containers: [{main}]"));
    own.kubectl("expose pod one --port=80").success();
    let ready = || {
        own.field(
            "endpointslices -l kubernetes.io/service-name=one",
            ".items[*].endpoints[*].conditions.ready",
        )
    };
    eventually("it is no endpoint that is ready", || ready() == "false");
    eventually("it runs", || own.kubectl("exec one -- touch /ready").status == 0);
    eventually("it is one", || ready() == "true");
    own.kubectl("exec one -- rm /ready").success();
    eventually("it is none again", || ready() == "false");
    own.kubectl("exec one -- touch /dead").success();
    eventually("it was started again", || {
        own.field("pod/one", ".status.containerStatuses[0].restartCount") != "0"
    });
    let events = own.kubectl("events --for pod/one").success();
    for words in [
        "Readiness probe failed: cat: can't open '/ready'",
        "Container main failed liveness probe, will be restarted",
    ] {
        assert!(events.contains(words), "{events}");
    }
}

#[d2k_suite::test]
fn a_container_is_asked_by_http_and_by_tcp() {
    let Some(own) = Own::start() else { return };
    let probes = "startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 30}, \
                  readinessProbe: {httpGet: {path: /, port: http, httpHeaders: [{name: X-Probe, value: here}]}, periodSeconds: 1, timeoutSeconds: 20}, \
                  livenessProbe: {httpGet: {path: /nosuch, port: 80}, periodSeconds: 1, failureThreshold: 3, timeoutSeconds: 20, initialDelaySeconds: 3}";
    let main = format!("{{name: main, image: nginx, ports: [{{name: http, containerPort: 80}}], {probes}}}");
    pod(&own, "one", &format!("terminationGracePeriodSeconds: 1, containers: [{main}]"));
    own.kubectl("wait --for=condition=Ready pod/one --timeout=45s").success();
    eventually("it was started again", || {
        own.field("pod/one", ".status.containerStatuses[0].restartCount") != "0"
    });
    let events = own.kubectl("events --for pod/one").success();
    assert!(events.contains("Liveness probe failed: HTTP probe failed with statuscode: 404"), "{events}");
}

#[d2k_suite::test]
fn hooks_run_at_the_beginning_and_before_the_end() {
    let Some(own) = Own::start() else { return };
    let hooks = "lifecycle: {postStart: {exec: {command: [touch, /begun]}}, preStop: {exec: {command: [sh, -c, 'echo before > /proc/1/fd/1']}}}";
    let script = "trap \"echo asked; exit 0\" TERM; echo runs; while :; do sleep 0.1; done";
    let main = format!("{{name: main, image: busybox, command: [sh, -c, '{script}'], {hooks}}}");
    pod(&own, "one", &format!("containers: [{main}]"));
    own.kubectl("wait --for=condition=Ready pod/one --timeout=45s").success();
    eventually("it has begun", || own.kubectl("exec one -- ls /begun").stdout == "/begun\n");
    let log = own.start_line("kubectl logs -f one");
    log.wait_for("runs");
    own.kubectl("delete pod one").success();
    assert_eq!(log.finish().success(), "runs\nbefore\nasked");
    let fails = "lifecycle: {postStart: {exec: {command: ['false']}}}";
    pod(
        &own,
        "two",
        &format!(
            "terminationGracePeriodSeconds: 1, containers: [{{name: main, image: busybox, command: [sleep, '1000'], {fails}}}]"
        ),
    );
    eventually("it was ended", || own.kubectl("events --for pod/two").stdout.contains("FailedPostStartHook"));
    eventually("it is tried again", || {
        own.field("pod/two", ".status.containerStatuses[0].restartCount") != "0"
    });
}

#[d2k_suite::test]
fn a_container_says_why_it_has_ended() {
    let Some(own) = Own::start() else { return };
    let container = |name: &str, script: &str, more: &str| {
        format!("{{name: {name}, image: busybox, command: [sh, -c, '{script}']{more}}}")
    };
    let all = [
        container("file", "echo words > /dev/termination-log; exit 3", ""),
        container("log", "echo from the log; exit 4", ", terminationMessagePolicy: FallbackToLogsOnError"),
        container("path", "echo elsewhere > /tmp/other", ", terminationMessagePath: /tmp/other"),
    ];
    pod(&own, "one", &format!("restartPolicy: Never, containers: [{}]", all.join(", ")));
    own.kubectl("wait --for=jsonpath='{.status.phase}'=Failed pod/one --timeout=45s").success();
    let messages = own.field("pod/one", ".status.containerStatuses[*].state.terminated.message");
    assert_eq!(messages.split_whitespace().collect::<Vec<_>>().join(" "), "words from the log elsewhere");
}

#[d2k_suite::test]
fn a_pod_lives_no_longer_than_it_may() {
    let Some(own) = Own::start() else { return };
    let main = "{name: main, image: busybox, command: [sh, -c, 'echo hello; exec sleep 1000']}";
    pod(
        &own,
        "one",
        &format!("activeDeadlineSeconds: 2, terminationGracePeriodSeconds: 1, containers: [{main}]"),
    );
    own.kubectl("wait --for=jsonpath='{.status.phase}'=Failed pod/one --timeout=45s").success();
    assert_eq!(own.field("pod/one", ".status.reason"), "DeadlineExceeded");
    assert_eq!(own.kubectl("logs one").success(), "hello");
    own.kubectl("delete pod one --timeout=30s").success();
}

#[d2k_suite::test]
fn a_container_that_multiplies_leaves_the_machine_its_processes() {
    let Some(own) = Own::start() else { return };
    let limit = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    pod(
        &own,
        "one",
        &format!(
            "restartPolicy: Never, containers: [{{name: main, image: busybox, command: [sh, -c, '{limit}']}}]"
        ),
    );
    own.kubectl("wait --for=jsonpath='{.status.phase}'=Succeeded pod/one --timeout=45s").success();
    assert_eq!(own.kubectl("logs one").success(), "8192");
}

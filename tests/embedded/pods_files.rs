//! What a container finds in its files and in its environment, and how that follows the objects that
//! it comes from.

use crate::own::Own;
use crate::support::eventually;

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {one: first, two: second}
---
apiVersion: v1
kind: Secret
metadata: {name: word}
stringData: {password: open}
---
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {colour: blue}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000, runAsUser: 1000}
  hostAliases: [{ip: 192.0.2.1, hostnames: [elsewhere]}]
  dnsConfig: {searches: [my.search], options: [{name: ndots, value: '3'}]}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: one, configMap: {name: settings, items: [{key: one, path: deep/file, mode: 0440}]}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: empty, emptyDir: {}}
  - name: self
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  - name: all
    projected: {sources: [{configMap: {name: settings}}, {secret: {name: word}}]}
  containers:
  - name: a
    image: busybox
    command: [sleep, '10000']
    resources: {limits: {memory: 64Mi}}
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: COLOUR, valueFrom: {fieldRef: {fieldPath: "metadata.labels['colour']"}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: BOTH, value: '$(NAME)-$(COLOUR)'}
    envFrom: [{secretRef: {name: word}, prefix: MY_}]
    securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: settings, mountPath: /file, subPath: two}
    - {name: one, mountPath: /one}
    - {name: memory, mountPath: /memory}
    - {name: memory, mountPath: /part, subPath: deep/part}
    - {name: empty, mountPath: /own, subPathExpr: $(NAME)/own}
    - {name: self, mountPath: /self}
    - {name: all, mountPath: /all}
  - name: b
    image: busybox
    command: [sleep, '10000']
    volumeMounts:
    - {name: memory, mountPath: /memory}
    - {name: empty, mountPath: /empty}
"#;

fn tool() -> Option<Own> {
    let own = Own::start()?;
    own.apply(MANIFEST);
    own.kubectl("wait --for=condition=Ready pod/tool --timeout=45s").success();
    Some(own)
}

#[d2k_suite::test]
fn files_follow_the_objects_that_they_come_from() {
    let Some(own) = tool() else { return };
    let read = |files: &str| own.kubectl(format!("exec tool -c a -- sh -c 'cat {files}'")).stdout;
    assert_eq!(
        read("/settings/one /file /one/deep/file /all/two /all/password"),
        "firstsecondfirstsecondopen"
    );
    assert_eq!(read("/self/labels"), "colour=\"blue\"");
    let patch = r#"'{"data":{"one":"FIRST","two":null,"three":"third"}}'"#;
    own.kubectl(format!("patch configmap settings -p {patch}")).success();
    own.kubectl("label pod tool colour=red --overwrite").success();
    eventually("the files say so", || read("/settings/one /settings/three /all/one") == "FIRSTthirdFIRST");
    eventually("the label, too", || read("/self/labels") == "colour=\"red\"");
    assert_eq!(own.kubectl("exec tool -c a -- ls /settings").success(), "one\nthree");
    // A single file that is mounted stays what it was.
    assert_eq!(read("/file"), "second");
}

#[d2k_suite::test]
fn files_that_come_from_objects_cannot_be_written_and_have_their_modes() {
    let Some(own) = tool() else { return };
    for file in ["/settings/new", "/all/new", "/new"] {
        own.kubectl(format!("exec tool -c a -- touch {file}")).failure(1, &["Read-only file system"]);
    }
    let modes = own.kubectl("exec tool -c a -- stat -L -c '%a %g' /one/deep/file /own /memory").lines();
    assert_eq!(modes, ["440 2000", "2777 2000", "2777 2000"]);
}

#[d2k_suite::test]
fn containers_of_a_pod_share_its_memory_and_no_more_of_it_than_its_limit() {
    let Some(own) = tool() else { return };
    own.kubectl(
        "exec tool -c a -- sh -c 'echo hello > /memory/word; echo there > /part/word; echo own > /own/word'",
    )
    .success();
    let read = own.kubectl("exec tool -c b -- cat /memory/word /memory/deep/part/word /empty/tool/own/word");
    assert_eq!(read.success(), "hello\nthere\nown");
    own.kubectl("exec tool -c b -- dd if=/dev/zero of=/memory/big bs=1M count=9")
        .failure(1, &["No space left on device"]);
}

#[d2k_suite::test]
fn a_container_knows_its_pod() {
    let Some(own) = tool() else { return };
    let env = own.kubectl("exec tool -c a -- env").success();
    for pair in ["NAME=tool", "COLOUR=blue", "LIMIT=64", "BOTH=tool-blue", "MY_password=open"] {
        assert!(env.lines().any(|line| line == pair), "{pair}: {env}");
    }
    let files = own.kubectl("exec tool -c a -- cat /etc/hosts /etc/resolv.conf /etc/hostname").success();
    for words in ["192.0.2.1\telsewhere", "cluster.local my.search", "options ndots:3", "\ntool"] {
        assert!(files.contains(words), "{words}: {files}");
    }
    let rights = own.kubectl("exec tool -c a -- sh -c 'id; grep -E \"CapBnd|NoNewPrivs\" /proc/self/status'");
    let rights = rights.success();
    for words in ["uid=1000 gid=0(root) groups=0(root),2000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(rights.contains(words), "{words}: {rights}");
    }
}

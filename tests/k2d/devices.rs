//! Devices of the machine in containers that have no privileges.

use std::os::unix::fs::FileTypeExt;

use crate::device::{Device, IMAGE, soon};
use crate::support::suite;

/// Devices that no container may use by itself, and that open without any effect.
const RARE: [&str; 3] = ["/dev/loop-control", "/dev/fuse", "/dev/kmsg"];

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, hostPath: {path: PATH, type: TYPE}}]
  containers:
  - name: main
    image: IMAGE
    command: [sleep, '600']
    volumeMounts: [{name: v, mountPath: MOUNT}]
";

fn pod(name: &str, path: &str, kind: &str, mount: &str) -> String {
    let fields = [("NAME", name), ("PATH", path), ("TYPE", kind), ("MOUNT", mount), ("IMAGE", IMAGE)];
    fields.into_iter().fold(POD.to_owned(), |text, (field, value)| text.replace(field, value))
}

#[d2k_suite::test]
fn a_device_of_a_volume_can_be_used_and_others_cannot() {
    let Some(device) = Device::start() else { return };
    let is_device =
        |path: &&&str| std::fs::metadata(path).is_ok_and(|about| about.file_type().is_char_device());
    let Some(rare) = RARE.iter().find(is_device) else {
        return suite::note_skip("this machine has none of the devices of the test");
    };
    let read_only = pod("reads", rare, "CharDevice", "/dev/port0, readOnly: true");
    for manifest in [
        pod("lost", "/dev/null", "CharDevice", "/lost"),
        // It hides a file of the image.
        pod("uses", rare, "CharDevice", "/www/index.html"),
        read_only,
        pod("looks", rare, "''", "/dev/port0"),
    ] {
        device.apply(&manifest).success();
    }
    for name in ["lost", "uses", "reads", "looks"] {
        device.until_ready(name);
    }
    let script = |pod: &str, script: &str| device.kubectl_with(&["exec", pod, "--", "sh", "-c", script], "");
    assert_eq!(
        script("lost", "echo word >/lost; cat /lost; test -c /lost && echo device").success(),
        "device"
    );
    script("uses", "test -c /www/index.html && : <>/www/index.html").success();
    script("reads", ": </dev/port0").success();
    let refused = "Operation not permitted";
    assert!(script("reads", ": >>/dev/port0").both().contains(refused));
    assert!(script("looks", ": </dev/port0").both().contains(refused));
    let format = "{{json .HostConfig.Devices}} {{.HostConfig.Privileged}}";
    let made = device.docker_with(&["inspect", "-f", format, "uses.default"]).success();
    let wanted = format!(
        "[{{\"PathOnHost\":\"{rare}\",\"PathInContainer\":\"/www/index.html\",\"CgroupPermissions\":\"rwm\"}}] false"
    );
    assert_eq!(made, wanted);
}

#[d2k_suite::test]
fn what_is_no_such_device_is_told_in_kubernetes_words() {
    let Some(device) = Device::start() else { return };
    let check = "hostPath type check failed: /dev/null is not a block device, it's a CharDevice";
    let cases = [
        ("block", "/dev/null", "BlockDevice", check),
        ("file", "/etc/hostname", "CharDevice", "/etc/hostname is not a character device, it's a File"),
        ("none", "/dev/no-such-port", "CharDevice", "hostPath /dev/no-such-port doesn't exist"),
    ];
    for (name, path, kind, words) in cases {
        device.apply(&pod(name, path, kind, "/x")).success();
        let told = || device.kubectl(&format!("describe pod {name}")).stdout;
        soon(words, || told().lines().any(|line| line.contains("FailedMount") && line.contains(words)));
    }
    assert!(device.containers().is_empty());
}

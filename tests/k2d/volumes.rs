//! Claims are volumes of the engine, which people find with `docker volume`.

use crate::device::{Device, IMAGE, soon};

const POD: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: main
    image: IMAGE
    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.1; done\"]
    volumeMounts:
    - {name: data, mountPath: /data}
";
/// One more mount of the container: a part of the volume.
const PART: &str = "    - {name: data, mountPath: /part, subPath: deep/part}\n";

#[d2k_suite::test]
fn a_claim_is_a_volume_that_goes_with_it() {
    let Some(device) = Device::start() else { return };
    device.apply(&POD.replace("IMAGE", IMAGE)).success();
    device.until_ready("keeper");
    let exec =
        |script: &str| device.kubectl_with(&["exec", "keeper", "--", "sh", "-c", script], "").success();
    exec("echo kept > /data/file");
    let volumes = || device.docker("volume ls -q --filter label=k2d.io/claim").success();
    assert_eq!(volumes(), "default_data");
    device.kubectl("delete pod keeper --grace-period=1").success();
    device.apply(&POD.replace("IMAGE", IMAGE)).success();
    device.until_ready("keeper");
    assert_eq!(exec("cat /data/file"), "kept");
    device.kubectl("delete pod keeper --grace-period=1").success();
    device.kubectl("delete pvc data").success();
    soon("the volume is gone", || volumes().is_empty());
}

#[d2k_suite::test]
fn a_claim_that_is_made_again_has_an_empty_volume() {
    let Some(device) = Device::start() else { return };
    let pod = POD.replace("IMAGE", IMAGE);
    device.apply(&pod).success();
    device.until_ready("keeper");
    device.kubectl("exec keeper -- touch /data/old").success();
    // At once: the container may still be there when the claim is not.
    device.kubectl("delete pod keeper --grace-period=0 --force").success();
    device.kubectl("delete pvc data").success();
    device.apply(&pod).success();
    device.until_ready("keeper");
    assert_eq!(device.kubectl("exec keeper -- ls /data").success(), "");
    device.kubectl("delete pod keeper --grace-period=1").success();
    device.kubectl("delete pvc data").success();
    let volumes = || device.docker("volume ls -q --filter label=k2d.io/claim").success();
    soon("the volume is gone", || volumes().is_empty());
}

#[d2k_suite::test]
fn a_claim_that_is_deleted_with_its_namespace_leaves_no_volume() {
    let Some(device) = Device::start() else { return };
    device.kubectl("create namespace short").success();
    let pod = POD.replace("IMAGE", IMAGE);
    device.kubectl_with(&["-n", "short", "apply", "-f", "-"], &pod).success();
    device.kubectl("-n short wait --for=condition=Ready --timeout=30s pod/keeper").success();
    device.kubectl("delete namespace short").success();
    let volumes = || device.docker("volume ls -q --filter label=k2d.io/claim").success();
    soon("the volume is gone", || volumes().is_empty());
}

#[d2k_suite::test]
fn a_part_of_a_claim_is_mounted_or_the_pod_says_why_not() {
    let Some(device) = Device::start() else { return };
    device.apply(&format!("{POD}{PART}").replace("IMAGE", IMAGE)).success();
    let version = device.docker("version --format {{.Server.APIVersion}}").success();
    let minor: u32 = version.trim_start_matches("1.").parse().unwrap();
    if minor < 45 {
        let why = "subPath of a claim needs version 1.45 of the Engine API (Docker 26)";
        soon("the Pod says why", || device.kubectl("describe pod keeper").stdout.contains(why));
        return;
    }
    device.until_ready("keeper");
    let script = "echo part > /part/file; cat /data/deep/part/file";
    let seen = device.kubectl_with(&["exec", "keeper", "--", "sh", "-c", script], "").success();
    assert_eq!(seen, "part");
}

#[d2k_suite::test]
fn a_volume_of_somebody_else_is_left_alone() {
    let Some(device) = Device::start() else { return };
    device.docker("volume create default_data").success();
    device.apply(&POD.replace("IMAGE", IMAGE)).success();
    soon("it is told", || device.kubectl("describe pod keeper").stdout.contains("k2d has not made it"));
    device.kubectl("delete pod keeper --grace-period=1").success();
    device.kubectl("delete pvc data").success();
    device.docker("volume inspect default_data").success();
    device.docker("volume rm default_data").success();
}

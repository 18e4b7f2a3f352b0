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
    - {name: data, mountPath: /part, subPath: deep/part}
";

#[d2k_suite::test]
fn a_claim_is_a_volume_that_goes_with_it() {
    let Some(device) = Device::start() else { return };
    device.apply(&POD.replace("IMAGE", IMAGE)).success();
    device.until_ready("keeper");
    let exec =
        |script: &str| device.kubectl_with(&["exec", "keeper", "--", "sh", "-c", script], "").success();
    exec("echo kept > /data/file; echo part > /part/file");
    assert_eq!(exec("cat /data/deep/part/file"), "part");
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

//! A folder of manifests, in the order in which everything comes before what it needs: the end is the same each time, whether what is
//! there was deleted before or not.

use std::path::Path;

use crate::device::{Device, IMAGE, soon};
use crate::support::Output;

/// Names of files, which `kubectl` takes in their order, and what is in them.
const FILES: [(&str, &str); 5] = [
    (
        "1-deployment.yaml",
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: IMAGE
        command: [sleep, '600']
        env: [{name: WORD, valueFrom: {configMapKeyRef: {name: shop-config, key: word}}}]
        volumeMounts: [{name: secret, mountPath: /secret}, {name: data, mountPath: /data}]
      volumes:
      - {name: secret, secret: {secretName: shop-secret}}
      - {name: data, persistentVolumeClaim: {claimName: shop-data}}
",
    ),
    (
        "2-service.yaml",
        "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
",
    ),
    (
        "3-claim.yaml",
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shop-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
",
    ),
    (
        "4-secret.yaml",
        "
apiVersion: v1
kind: Secret
metadata: {name: shop-secret}
data: {key: aGlkZGVu}
",
    ),
    (
        "5-config.yaml",
        "
apiVersion: v1
kind: ConfigMap
metadata: {name: shop-config}
data: {word: told}
",
    ),
];

const OBJECTS: &str =
    "deployment/shop service/shop persistentvolumeclaim/shop-data secret/shop-secret configmap/shop-config";

fn on_folder(device: &Device, verb: &str, folder: &Path) -> Output {
    device.kubectl_with(&[verb, "-f", folder.to_str().unwrap()], "")
}

/// What there is of it in the end.
fn state(device: &Device) -> Vec<String> {
    device.kubectl("rollout status deployment/shop --timeout=45s").success();
    let ready = || device.field("deployment/shop", ".status.readyReplicas") == "2";
    soon("both Pods are ready", ready);
    let pods = || device.kubectl("get pods -o name").success().lines().count();
    soon("no other Pod is left", || pods() == 2);
    soon("no other container is left", || device.containers().len() == 2);
    let script = "echo $WORD; cat /secret/key; ls /data";
    vec![
        device.kubectl_with(&["exec", "deploy/shop", "--", "sh", "-c", script], "").success(),
        device.field("pvc/shop-data", ".status.phase"),
        device.field(
            "endpointslice -l kubernetes.io/service-name=shop",
            ".items[*].endpoints[*].conditions.ready",
        ),
        device.docker("volume ls -q --filter label=k2d.io/claim").success(),
        device.kubectl("get deployment,service,pvc,secret,configmap -o name").success(),
    ]
}

fn apply(times: usize) {
    let Some(device) = Device::start() else { return };
    let folder = device.data.with_extension("manifests");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text.replace("IMAGE", IMAGE)).unwrap();
    }
    let mut first = None;
    for number in 0..times {
        on_folder(&device, "apply", &folder).success();
        let state = state(&device);
        assert_eq!(first.get_or_insert_with(|| state.clone()), &state, "time {number}");
        let again = on_folder(&device, "apply", &folder).lines();
        assert!(again.len() == 5 && again.iter().all(|line| line.ends_with(" unchanged")), "{again:?}");
        if number % 2 == 0 {
            on_folder(&device, "delete", &folder).success();
            let gone = || device.kubectl(&format!("get {OBJECTS} --ignore-not-found -o name")).success();
            assert_eq!(gone(), "");
            if number % 4 == 0 {
                soon("no container is left", || device.containers().is_empty());
                soon("no Pod is left", || device.kubectl("get pods -o name").stdout.is_empty());
                assert_eq!(gone(), "", "nothing comes back");
            }
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[d2k_suite::test]
fn a_folder_in_the_worst_order_ends_the_same() {
    apply(6);
}

/// Takes minutes.
#[d2k_suite::test(ignored)]
fn a_folder_in_the_worst_order_ends_the_same_fifty_times() {
    apply(50);
}

//! The life of a release: Helm installs, upgrades, rolls back, tests and removes it, and waits for each.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::device::Device;
use crate::support::{Output, find, run, suite};

/// How long a command of Helm may take.
const DEADLINE: Duration = Duration::from_secs(90);

fn chart() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/k2d/chart").display().to_string()
}

/// A release with the program of this name, `helm3` or `helm4`.
fn release(program: &str) {
    if find(program).is_none() {
        return suite::note_skip(&format!("no {program} on PATH"));
    }
    let Some(device) = Device::start() else { return };
    let helm = |words: &str| -> Output {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", device.data.join("kubeconfig")).args(words.split(' '));
        run(command, &format!("{program} {words}"), b"", DEADLINE)
    };
    let chart = chart();
    let page = || device.kubectl("exec deployment/shop -- cat /pages/index.html").success();
    helm(&format!("install shop {chart} --wait --timeout 60s")).success();
    assert_eq!(device.field("deployment/shop", ".status.availableReplicas"), "2");
    assert_eq!(page(), "first");
    helm("test shop --timeout 30s").success();
    helm(&format!("upgrade shop {chart} --set page=second --set replicas=3 --wait --timeout 60s")).success();
    assert_eq!(device.field("deployment/shop", ".status.updatedReplicas"), "3");
    // At once: the Service must lead to Pods of the new version alone.
    helm("test shop --timeout 30s").success();
    assert_eq!(page(), "second");
    helm("rollback shop 1 --wait --timeout 60s").success();
    helm("test shop --timeout 30s").success();
    assert_eq!((page(), device.field("deployment/shop", ".spec.replicas")), ("first".into(), "2".into()));
    let history = helm("history shop").success();
    assert_eq!(history.lines().count(), 4, "{history}");
    helm("uninstall shop --wait --timeout 60s").success();
    let left = device.kubectl("get deployment,statefulset,service,configmap,secret,pvc -o name").success();
    let own = ["service/kubernetes", "configmap/kube-root-ca.crt"];
    // Claims of a StatefulSet stay, and here it has none.
    assert!(left.lines().all(|line| own.contains(&line)), "{left}");
}

#[d2k_suite::test]
fn helm_3_keeps_a_release() {
    release("helm3");
}

#[d2k_suite::test]
fn helm_4_keeps_a_release() {
    release("helm4");
}

//! The apps of a device: 10 Deployments of two Pods, each with a Service, and with these a hundred objects.

use crate::bench::Bench;
use crate::device::IMAGE;
use crate::support::eventually;

pub const PODS: usize = 20;
const DEPLOYMENTS: usize = 10;
/// With a Deployment, a ReplicaSet, a Service and an EndpointSlice for two Pods each, 100 objects.
const CONFIG_MAPS: usize = 40;

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: IMAGE, command: [sleep, '86400']}]}
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{port: 80}]}
---
";

const SETTING: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME}
data: {key: value}
---
";

fn manifest() -> String {
    let apps = (0..DEPLOYMENTS).map(|n| APP.replace("NAME", &format!("app-{n}")).replace("IMAGE", IMAGE));
    let settings = (0..CONFIG_MAPS).map(|n| SETTING.replace("NAME", &format!("setting-{n}")));
    apps.chain(settings).collect()
}

pub fn start(bench: &Bench) {
    bench.device.apply(&manifest()).success();
    for n in 0..DEPLOYMENTS {
        bench.device.kubectl(&format!("rollout status deployment/app-{n} --timeout=50s")).success();
    }
    assert_eq!(bench.device.containers().len(), PODS);
}

pub fn end(bench: &Bench) {
    bench.device.kubectl_with(&["delete", "-f", "-"], &manifest()).success();
    eventually("no container is left", || bench.device.containers().is_empty());
}

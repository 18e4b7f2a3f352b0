//! A namespace of one test, with the rights of `deploy/kubernetes.yaml` and nothing more.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster;
use super::process::{self, DEADLINE, Output};

const MANIFEST: &str = include_str!("../../deploy/kubernetes.yaml");
const RIGHTS: [&str; 3] = ["ServiceAccount", "Role", "RoleBinding"];

/// The documents of `deploy/kubernetes.yaml`, moved to another namespace.
pub fn manifest(namespace: &str) -> Vec<Value> {
    MANIFEST
        .split("\n---\n")
        .map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap())
        .map(|mut object| {
            if object["kind"] == "Namespace" {
                object["metadata"]["name"] = namespace.into();
            } else {
                object["metadata"]["namespace"] = namespace.into();
            }
            for subject in object["subjects"].as_array_mut().into_iter().flatten() {
                subject["namespace"] = namespace.into();
            }
            object
        })
        .collect()
}

/// A namespace; dropping it deletes all that is in it.
pub struct Namespace {
    /// Its name.
    pub name: String,
    admin: String,
}

impl Namespace {
    /// Makes the namespace and the rights of d2k in it.
    #[track_caller]
    pub fn create(name: &str, admin: &str) -> Self {
        let namespace = Self { name: name.to_owned(), admin: admin.to_owned() };
        let mut items = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})];
        if !cluster::is_embedded() {
            items.extend(
                manifest(name)
                    .into_iter()
                    .filter(|object| RIGHTS.contains(&object["kind"].as_str().unwrap())),
            );
        }
        namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
        // Pods are refused until the controller has made the account that they run as.
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"]).success();
        namespace
    }

    /// Runs kubectl in the namespace, as administrator.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_in(args, b"")
    }

    /// Runs kubectl with bytes as its standard input.
    #[track_caller]
    pub fn kubectl_in(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new("kubectl");
        command.args(["--kubeconfig", &self.admin, "--namespace", &self.name]).args(args);
        process::run(
            command,
            &format!("kubectl {}", args.join(" ")),
            stdin,
            DEADLINE + Duration::from_secs(30),
        )
    }

    /// Applies an object, a `List` of them, or several in a JSON array.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        self.kubectl_in(&["apply", "-f", "-"], object.to_string().as_bytes()).success();
    }

    /// A kubeconfig that knows only a token of the ServiceAccount.
    #[track_caller]
    pub fn kubeconfig(&self) -> String {
        // An embedded cluster has a single user, who may do everything.
        if cluster::is_embedded() {
            return std::fs::read_to_string(&self.admin).unwrap();
        }
        let view = self.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).success();
        let view: Value = serde_json::from_str(&view).unwrap();
        let token = self.kubectl(&["create", "token", "d2k", "--duration=2h"]).success();
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": view["clusters"][0]["cluster"]}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Pods whose first process ignores SIGTERM would linger for half a minute each.
        let script = format!(
            "kubectl --kubeconfig {admin} delete namespace {name} --wait=false
             kubectl --kubeconfig {admin} -n {name} delete pods --all --grace-period=1 --wait=false",
            admin = self.admin,
            name = self.name
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let _ = command.spawn();
    }
}

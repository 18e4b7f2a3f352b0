//! One of the two clusters: a namespace in it, and raw requests to its API server.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// An answer that takes longer is none.
const LONGEST: Duration = Duration::from_secs(20);

/// A cluster with a namespace of one case, and the values that its steps keep.
pub struct Side {
    pub client: Client,
    kubeconfig: String,
    /// `$name` in paths and bodies.
    pub values: BTreeMap<String, String>,
}

/// A client of the cluster and the user of a kubeconfig.
async fn client(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    config.read_timeout = None;
    Client::try_from(config).unwrap()
}

/// An answer as it came.
#[derive(Debug)]
pub struct Raw {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Side {
    /// The cluster of a kubeconfig, with a new namespace.
    pub async fn open(path: &str, namespace: &str) -> Self {
        let client = client(Kubeconfig::read_from(path).unwrap()).await;
        let values = BTreeMap::from([("ns".to_owned(), namespace.to_owned())]);
        let side = Self { client, kubeconfig: path.to_owned(), values };
        let made = json!({"metadata": {"name": namespace}}).to_string();
        let made = side.send("POST", "/api/v1/namespaces", "", &BTreeMap::new(), made).await;
        assert_eq!(made.code, 201, "{}", made.text);
        for _ in 0..100 {
            let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
            if side.send("GET", &account, "", &BTreeMap::new(), String::new()).await.code == 200 {
                return side;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{path}: no default service account");
    }

    /// Deletes the namespace, and does not wait for its end.
    pub async fn close(&self) {
        let path = format!("/api/v1/namespaces/{}", self.values["ns"]);
        self.send("DELETE", &path, "", &BTreeMap::new(), String::new()).await;
    }

    /// With `$name` replaced by what was kept.
    pub fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Longer names first: `$rv2` is not `$rv` and a 2.
        let mut names: Vec<_> = self.values.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, value) in names {
            text = text.replace(&format!("${name}"), value);
        }
        text
    }

    /// The kubeconfig of a user who has this token and no certificate.
    fn kubeconfig_of(&self, token: &str) -> String {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let mut config: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
        for user in config["users"].as_sequence_mut().unwrap() {
            user["user"] = serde_yaml_ng::to_value(json!({"token": self.filled(token)})).unwrap();
        }
        serde_yaml_ng::to_string(&config).unwrap()
    }

    /// Sends a request, with a token in place of the certificate unless it is empty, and reads the whole answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &BTreeMap<String, String>,
        body: String,
    ) -> Raw {
        let mut request = Request::builder().method(method).uri(self.filled(path));
        if !headers.contains_key("Content-Type") && !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, self.filled(value));
        }
        let request = request.body(Body::from(self.filled(&body).into_bytes())).unwrap();
        let client = match token {
            "" => self.client.clone(),
            token => client(Kubeconfig::from_yaml(&self.kubeconfig_of(token)).unwrap()).await,
        };
        let answer = async {
            let (parts, body) = client.send(request).await.map_err(|e| e.to_string())?.into_parts();
            let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Raw { code: parts.status.as_u16(), headers: parts.headers, text })
        };
        let answer = tokio::time::timeout(LONGEST, answer).await;
        let failed = |text: String| Raw { code: 999, headers: Default::default(), text };
        answer.unwrap_or_else(|_| Err("no end".into())).unwrap_or_else(failed)
    }
}

impl Side {
    /// Runs `kubectl` in the namespace; the code is that of its exit, the text is both of its outputs.
    pub async fn kubectl(
        &self,
        arguments: &[String],
        input: &str,
        environment: &BTreeMap<String, String>,
    ) -> Raw {
        let arguments = arguments.iter().map(|argument| self.filled(argument));
        let mut command = tokio::process::Command::new("kubectl");
        command.args(["--kubeconfig", &self.kubeconfig, "--namespace", &self.values["ns"]]).args(arguments);
        command.envs(environment).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = self.filled(input).into_bytes();
        let write = async move {
            let _ = stdin.write_all(&input).await;
        };
        let both = async { tokio::join!(write, child.wait_with_output()).1.unwrap() };
        let Ok(output) = tokio::time::timeout(Duration::from_secs(60), both).await else {
            return Raw { code: 999, headers: Default::default(), text: "no end in 60 s".into() };
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let text = serde_json::json!({
            "stdout": text(&output.stdout).lines().collect::<Vec<_>>(),
            "stderr": text(&output.stderr).lines().collect::<Vec<_>>(),
        });
        let code = output.status.code().unwrap_or(-1).unsigned_abs() as u16;
        Raw { code, headers: Default::default(), text: text.to_string() }
    }
}

impl Raw {
    /// The body: JSON, a list of the events of a watch, or text.
    pub fn value(&self, watch: bool) -> Value {
        if watch && self.code == 200 {
            let event = |line: &str| serde_json::from_str::<Value>(line).unwrap_or(line.into());
            return self.text.lines().map(event).collect();
        }
        serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into())
    }
}

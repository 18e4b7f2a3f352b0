//! The token that a Pod finds in its files: whose it is, what it opens, and when it ends. The Pods are of the image `host`,
//! so that they have the machine's `curl`.

use std::time::Duration;

use serde_json::Value;

use crate::own::Own;
use crate::support::{Output, eventually};

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: main, image: host, command: [sleep, '1000']}}]\n{spec}---\n"
    )
}

/// The status of the answer to a request from inside of a Pod, and the answer; `token` is one for the Pod's shell.
#[track_caller]
fn asked(own: &Own, pod: &str, path: &str, token: &str) -> (u16, String) {
    let script = format!(
        "curl -s --max-time 20 --cacert {FOLDER}/ca.crt -H \"Authorization: Bearer {token}\" \
         -w \"\\n%{{http_code}}\" \"https://kubernetes.default.svc{path}\""
    );
    let said = own.kubectl(format!("exec {pod} -- sh -c '{script}'")).success();
    let (answer, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), answer.to_owned())
}

/// Runs `kubectl` outside of the Pods with nothing but a token.
fn with_token(own: &Own, token: &str, words: &str) -> Output {
    let server = own.kubectl("config view -o jsonpath='{.clusters[0].cluster.server}'").success();
    let place = format!("--kubeconfig /dev/null --server {server} --insecure-skip-tls-verify");
    own.kubectl(format!("{place} --token {token} {words}"))
}

#[d2k_suite::test]
fn a_pod_has_a_token_that_opens_nothing_and_ends_with_it() {
    let Some(own) = Own::start() else { return };
    own.apply(&(pod("one", "") + &pod("other", "")));
    own.kubectl("wait --for=condition=Ready pod/one pod/other --timeout=60s").success();
    let file = format!("$(cat {FOLDER}/token)");
    let namespace = own.kubectl(format!("exec one -- cat {FOLDER}/namespace")).success();
    let status = |pod: &str, path: &str, token: &str| asked(&own, pod, path, token).0;
    let (code, answer) = asked(&own, "one", "/version", &file);
    assert!(code == 200 && answer.contains("v1.34"), "{answer}");
    assert_eq!(status("one", "/apis/apps/v1", &file), 200);
    for path in ["pods", "secrets", "secrets/any", "pods/other/log", "configmaps?watch=true"] {
        let (code, answer) = asked(&own, "one", &format!("/api/v1/namespaces/{namespace}/{path}"), &file);
        assert!(code == 403 && answer.contains("is forbidden: User"), "{path}: {answer}");
    }
    for path in ["/api/v1/nodes", "/api/v1/namespaces", "/apis/metrics.k8s.io/v1beta1/pods", "/"] {
        assert_eq!(status("one", path, &file), 403, "{path}");
    }
    assert_eq!(status("one", "/apis", "wrong"), 401);
    let administrators = std::fs::read_to_string(own.data().join("pki/token")).unwrap();
    let token = own.kubectl(format!("exec one -- cat {FOLDER}/token")).success();
    assert_ne!(token, administrators);
    assert_eq!(status("other", "/apis", &token), 200, "a token is not tied to an address");
    own.kubectl("delete pod one").success();
    assert_eq!(status("other", "/apis", &token), 401);
    own.apply(&pod("one", ""));
    own.kubectl("wait --for=condition=Ready pod/one --timeout=60s").success();
    assert_eq!(status("one", "/apis", &token), 401, "the next Pod of the name has a token of its own");
    assert_eq!(status("one", "/apis", &file), 200);
}

#[d2k_suite::test]
fn a_token_says_who_it_is_and_what_it_may() {
    let Some(own) = Own::start() else { return };
    own.kubectl("create serviceaccount robot").success();
    let token = own.kubectl("create token robot --duration=10m").success();
    let namespace = own.kubectl("config view --minify -o jsonpath='{..namespace}'").success();
    let name = format!("system:serviceaccount:{namespace}:robot");
    let who = with_token(&own, &token, "auth whoami -o json").success();
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], name.as_str());
    let can = |words: &str| with_token(&own, &token, &format!("--namespace {namespace} auth can-i {words}"));
    let said = can("list pods");
    assert_eq!((said.status, said.stdout.trim()), (1, "no"), "{said}");
    can("get /version").success();
    let list = can("--list").success();
    assert!(list.contains("selfsubjectaccessreviews") && !list.contains("*.*"), "{list}");
    let words = format!(
        "pods is forbidden: User \"{name}\" cannot list resource \"pods\" in API group \"\" in the namespace \"{namespace}\""
    );
    with_token(&own, &token, &format!("--namespace {namespace} get pods")).failure(1, &[&words]);
    own.kubectl("create token robot --duration=1m")
        .failure(1, &["may not specify a duration less than 10 minutes"]);
    own.kubectl("create token none").failure(1, &["serviceaccounts \"none\" not found"]);
    own.kubectl("delete serviceaccount robot").success();
    with_token(&own, &token, "auth whoami").failure(1, &["Unauthorized"]);
}

#[d2k_suite::test]
fn a_pod_has_the_tokens_that_it_asks_for() {
    let Some(own) = Own::start() else { return };
    let spec = "  automountServiceAccountToken: false\n  volumes: [{name: v, projected: {sources: \
                [{serviceAccountToken: {path: vault/token, audience: vault, expirationSeconds: 600}}]}}]\n";
    let asks =
        pod("asks", spec).replace("command:", "volumeMounts: [{name: v, mountPath: /tokens}], command:");
    own.apply(&(asks + &pod("none", "  automountServiceAccountToken: false\n")));
    own.kubectl("wait --for=condition=Ready pod/asks pod/none --timeout=60s").success();
    let there = own.kubectl(format!("exec none -- sh -c 'test -e {FOLDER} && echo yes; true'")).success();
    assert_eq!(there, "");
    let file = "$(cat /tokens/vault/token)";
    let ask = format!(
        "curl -sk -o /dev/null -w %{{http_code}} -H \"Authorization: Bearer {file}\" https://kubernetes.default.svc/apis"
    );
    assert_eq!(
        own.kubectl(format!("exec asks -- sh -c '{ask}'")).success(),
        "401",
        "it is for somebody else"
    );
    let token = own.kubectl("exec asks -- cat /tokens/vault/token").success();
    let review = |audience: &str| {
        let spec = format!("{{token: {token}, audiences: [{audience}]}}");
        let review = format!("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {spec}\n");
        std::fs::write(own.folder().path().join("review.yaml"), review).unwrap();
        let said = own.kubectl(format!("create -o json -f {}/review.yaml", own.folder().path().display()));
        serde_json::from_str::<Value>(&said.success()).unwrap()["status"].clone()
    };
    let told = review("vault");
    assert_eq!(told["authenticated"], true, "{told}");
    assert_eq!(told["user"]["extra"]["authentication.kubernetes.io/pod-name"][0], "asks", "{told}");
    assert_eq!(review("other")["authenticated"], Value::Null);
}

#[d2k_suite::test]
fn a_folder_of_an_older_version_gets_a_key_and_keeps_it() {
    let Some(mut own) = Own::start() else { return };
    let key = own.data().join("pki/sa.key");
    let token = own.kubectl("create token default --duration=10m").success();
    own.daemon().kill();
    own.start_again();
    with_token(&own, &token, "auth whoami").success();
    own.daemon().kill();
    std::fs::remove_file(&key).unwrap();
    own.start_again();
    with_token(&own, &token, "auth whoami").failure(1, &["Unauthorized"]);
    let token = own.kubectl("create token default --duration=10m").success();
    with_token(&own, &token, "auth whoami").success();
}

/// Takes eight minutes: the shortest life of a token is ten.
#[d2k_suite::test(ignored)]
fn a_token_is_renewed_before_it_ends() {
    let Some(own) = Own::start() else { return };
    let spec = "  automountServiceAccountToken: false\n  volumes: [{name: v, projected: {sources: \
                [{serviceAccountToken: {path: token, expirationSeconds: 600}}]}}]\n";
    own.apply(
        &pod("one", spec).replace("command:", "volumeMounts: [{name: v, mountPath: /tokens}], command:"),
    );
    own.kubectl("wait --for=condition=Ready pod/one --timeout=60s").success();
    let read = || own.kubectl("exec one -- cat /tokens/token").success();
    let first = read();
    std::thread::sleep(Duration::from_secs(470));
    assert_eq!(read(), first, "it is not due yet");
    eventually("it is another one", || read() != first);
    with_token(&own, &read(), "auth whoami").success();
}

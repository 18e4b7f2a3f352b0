//! Access to the Docker API of an embedded cluster: clients on loopback, and the containers that asked for the
//! Docker socket, at the Pods' gateway. No other container does, and nothing else of the machine's loopback.

use crate::own::Own;

#[d2k_suite::test]
fn only_containers_that_asked_for_the_socket_reach_d2k() {
    let Some(own) = Own::start() else { return };
    let socket = "-v /var/run/docker.sock:/var/run/docker.sock";
    let port = own.port();
    let script = format!("wget -q -O - http://10.88.0.1:{port}/containers/json 2>&1; echo done");
    for round in 0..5 {
        let output = own.docker(format!("run --rm busybox sh -c '{script}'")).success();
        assert!(output.contains("403 Forbidden") && output.ends_with("done"), "round {round}: {output}");
        let output = own.docker(format!("run --rm {socket} busybox sh -c '{script}'")).success();
        assert!(output.starts_with("[{") && output.ends_with("done"), "round {round}: {output}");
    }
    own.docker("run -d --name plain busybox sleep 1000").success();
    let privileged = r#"{"Image":"busybox","HostConfig":{"Privileged":true,"PidMode":"host"}}"#;
    let post = format!(
        "wget -q -O - --header=Content-Type:application/json --post-data={privileged:?} \
         http://10.88.0.1:{port}/containers/create 2>&1; true"
    );
    let output = own.docker(format!("exec plain sh -c '{post}'")).success();
    assert!(output.contains("403 Forbidden"), "{output}");
    assert_eq!(own.docker("ps -aq").lines().len(), 1, "nothing was created");
}

#[d2k_suite::test]
fn a_pod_that_an_administrator_labels_reaches_d2k() {
    let Some(own) = Own::start() else { return };
    let port = own.port();
    let pod = |name: &str, labels: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {labels}}}\nspec:\n  \
             containers: [{{name: main, image: busybox, command: [sleep, '1000']}}]\n"
        )
    };
    own.apply(&format!("{}---\n{}", pod("with", "{d2k.io/docker: 'true'}"), pod("without", "{app: db}")));
    own.kubectl("wait --for=condition=Ready pod/with pod/without --timeout=60s").success();
    let ask = format!("wget -q -O - http://10.88.0.1:{port}/_ping 2>&1; true");
    assert_eq!(own.kubectl(format!("exec with -- sh -c '{ask}'")).success(), "OK");
    let output = own.kubectl(format!("exec without -- sh -c '{ask}'")).success();
    assert!(output.contains("403 Forbidden"), "{output}");
}

//! The command line: values and flags that are refused, help, completion, doctor, and the kubeconfig that is used.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{World, command, eventually, free_port, is_embedded, run};

/// What the program prints and how it ends when it cannot even start.
#[track_caller]
fn refused(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let mut d2k = command();
    d2k.args(arguments).envs(settings.iter().copied());
    let output = run(d2k, &format!("{settings:?} d2k {}", arguments.join(" ")), b"", Duration::from_secs(30));
    assert_eq!(output.status, 2, "{output}");
    output.stderr
}

#[d2k_suite::test]
fn a_bad_value_is_one_clear_line_and_exit_code_2() {
    for (key, value) in [
        ("D2K_PORT", "x"),
        ("D2K_PORT", "70000"),
        ("D2K_LOG_LEVEL", "loud"),
        ("D2K_LOG_FORMAT", "xml"),
        ("D2K_NAMESPACE", "Not_A_Namespace"),
        ("D2K_KUBECONFIG", "/no/such/file"),
        ("D2K_LOW_PORT_THRESHOLD", "many"),
        ("D2K_ADMIN_PORT", "-1"),
        ("D2K_START_TIMEOUT", "soon"),
        ("D2K_PUBLISH", "nowhere"),
        ("D2K_REGISTRY_MIRRORS", "nonsense"),
    ] {
        let words = refused(&["serve"], &[(key, value)]);
        assert_eq!(words.trim_end().lines().count(), 1, "{key}={value}: {words}");
        assert!(words.contains(key) || words.contains(value), "{key}={value}: {words}");
    }
}

#[d2k_suite::test]
fn a_bad_flag_is_exit_code_2() {
    let words = refused(&["serve", "--port", "x"], &[]);
    assert!(words.contains("port"), "{words}");
    refused(&["serve", "--nosuch"], &[]);
    refused(&["nosuch"], &[]);
}

#[d2k_suite::test]
fn help_names_every_setting_and_the_version_is_told() {
    let help = |arguments: &[&str]| {
        let mut d2k = command();
        d2k.args(arguments);
        run(d2k, "d2k", b"", Duration::from_secs(30)).success()
    };
    let text = help(&["serve", "--help"]);
    for setting in [
        "D2K_NAMESPACE",
        "D2K_PORT",
        "D2K_LOG_LEVEL",
        "D2K_LOG_FORMAT",
        "D2K_KUBECONFIG",
        "D2K_LOW_PORT_THRESHOLD",
        "D2K_ADMIN_PORT",
        "D2K_START_TIMEOUT",
        "D2K_PUBLISH",
        "D2K_REGISTRY_MIRRORS",
    ] {
        assert!(text.contains(setting), "{setting} is not in the help");
    }
    assert!(help(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[d2k_suite::test]
fn without_a_kubeconfig_the_usual_one_is_used_and_its_absence_names_the_embedded_cluster() {
    let folder = std::env::temp_dir().join(format!("d2k-usual-{}", std::process::id()));
    std::fs::create_dir_all(folder.join(".kube")).unwrap();
    let d2k = |kubeconfig: Option<&std::path::Path>| {
        let mut d2k = command();
        d2k.arg("serve").env("HOME", &folder).env("D2K_PORT", free_port().to_string());
        d2k.env("D2K_ADMIN_PORT", "0").env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
        d2k.envs(kubeconfig.map(|path| ("KUBECONFIG", path)));
        let output = run(d2k, "d2k serve", b"", Duration::from_secs(30));
        assert_ne!(output.status, 0, "{output}");
        output.both()
    };
    let none = d2k(None);
    assert!(none.contains("~/.kube/config") && none.contains("d2k serve --embedded"), "{none}");
    let config = |server: &str| {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "dev",
            "clusters": [{"name": "x", "cluster": {"server": server}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
            "contexts": [{"name": "dev", "context": {"cluster": "x", "user": "x"}}],
        })
        .to_string()
    };
    std::fs::write(folder.join(".kube/config"), config("https://127.0.0.1:1")).unwrap();
    let usual = d2k(None);
    assert!(usual.contains("127.0.0.1:1") && usual.contains("context dev of ~/.kube/config"), "{usual}");
    let other = folder.join("other");
    std::fs::write(&other, config("https://127.0.0.1:2")).unwrap();
    let listed = d2k(Some(&other));
    assert!(listed.contains("127.0.0.1:2"), "{listed}");
    assert!(listed.contains(&format!("context dev of {}", other.display())), "{listed}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[d2k_suite::test]
fn doctor_tells_what_a_cluster_has() {
    let Some(world) = World::new() else { return };
    let examine = || {
        let mut d2k = world.d2k();
        d2k.args(["doctor", "-o", "json"]);
        let output = run(d2k, "d2k doctor", b"", Duration::from_secs(60));
        let findings: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
        (output.status, findings.as_array().unwrap().clone())
    };
    let (status, findings) = examine();
    let state = |findings: &[Value], subject: &str| {
        let found = findings.iter().find(|finding| finding["subject"] == subject);
        found.map(|finding| finding["state"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert_eq!(status, 0, "{findings:?}");
    for subject in ["API server", "rights", "registry"] {
        assert_eq!(state(&findings, subject), "ok", "{subject}: {findings:?}");
    }
    if is_embedded() {
        return;
    }
    let patch = r#"[{"op": "replace", "path": "/rules", "value": []}]"#;
    world.kubectl(format!("patch role d2k --type json -p '{patch}'")).success();
    eventually("the right is gone", || {
        let (status, findings) = examine();
        status == 1 && state(&findings, "right to get pods/log") == "missing"
    });
}

#[d2k_suite::test]
fn doctor_tells_that_there_is_no_cluster() {
    let mut d2k = command();
    d2k.arg("doctor").env("HOME", "/nonexistent").env_remove("KUBECONFIG");
    d2k.env("D2K_REGISTRY_MIRRORS", "*=http://127.0.0.1:1");
    let output = run(d2k, "d2k doctor", b"", Duration::from_secs(60));
    assert_eq!(output.status, 1, "{output}");
    assert!(output.stdout.contains("MISSING") && output.stdout.contains("--embedded"), "{output}");
}

#[d2k_suite::test]
fn shells_get_a_completion_script() {
    for (shell, word) in [("bash", "_d2k"), ("zsh", "#compdef d2k"), ("fish", "complete -c d2k")] {
        let mut d2k = command();
        d2k.args(["completion", shell]);
        let script = run(d2k, "d2k completion", b"", Duration::from_secs(30)).success();
        assert!(script.contains(word), "{shell}: {script}");
    }
}

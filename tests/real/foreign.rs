//! Workloads that d2k did not make: by default clients look at them and nothing else, `D2K_FOREIGN` hides them or
//! lets clients manage them.

use crate::support::{World, eventually};

const MANAGE: (&str, &str) = ("D2K_FOREIGN", "manage");
const HIDE: (&str, &str) = ("D2K_FOREIGN", "hide");

/// A workload of one busybox that logs and sleeps.
fn workload(kind: &str, name: &str) -> String {
    let pod = "spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: main\n        \
               image: busybox\n        command: [sh, -c, 'echo hello; exec sleep 1000']\n        ports: [{containerPort: 80}]\n";
    let (service, replicas) = match kind {
        "StatefulSet" => ("  serviceName: x\n", "  replicas: 1\n"),
        "DaemonSet" => ("", ""),
        _ => ("", "  replicas: 1\n"),
    };
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{made-by: hand}}}}\nspec:\n{service}{replicas}  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    {pod}"
    )
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
                   restartPolicy: Never\n  containers:\n  - {name: main, image: busybox, command: [sh, -c, 'echo hello; exec sleep 1000']}\n";

#[d2k_suite::test]
fn a_deployment_made_by_hand_is_listed_under_a_stable_id_and_can_be_looked_at() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.apply(&workload("Deployment", "hand"));
    eventually("it is listed", || {
        world.docker("ps --format '{{.Names}} {{.State}}'").success() == "hand running"
    });
    let id = world.field("hand", ".Id");
    assert_eq!(id.len(), 64);
    assert_eq!(world.docker("logs hand").success(), "hello");
    assert!(world.docker("stats --no-stream --format '{{.Name}}' hand").success().contains("hand"));
    let inspect = world.inspect("hand");
    assert_eq!(inspect["Config"]["Image"], "busybox");
    assert_eq!(inspect["State"]["Running"], true);
    assert!(inspect["Config"]["Labels"]["made-by"] == "hand", "{inspect}");
    world.restart_d2k();
    assert_eq!(world.field("hand", ".Id"), id);
}

#[d2k_suite::test]
fn nothing_but_a_look_is_allowed_at_what_d2k_did_not_make() {
    let Some(world) = World::new() else { return };
    world.apply(&format!("{}---\n{POD}", workload("Deployment", "hand")));
    eventually("both run", || world.docker("ps -q").lines().len() == 2);
    for name in ["hand", "bare"] {
        for words in [
            format!("exec {name} cat /var/run/secrets/kubernetes.io/serviceaccount/token"),
            format!("cp {name}:/etc/passwd -"),
            format!("export {name}"),
            format!("attach {name}"),
            format!("top {name}"),
            format!("stop {name}"),
            format!("kill {name}"),
            format!("restart {name}"),
            format!("start {name}"),
            format!("pause {name}"),
            format!("unpause {name}"),
            format!("update --memory 64m {name}"),
            format!("rename {name} other"),
            format!("rm {name}"),
            format!("rm -f {name}"),
        ] {
            let refused = world.docker(&words);
            assert_ne!(refused.status, 0, "{refused}");
            let said = ["which d2k did not make", "received 403"];
            assert!(said.iter().any(|words| refused.both().contains(words)), "{refused}");
        }
        assert_eq!(world.field(name, ".State.Running"), "true");
    }
    world.sh("echo x > f; docker cp f hand:/tmp/f").failure(1, &["which d2k did not make"]);
}

#[d2k_suite::test]
fn removing_all_containers_removes_those_of_d2k_alone() {
    let Some(world) = World::new() else { return };
    world.apply(&format!("{}---\n{POD}", workload("Deployment", "precious")));
    world.docker("run -d --name own busybox sleep 1000").success();
    eventually("all three are listed", || world.docker("ps -q").lines().len() == 3);
    let before = world.names("deployments,pods -l app=precious");
    world.sh("docker rm -f $(docker ps -aq)").failure(1, &["precious", "which d2k did not make"]);
    assert_eq!(world.names("deployments,pods -l app=precious"), before);
    assert_eq!(world.names("pods/bare"), ["pod/bare"]);
    let mut left = world.docker("ps -a --format '{{.Names}}'").lines();
    left.sort();
    assert_eq!(left, ["bare", "precious"]);
}

#[d2k_suite::test]
fn hidden_workloads_are_not_there_and_stay_as_they_are() {
    let Some(world) = World::with(&[HIDE]) else { return };
    world.apply(&workload("Deployment", "hand"));
    world.kubectl("rollout status deployment hand --timeout=60s").success();
    assert!(world.docker("ps -aq").lines().is_empty());
    world.docker("inspect hand").failure(1, &["hand"]);
    world.docker("rm -f hand").success();
    world.docker("logs hand").failure(1, &["No such container: hand"]);
    world.docker("run -d --name hand busybox sleep 1000").success();
    assert_eq!(world.docker("ps --format '{{.Names}}'").lines(), ["hand"]);
    world.docker("rm -f hand").success();
    assert_eq!(world.names("deployments"), ["deployment.apps/hand"]);
    assert_eq!(world.object("deployment/hand")["spec"]["replicas"], 1);
}

#[d2k_suite::test]
fn a_deployment_made_by_hand_is_managed_where_that_is_set() {
    let Some(world) = World::with(&[MANAGE]) else { return };
    world.apply(&workload("Deployment", "hand"));
    eventually("it runs", || world.docker("ps -q").lines().len() == 1);
    assert_eq!(world.docker("exec hand echo inside").success(), "inside");
    assert!(world.docker("top hand").success().contains("sleep 1000"));
    world.docker("stop -t 1 hand").success();
    assert_eq!(world.object("deployment/hand")["spec"]["replicas"], 0);
    assert_eq!(world.field("hand", ".State.Running"), "false");
    world.docker("start hand").success();
    eventually("it runs again", || world.field("hand", ".State.Running") == "true");
    world.docker("restart -t 1 hand").success();
    eventually("it runs after the restart", || world.field("hand", ".State.Running") == "true");
    world.docker("rm -f hand").success();
    eventually("it has gone", || world.names("deployments,pods").is_empty());
}

/// A world on a real cluster where clients manage what d2k did not make, with the rights that this needs.
fn managing_world() -> Option<World> {
    let world = World::on_cluster_with("it has no Roles", &[MANAGE])?;
    world
        .kubectl("create role manage --verb=patch,delete --resource=statefulsets.apps,daemonsets.apps")
        .success();
    let account = format!("--role=manage --serviceaccount={}:d2k", world.name());
    world.kubectl(format!("create rolebinding manage {account}")).success();
    Some(world)
}

#[d2k_suite::test]
fn a_stateful_set_is_stopped_and_started() {
    let Some(world) = managing_world() else { return };
    world.apply(&workload("StatefulSet", "db"));
    eventually("it runs", || world.docker("ps --format '{{.Names}} {{.State}}'").success() == "db running");
    assert_eq!(world.docker("exec db hostname").success(), "db-0");
    world.docker("stop -t 1 db").success();
    assert_eq!(world.object("statefulset/db")["spec"]["replicas"], 0);
    world.docker("start db").success();
    eventually("it runs again", || world.field("db", ".State.Running") == "true");
    world.docker("rm -f db").success();
    eventually("it has gone", || world.names("statefulsets,pods").is_empty());
}

#[d2k_suite::test]
fn a_daemon_set_is_shown_and_why_it_cannot_be_stopped_is_told() {
    let Some(world) = managing_world() else { return };
    world.apply(&workload("DaemonSet", "agent"));
    eventually("it runs", || {
        world.docker("ps --format '{{.Names}} {{.State}}'").success() == "agent running"
    });
    assert_eq!(world.docker("logs agent").success(), "hello");
    world.docker("stop agent").failure(1, &["DaemonSet"]);
    assert_eq!(world.field("agent", ".State.Running"), "true");
}

#[d2k_suite::test]
fn a_bare_pod_is_shown_and_removed_where_that_is_set() {
    let Some(world) = World::with(&[MANAGE]) else { return };
    world.apply(POD);
    eventually("it runs", || world.docker("ps --format '{{.Names}} {{.State}}'").success() == "bare running");
    assert_eq!(world.docker("logs bare").success(), "hello");
    assert_eq!(world.docker("exec bare echo inside").success(), "inside");
    world.docker("rm -f bare").success();
    eventually("it has gone", || world.names("pods").is_empty());
}

#[d2k_suite::test]
fn what_d2k_makes_is_shown_once_beside_what_others_make() {
    let Some(world) = World::new() else { return };
    world.apply(&workload("Deployment", "hand"));
    world.docker("run -d --name own busybox sleep 1000").success();
    world.docker("run --name job busybox true").success();
    eventually("all three are listed once", || {
        let mut names = world.docker("ps -a --format '{{.Names}}'").lines();
        names.sort();
        names == ["hand", "job", "own"]
    });
}

#[d2k_suite::test]
fn prune_does_not_take_what_d2k_did_not_make() {
    let Some(world) = World::new() else { return };
    world.apply(&workload("Deployment", "hand"));
    world.kubectl("scale deployment hand --replicas=0").success();
    eventually("it is listed as stopped", || world.docker("ps -aq").lines().len() == 1);
    world.docker("container prune -f").success();
    assert_eq!(world.names("deployments"), ["deployment.apps/hand"]);
}

#[d2k_suite::test]
fn a_name_of_a_foreign_workload_is_in_use() {
    let Some(world) = World::new() else { return };
    world.apply(&workload("Deployment", "hand"));
    eventually("it is listed", || world.docker("ps -aq").lines().len() == 1);
    world.docker("run -d --name hand busybox sleep 1000").failure(125, &["is already in use by container"]);
}

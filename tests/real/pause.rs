//! `docker pause`: processes stand still until they go on, also over a restart of d2k, and beside an exec.

use std::time::Duration;

use crate::helper::{LOCKED, with_bare_image};
use crate::support::{World, eventually};

#[d2k_suite::test]
fn a_paused_container_stands_still_until_it_goes_on() {
    let Some((world, bare)) = with_bare_image() else { return };
    for (name, options) in [("plain", ""), ("init", "--init"), ("locked", LOCKED)] {
        world.docker(format!("run -d --name {name} {options} {bare} tick")).success();
        eventually("it ticks", || world.docker(format!("logs {name}")).stdout.contains("tick"));
        world.docker(format!("pause {name}")).success();
        assert_eq!(world.field(name, ".State.Status"), "paused");
        assert_eq!(world.field(name, ".State.Paused"), "true");
        assert!(world.docker(format!("ps -a --filter name={name}")).success().contains("(Paused)"));
        world.docker(format!("pause {name}")).failure(1, &["already paused"]);
        world
            .docker(format!("exec {name} /program code 0"))
            .failure(1, &["is paused, unpause the container before exec"]);
        let ticks = || world.docker(format!("logs {name}")).stdout.lines().count();
        std::thread::sleep(Duration::from_millis(500));
        let before = ticks();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(ticks(), before, "{name}");
        world.docker(format!("unpause {name}")).success();
        assert_eq!(world.field(name, ".State.Status"), "running");
        eventually("it ticks again", || ticks() > before + 2);
        world.docker(format!("unpause {name}")).failure(1, &["is not paused"]);
    }
}

#[d2k_suite::test]
fn a_pause_leaves_alone_an_exec_that_is_on_its_way() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    for _ in 0..10 {
        let exec = world.docker_spawn("exec web true");
        world.docker("pause web").success();
        world.docker("unpause web").success();
        // It may have been refused, but it must end.
        exec.finish();
    }
    assert_eq!(world.docker("exec web echo hello").success(), "hello");
    world.docker("stop -t 1 web").success();
}

#[d2k_suite::test]
fn a_pause_survives_d2k_and_a_paused_container_can_be_stopped() {
    let Some((mut world, bare)) = with_bare_image() else { return };
    world.docker(format!("run -d --name web {bare} tick")).success();
    world.docker("pause web").success();
    world.kill_d2k();
    world.restart_d2k();
    assert_eq!(world.field("web", ".State.Status"), "paused");
    let ticks = || world.docker("logs web").stdout.lines().count();
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ticks(), before);
    world.docker("stop -t 1 web").success();
    assert_eq!(world.field("web", ".State.Status"), "exited");
}

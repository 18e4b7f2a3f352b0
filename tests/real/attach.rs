//! `docker attach`, and attaching before the start as `docker run` does it.

use serde_json::{Value, json};

use crate::support::{World, eventually, frames};

#[d2k_suite::test]
fn attach_shows_what_comes_and_passes_the_exit_code_on() {
    let Some(world) = World::new() else { return };
    let command = "busybox sh -c 'for i in $(seq 6); do echo tick $i; sleep 0.5; done; exit 4'";
    world.docker(format!("run -d --name web {command}")).success();
    let attach = world.docker_spawn("attach --no-stdin web");
    let output = attach.finish();
    assert!(output.stdout.contains("tick 6"), "{output}");
    assert_eq!(output.status, 4, "{output}");
}

#[d2k_suite::test]
fn attach_sends_input_to_a_container_that_reads_it() {
    let Some(world) = World::new() else { return };
    world.docker("run -d -i --name cat busybox cat").success();
    let mut attach = world.docker_spawn("attach cat");
    attach.write("hello\n");
    attach.wait_for("hello");
    attach.close_stdin();
    // The CLI goes on to wait for the container's end.
    attach.stop();
    // Its input was not opened for one client only: the next one is heard as well.
    let mut again = world.docker_spawn("attach cat");
    again.write("once more\n");
    again.wait_for("once more");
}

#[d2k_suite::test]
fn attach_to_a_terminal_can_be_left_by_its_keys_and_the_container_goes_on() {
    let Some(world) = World::new() else { return };
    world.docker("run -d -it --name shell busybox sh").success();
    let mut attach = world.docker_tty("attach shell");
    eventually("the shell answers", || {
        attach.write("echo sum-$((40 + 2))\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        attach.stdout().contains("sum-42")
    });
    attach.write(b"\x10");
    std::thread::sleep(std::time::Duration::from_millis(200));
    attach.write(b"\x11");
    // Over TCP the CLI only ends its input, and goes on to wait for the container's end.
    eventually("the daemon lets the client go", || world.log().contains("action=detach"));
    attach.stop();
    assert_eq!(world.field("shell", ".State.Status"), "running");
    let mut again = world.docker_tty("attach shell");
    eventually("the same shell answers again", || {
        again.write("echo again-$((1 + 1))\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        again.stdout().contains("again-2")
    });
}

#[d2k_suite::test]
fn two_clients_attached_both_see_the_output() {
    let Some(world) = World::new() else { return };
    let command = "busybox sh -c 'for i in $(seq 8); do echo tick $i; sleep 0.5; done'";
    world.docker(format!("run -d --name web {command}")).success();
    let (one, two) =
        (world.docker_spawn("attach --no-stdin web"), world.docker_spawn("attach --no-stdin web"));
    assert!(one.finish().stdout.contains("tick 8"));
    assert!(two.finish().stdout.contains("tick 8"));
}

#[d2k_suite::test]
fn attach_to_what_does_not_run_is_refused() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox true").success();
    world.docker("attach idle").failure(1, &["cannot attach to a stopped container"]);
    world.docker("attach nosuch").failure(1, &["No such container: nosuch"]);
}

#[d2k_suite::test]
fn attached_before_the_start_all_input_and_output_pass() {
    let Some(world) = World::new() else { return };
    let body = json!({
        "Image": "busybox", "Cmd": ["sort"], "OpenStdin": true, "StdinOnce": true,
        "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
    });
    world.post("/containers/create?name=sort", body);
    let mut attach = world.connect();
    attach.hijack("/v1.47/containers/sort/attach?stream=1&stdin=1&stdout=1&stderr=1", "");
    let head = attach.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.multiplexed-stream"), "{head}");
    assert!(head.contains("upgrade: tcp"), "{head}");
    attach.send("b\na\n").half_close();
    assert_eq!(world.post("/containers/sort/start", Value::Null).status, 204);
    let output: String = frames(&attach.rest()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(output, "a\nb\n");
}

#[d2k_suite::test]
fn the_output_is_whole_although_nobody_has_read_the_input() {
    let Some(world) = World::new() else { return };
    for _ in 0..4 {
        let run = world.docker_in("run -i --rm busybox sh -c 'echo hi; exit 9'", vec![b'x'; 3_000_000]);
        assert_eq!((run.status, run.stdout.as_str()), (9, "hi\n"), "{run}");
    }
}

#[d2k_suite::test]
fn an_old_client_gets_a_raw_stream_and_one_without_upgrade_a_plain_answer() {
    let Some(world) = World::new() else { return };
    world.docker("create --name one busybox echo hello").success();
    world.docker("create --name two busybox echo hello").success();
    let mut old = world.connect();
    old.hijack("/v1.41/containers/one/attach?stream=1&stdout=1", "");
    let head = old.head().to_lowercase();
    assert!(head.contains("content-type: application/vnd.docker.raw-stream"), "{head}");
    world.docker("start one").success();
    assert_eq!(frames(&old.rest()), [(1, "hello\n".to_owned())]);
    let mut plain = world.connect();
    plain.send(
        "POST /containers/two/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d2k\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let head = plain.head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    world.docker("start two").success();
    plain.read_until("hello");
}

#[d2k_suite::test]
fn the_log_can_be_had_with_the_attachment() {
    let Some(world) = World::new() else { return };
    world.docker("run --name done busybox echo hello").success();
    let mut attach = world.connect();
    attach.hijack("/containers/done/attach?logs=1&stdout=1&stderr=1", "");
    attach.head();
    assert_eq!(frames(&attach.rest()), [(1, "hello\n".to_owned())]);
}

#[d2k_suite::test]
fn a_client_that_leaves_does_not_stop_the_container() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'while :; do echo tick; sleep 0.1; done'").success();
    let attach = world.docker_spawn("attach --no-stdin web");
    attach.wait_for("tick");
    attach.stop();
    assert_eq!(world.field("web", ".State.Status"), "running");
}

#[d2k_suite::test]
fn a_websocket_carries_the_raw_stream() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'while :; do echo tick; sleep 0.1; done'").success();
    let mut socket = world.connect();
    socket.send(
        "GET /containers/web/attach/ws?stream=1&stdout=1&logs=0 HTTP/1.1\r\nHost: d2k\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = socket.head();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let bytes = socket.read_until("tick");
    // A binary frame without a mask, whose payload is the line itself.
    assert_eq!(bytes[0] & 0x0f, 2, "{bytes:?}");
}

#[d2k_suite::test]
fn detach_keys_end_the_connection_and_not_the_process() {
    let Some(world) = World::new() else { return };
    world.docker("run -dit --name web busybox cat").success();
    let leave = |path: &str, body: &str, keys: [&str; 2]| {
        let mut client = world.connect();
        client.hijack(path, body);
        assert!(client.head().starts_with("HTTP/1.1 101"), "{path}");
        client.send("hello\n");
        client.read_until("hello");
        // Not both at once, as nobody types them.
        for key in keys {
            client.send(key).is_silent_for(std::time::Duration::from_millis(100));
        }
        client.rest();
    };
    leave("/containers/web/attach?stream=1&stdin=1&stdout=1", "", ["\x10", "\x11"]);
    leave("/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x", "", ["\x01", "x"]);
    let exec = json!({
        "AttachStdin": true, "AttachStdout": true, "Tty": true, "Cmd": ["cat"], "DetachKeys": "a,b",
    });
    let exec = world.post("/containers/web/exec", exec).json();
    leave(&format!("/exec/{}/start", exec["Id"].as_str().unwrap()), r#"{"Tty": true}"#, ["a", "b"]);
    assert_eq!(world.field("web", ".State.Status"), "running");
    world.post("/containers/web/attach?detachKeys=ctrl-A", Value::Null).error(400);
}

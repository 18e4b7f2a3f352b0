"""Drives the projects of development and operation: settings, watch, the long form, monitoring, backup with sockets."""

import http.client
import os
import pathlib
import signal
import socket
import subprocess

from . import machine
from .engine import COMPOSE_ENVIRONMENT, until
from .suites import project


@project("configs-extends")
def _(place):
    ended = place.compose("up -d --wait")
    place.step("up", exit=ended.code, states=place.states(), warned=place.reasons(ended))
    place.mounts()
    look = "echo $LEVEL $FROM_FILE; cat /settings /etc/app/theme.ini /shared/note.txt; stat -c '%a %u:%g' /settings /etc/app/theme.ini"
    place.step("inside", files=place.inside("app", look), write=place.inside("app", "echo x > /etc/app/theme.ini; touch /shared/x"))
    (place.folder / "config/settings.json").write_text('{"answer": 43}\n')
    (place.folder / "common/shared/note.txt").write_text("shared-2\n")
    place.step("changed on the machine", files=place.inside("app", "cat /settings /shared/note.txt"))
    place.again()
    before = place.containers()
    (place.folder / "app.env").write_text("LEVEL=trace\nFROM_FILE=again\n")
    place.step("another environment", exit=place.compose("up -d --wait").code, made_again=before != place.containers())
    place.step("inside it", files=place.inside("app", look))
    place.down()


@project("watch")
def _(place):
    place.up()
    place.mounts()
    command = ["docker", "compose", "-p", place.project, "watch", "--no-up"]
    environment = {**os.environ, **COMPOSE_ENVIRONMENT, "DOCKER_HOST": place.engine.host}
    log = place.folder.parent / "watch.log"
    watching = subprocess.Popen(command, cwd=place.folder, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT)
    try:
        place.step("watching", enabled=bool(until(lambda: "Watch enabled" in log.read_text(), 30)))
        watch(place)
    finally:
        watching.send_signal(signal.SIGINT)
        try:
            place.step("ended", exit=watching.wait(timeout=20))
        except subprocess.TimeoutExpired:
            watching.kill()
            place.step("ended", exit="no end")
    place.down()


def watch(place):
    """Changes files on the machine and looks for them inside."""

    def arrives(text, path):
        return bool(until(lambda: text in place.inside("web", f"cat {path}"), 30))

    web = place.folder / "web"
    (web / "index.html").write_text("<h1>second</h1>\n")
    place.step("a changed file", arrives=arrives("second", "/www/index.html"))
    machine.write(web / "deep/er/new.html", "fresh\n", mode=0o640)
    place.step(
        "a new file in new folders",
        arrives=arrives("fresh", "/www/deep/er/new.html"),
        mode=place.inside("web", "stat -c %a /www/deep/er/new.html"),
    )
    machine.write(web / "drafts/secret.html", "draft\n")
    machine.write(web / "after.html", "later\n")
    place.step("an ignored folder", the_next_arrives=arrives("later", "/www/after.html"), drafts=place.inside("web", "ls /www/drafts"))
    (web / "deep/er/new.html").unlink()
    gone = until(lambda: "No such file" in place.inside("web", "cat /www/deep/er/new.html"), 30)
    place.step("a removed file", goes=bool(gone))
    before = place.started()
    (place.folder / "settings").write_text("settings-2\n")
    again = until(lambda: place.started() not in (before, {}) and place.states() == {"web": "running"}, 30)
    place.step("sync and restart", started_again=bool(again), same_container=list(before) == list(place.started()))
    place.step("after it", read_at_the_start=arrives("settings-2", "/started"), pages=place.inside("web", "ls /www"))


@project("dev-setup", needs_shared_root=True)
def _(place):
    place.up()
    place.mounts()
    look = "ls /app /app/node_modules; touch /app/node_modules/inside /app/tmp/x /made/x /theme/x; touch /rules/x /shared/x; ls -ld /made /shared"
    place.step("inside", seen=place.inside("app", look.replace("ls -ld", "stat -c '%a %u:%g %n'")))
    place.step("on the machine", machine=machine.tree(place.folder))
    (place.folder / "app/main.js").write_text("main 2\n")
    place.step("changed on the machine", main=place.inside("app", "cat main.js"))
    place.again()
    place.restart(modules=lambda: place.inside("app", "ls node_modules"))
    ended = place.compose("up -d --wait --force-recreate")
    place.step("made again", exit=ended.code, modules=place.inside("app", "ls node_modules"))
    replaced = [row["Name"] for row in place.engine.inspect(place.containers()["app"])["Mounts"] if row["Type"] == "volume"]
    ended = place.compose("up -d --wait -V --force-recreate")
    place.engine.docker("volume", "rm", *replaced)
    place.step("made again with new volumes", exit=ended.code, modules=place.inside("app", "ls node_modules"))
    ended = place.compose("--profile strict up -d strict")
    place.step("a source that must be there", exit=ended.code, says=place.reasons(ended), machine=machine.look(place.folder / "missing"))
    place.down()


@project("monitoring", needs_shared_root=True)
def _(place):
    place.up()
    place.mounts()
    note = place.folder / "note"
    note.write_text("note\n")
    path = f"/host{note}"
    place.step("inside", note=place.inside("exporter", f"cat {path}"), write=place.inside("exporter", f"echo x > {path}; touch /host/x"))
    below = "touch /host/dev/shm/d2k-x; echo 1 > /host/proc/sys/vm/drop_caches; test -e /host/sys/kernel/mm && echo sys; head -c 5 /host/proc/version"
    place.step("below other mounts", seen=place.inside("exporter", below))
    machine.mount("-t", "tmpfs", "later", machine.make(place.folder / "later"))
    (place.folder / "later/file").write_text("later\n")
    path = f"/host{place.folder}/later"
    place.step("a mount of the machine made later", seen=place.inside("exporter", f"cat {path}/file; touch {path}/x"))
    machine.unmount(place.folder / "later")
    place.step("the mount has gone", seen=place.inside("exporter", f"ls {path}"))
    same = place.inside("collector", "cat /etc/machine-name") == pathlib.Path("/etc/hostname").read_text().strip()
    place.step("the collector", settings=place.inside("collector", "cat /etc/collector.yaml"), name_of_the_machine=same)
    place.again()
    place.restart(note=lambda: place.inside("exporter", f"cat /host{note}"))
    place.down()


@project("backup")
def _(place):
    os.chown(place.folder / "backups", 1001, 1001)
    run = place.folder / "run"
    of_the_machine = machine.Listener(run / "machine.sock", socket.SOCK_STREAM, b"HTTP/1.0 200 OK\r\n\r\nof the machine\n")
    place.up()
    place.mounts()
    place.step(
        "the first start", table=place.inside("db", "cat /var/lib/db/table"), order=place.inside("db", "ls /docker-entrypoint-initdb.d")
    )
    ended = place.compose("run", "--rm", "-T", "backup")
    place.step("backup", exit=ended.code, machine=machine.tree(place.folder / "backups"))
    ended = place.compose("run", "--rm", "-T", "--user", "1002:1002", "backup")
    denied = "denied" in ended.err
    place.step("backup as another user", exit=ended.code, denied=denied, machine=machine.tree(place.folder / "backups"))
    place.step("socket of the container", machine=machine.look(run / "front.sock"), answer=over(run / "front.sock", "/"))
    place.step("socket of the machine", answer=over(run / "front.sock", "/machine"))
    of_the_machine.close()
    place.again()
    place.step(
        "killed", exit=place.compose("kill front").code, machine=machine.look(run / "front.sock"), answer=over(run / "front.sock", "/")
    )
    place.down()


def over(path, target):
    """What a server on a unix socket of the machine answers."""

    def ask():
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        try:
            connection.sock.connect(str(path))
            connection.request("GET", target)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {type(error).__name__}"
        finally:
            connection.close()

    answer = until(lambda: not (told := ask()).startswith("no answer") and told, 3)
    return answer or ask()
